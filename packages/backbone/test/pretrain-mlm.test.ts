/** @file The masked-language-model loss at every exit, the weights that sample exits, and the configuration's checks. */
import { createRng, type HostTensor } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { encoder } from "../src/bert.js";
import { createBertConfig } from "../src/config.js";
import { embeddingScale, scaleEmbeddings } from "../src/pretrain/embedding-scale.js";
import {
  feedMlm,
  initPretraining,
  type MlmInputs,
  mlmLoss,
  mlmLosses,
} from "../src/pretrain/mlm.js";
import type { MlmBatch } from "../src/pretrain/mlm-batch.js";
import { parsePretrainSettings, scheduleFactor } from "../src/pretrain/settings.js";

const config = createBertConfig({
  vocabSize: 30,
  hidden: 8,
  depth: 3,
  heads: 2,
  maxPositions: 16,
  initializerRange: 0.5,
});
const ctx = { config };

const batch: MlmBatch = {
  rows: 2,
  length: 6,
  ids: Int32Array.of(2, 9, 4, 11, 12, 3, 2, 20, 3, 4, 22, 3),
  types: Int32Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1),
  positions: Int32Array.of(2, 9, 10),
  targets: Int32Array.of(10, 21, 22),
  pairRows: Int32Array.of(1),
  pairTargets: Int32Array.of(2),
};
const plan = { depth: 3, exitsPerPlace: 2, pairWeight: 0.25, places: 3, pairs: 1 };

const toTensor = ({ data, shape, dtype }: HostTensor) => tf.tensor(data, [...shape], dtype);
const toTensors = <T extends Record<string, HostTensor>>(tree: T) =>
  Object.fromEntries(Object.entries(tree).map(([key, leaf]) => [key, toTensor(leaf)])) as {
    [K in keyof T]: tf.Tensor;
  };
const inputsOf = (feed: ReturnType<typeof feedMlm>) => toTensors(feed) as unknown as MlmInputs;

describe("scaleEmbeddings", () => {
  it("changes no loss, and is taken back by its inverse", () => {
    const params = initPretraining(config, 1);
    const scale = embeddingScale(params, { ...config, initializerRange: 0.02 });
    expect(scale).toBeGreaterThan(0.03);
    expect(scale).toBeLessThan(0.05);
    const scaled = scaleEmbeddings(params, scale);
    const inputs = inputsOf(feedMlm(batch, plan, () => 0));
    const before = mlmLosses(toTensors(params), inputs, ctx);
    const after = mlmLosses(toTensors(scaled), inputs, ctx);
    expect(after.tokens.dataSync()).toBeAllclose(before.tokens.dataSync(), { rtol: 1e-4 });
    expect(after.pairs.dataSync()).toBeAllclose(before.pairs.dataSync(), { rtol: 1e-4 });
    for (const [path, { data }] of Object.entries(scaleEmbeddings(scaled, 1 / scale)))
      expect(data, path).toBeAllclose(params[path]?.data as Float32Array, { rtol: 1e-6 });
  });

  it("leaves a model alone whose LayerNorm would notice", () => {
    const params = initPretraining(config, 1);
    const noticing = { ...config, initializerRange: 0.02, layerNormEps: 1e-5 };
    expect(embeddingScale(params, noticing)).toBe(1);
    expect(embeddingScale(scaleEmbeddings(params, 0), config)).toBe(1);
  });
});

describe("mlmLosses", () => {
  it("scores a place at an exit with the shared head on that exit's hidden state", () => {
    const params = toTensors(initPretraining(config, 1));
    const feed = feedMlm(batch, plan, () => 0);
    const inputs = inputsOf(feed);
    const { tokens, pairs } = mlmLosses(params, inputs, ctx);
    const losses = tokens.dataSync();
    const layers = encoder(params, inputs, ctx).map((hidden) => hidden.arraySync());
    const word = params["backbone.embeddings.word_embeddings.weight"]?.arraySync() as number[][];
    const dense = params["mlm.transform.dense.weight"]?.arraySync() as number[][];
    const dot = (a: readonly number[], b: readonly number[]) =>
      a.reduce((total, x, at) => total + x * (b[at] as number), 0);
    (feed.scored.data as Int32Array).forEach((scored, index) => {
      const place = Math.floor(scored / 3);
      const state = layers[scored % 3]?.[Math.floor(place / 6)]?.[place % 6] as number[];
      const inner = dense.map((row) => {
        const x = dot(row, state);
        return (x * (1 + tf.erf(x / Math.SQRT2).dataSync()[0]!)) / 2;
      });
      const mean = inner.reduce((a, b) => a + b) / 8;
      const deviation = Math.sqrt(inner.reduce((a, b) => a + (b - mean) ** 2, 0) / 8);
      const normal = inner.map((x) => (x - mean) / deviation);
      const logits = word.map((row) => dot(row, normal));
      const total = Math.log(logits.reduce((a, b) => a + Math.exp(b), 0));
      const target = batch.targets[batch.positions.indexOf(place)] as number;
      expect(losses[index]).toBeCloseTo(total - (logits[target] as number), 3);
    });
    expect(losses).toHaveLength(9);
    expect(pairs.dataSync()).toHaveLength(3);
  });

  it("is differentiable in every parameter", () => {
    const params = toTensors(initPretraining(config, 1)) as Record<string, tf.Tensor>;
    const inputs = inputsOf(feedMlm(batch, plan, () => 0));
    const names = Object.keys(params);
    const gradients = tf.grads((...values: tf.Tensor[]) =>
      mlmLoss(
        Object.fromEntries(names.map((name, at) => [name, values[at] as tf.Tensor])),
        inputs,
        ctx,
      ),
    )(names.map((name) => params[name] as tf.Tensor));
    for (const [at, gradient] of gradients.entries()) {
      const largest = Math.max(...gradient.dataSync().map(Math.abs));
      // Softmax does not see what is added to all scores of a query.
      const reached = !(names[at] as string).endsWith("self.key.bias");
      expect(Number.isFinite(largest), names[at]).toBe(true);
      if (reached) expect(largest, names[at]).toBeGreaterThan(1e-9);
    }
  });
});

describe("feedMlm", () => {
  const weightsByLayer = (feed: ReturnType<typeof feedMlm>) => {
    const sums = [0, 0, 0];
    (feed.scored.data as Int32Array).forEach((scored, index) => {
      sums[scored % 3] = (sums[scored % 3] as number) + (feed.weights.data[index] as number);
    });
    return sums;
  };

  it("gives every exit the same weight, sampled or not, and both losses a sum of 1", () => {
    const all = feedMlm(batch, plan, () => 0);
    expect(weightsByLayer(all)).toBeAllclose([0.25, 0.25, 0.25], { rtol: 1e-6 });
    expect(Array.from(all.pairWeights.data).reduce((a, b) => a + b)).toBeCloseTo(0.25, 6);
    const rng = createRng(5);
    const sums = [0, 0, 0];
    for (let repeat = 0; repeat < 2000; repeat += 1) {
      const feed = feedMlm(batch, { ...plan, exitsPerPlace: 1 }, (below) => rng.int(below));
      expect(feed.scored.data).toHaveLength(6);
      for (const [at, weight] of weightsByLayer(feed).entries())
        sums[at] = (sums[at] as number) + weight / 2000;
    }
    // Four standard deviations of the mean of 6000 draws.
    expect(sums).toBeAllclose([0.25, 0.25, 0.25], { atol: 0.007 });
  });

  it("scores only the last exit when asked to", () => {
    const feed = feedMlm(batch, { ...plan, exitsPerPlace: 0 }, () => 0);
    expect(weightsByLayer(feed)).toBeAllclose([0, 0, 0.75], { rtol: 1e-6 });
    expect([...feed.pairScored.data]).toEqual([1 * 6 * 3 + 2]);
  });

  it("feeds one weightless pair where a batch has none", () => {
    const feed = feedMlm(
      { ...batch, pairRows: new Int32Array(0), pairTargets: new Int32Array(0) },
      // Other micro-batches of the step have pairs.
      { ...plan, pairs: 5 },
      () => 0,
    );
    expect([...feed.pairWeights.data]).toEqual([0]);
  });
});

describe("parsePretrainSettings", () => {
  const model = {
    vocab_size: 100,
    hidden_size: 8,
    num_hidden_layers: 3,
    num_attention_heads: 2,
    max_position_embeddings: 32,
  };
  const valid = { model, batchTokens: 64, steps: 100, learningRate: 1e-3, lengths: [16, 32] };
  const parse = (json: unknown) => parsePretrainSettings(json, "run.json");

  it("fills in what is not said", () => {
    expect(parse(valid)).toMatchObject({ microTokens: 64, exitsPerPlace: 2, warmupSteps: 1 });
  });

  it.each([
    [
      "heads that do not divide the width",
      { ...valid, model: { ...model, num_attention_heads: 3 } },
    ],
    ["a sequence longer than the positions", { ...valid, lengths: [64] }],
    ["a batch smaller than a row", { ...valid, batchTokens: 20 }],
    ["a field that is not known", { ...valid, learning_rate: 1 }],
    ["a missing learning rate", { ...valid, learningRate: undefined }],
    ["steps that are not whole", { ...valid, steps: 1.5 }],
    ["an unknown schedule", { ...valid, schedule: "step" }],
    ["an unknown growth", { ...valid, growth: "split" }],
    ["an unknown pair task", { ...valid, pairTask: "next" }],
    ["a mix of more than a half", { ...valid, pairMix: 0.6 }],
    ["a list", []],
  ])("refuses %s", (_, json) => {
    expect(() => parse(json)).toThrow(expect.objectContaining({ code: "BAD_CONFIG" }));
  });

  it("warms up and falls by each schedule", () => {
    for (const schedule of ["linear", "cosine", "trapezoid"] as const) {
      const settings = parse({ ...valid, schedule, warmupSteps: 9 });
      const factors = Array.from({ length: 101 }, (_, step) => scheduleFactor(settings, step));
      expect(factors[0]).toBeCloseTo(0.1, 9);
      expect(factors[9]).toBe(1);
      expect(factors[100]).toBeCloseTo(0, 9);
      for (let step = 10; step <= 100; step += 1) {
        expect(factors[step]).toBeLessThanOrEqual(factors[step - 1] as number);
      }
      if (schedule === "trapezoid") expect(factors[80]).toBe(1);
    }
  });
});

/** @file TR-BERT: its cost, its policy gradient, what its phases train, and a pass in which dropped tokens are gone. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ModelPlan, type TokenBatch, toBatch } from "@cee/backbone";
import { tinyBert, toTensors } from "@cee/backbone/testing";
import { createRng, type HostParams, initNormal } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import {
  blockMacs,
  droppedTokenMacs,
  fullMacs,
  guideLayer,
  loadTrBert,
  openTrBert,
  reinforce,
  saveTrBert,
  selectorLayers,
  trBertOptions,
  trBertParams,
  trBertPlan,
} from "../src/index.js";
import { keepBest } from "../src/tr-bert/training.js";
import { denseEncoder } from "./dense-encoder.js";
import { inventRows, movable, openEngine, trainModelPlan, withoutKeyBias } from "./support.js";

const engine = await openEngine();

const short = { epochs: 1, batchSize: 4, learningRate: 0.01, warmup: 0 };
const DEPTH = 4;

/** Selectors with weights large enough that they disagree about tokens. */
function decidedSelectors(model: ModelPlan): HostParams {
  return Object.fromEntries(
    Object.entries(trBertParams(model, { width: 8 }, 1)).map(([path, tensor]) => [
      path,
      path.endsWith("weight") ? initNormal(tensor.shape, 1, createRng(path)) : tensor,
    ]),
  );
}

describe("the cost model", () => {
  it("gives the published numbers", () => {
    const size = { hidden: 768 };
    expect(blockMacs(128, 128, size)).toBe(931135488);
    const present = [128, ...Array<number>(5).fill(64), ...Array<number>(6).fill(20)];
    expect(droppedTokenMacs(present, size) / fullMacs(128, 12, size)).toBeCloseTo(0.3652, 4);
  });

  it("has selectors after the first and the middle layer, and the guide at three quarters", () => {
    expect(selectorLayers(12)).toEqual([1, 6]);
    expect([guideLayer(12), guideLayer(6)]).toEqual([9, 5]);
  });
});

describe("the policy gradient", () => {
  it("weighs what was done by the reward above the copies' mean", () => {
    const losses = [1, 2, 3, 0]; // Copies of rows a, b: [a1, b1, a2, b2]
    const one = [1, 0.5, 0.5, 1];
    const two = [0.5, 0.5, 0.25, 1];
    const surprise = [0.1, 0.2, 0.3, 0.4];
    const alpha = 2;
    const rewards = losses.map(
      (loss, at) => -loss - alpha * 0.5 * ((one[at] as number) + (two[at] as number)),
    );
    const mean = [0, 1].map((row) => ((rewards[row] as number) + (rewards[row + 2] as number)) / 2);
    const expected =
      rewards.reduce(
        (sum, reward, at) => sum + (reward - (mean[at % 2] as number)) * (surprise[at] as number),
        0,
      ) / 4;
    const value = reinforce(
      tf.tensor1d(losses),
      { kept: [tf.tensor1d(one), tf.tensor1d(two)], surprise: tf.tensor1d(surprise) },
      { alpha, copies: 2 },
      tf.scalar(1 / 2),
    );
    expect(value.dataSync()[0]).toBeCloseTo(expected, 5);
  });

  it("imitates by keeping as many of the best tokens as the probabilities add up to", () => {
    const keep = keepBest(
      tf.tensor2d([[5, 1, 9, 3, 100]]),
      tf.tensor2d([[1, 1, 1, 1, 0]]),
      tf.tensor2d([[0.9, 0.4, 0.5, 0.4, 0.9]]), // 2.2 among the present
    );
    expect([...keep.dataSync()]).toEqual([1, 0, 1, 0, 0]);
  });
});

const rows = inventRows().map((row, index) => ({
  ...row,
  ids: Int32Array.from(row.ids, (id) => id % 20).slice(0, 2 + (index % 6)),
  types: row.types.slice(0, 2 + (index % 6)),
}));

describe("the forward pass", () => {
  const model = tinyBert({ depth: DEPTH, hidden: 8, dropout: 0 });
  const params = { ...model.params, ...decidedSelectors(model) };

  it("gives what a dense pass gives in which nobody sees the dropped tokens", async () => {
    const opened = openTrBert(engine, model, params);
    const batch = toBatch(rows, { multiple: 8 });
    const { logits, active } = await opened.classify(batch);
    const expected = dense(model, params, batch);
    expect(logits.length).toBe(expected.logits.length);
    logits.forEach((value, index) => {
      expect(value).toBeCloseTo(expected.logits[index] as number, 4);
    });
    const counted = rows.flatMap((_, row) =>
      [1, 2, 3, 4].map((layer) =>
        (expected.keys[layer] as Float32Array)
          .subarray(row * batch.length, (row + 1) * batch.length)
          .reduce((sum, value) => sum + value, 0),
      ),
    );
    expect([...active]).toEqual(counted);
    // Something is dropped, and not everything.
    const behind = rows.map((_, row) => active[4 * row + 3] as number);
    expect(behind.some((count, row) => count < (rows[row]?.ids.length as number))).toBe(true);
    expect(behind.some((count) => count > 1)).toBe(true);
    await opened.dispose();
  });

  it("gives each row what it gets alone", async () => {
    const opened = openTrBert(engine, model, params);
    const together = await opened.classify(toBatch(rows, { multiple: 8 }));
    for (const [row, own] of rows.entries()) {
      const alone = await opened.classify(toBatch([own]));
      expect([...together.active.slice(4 * row, 4 * row + 4)]).toEqual([...alone.active]);
      expect(together.macs[row]).toBe(alone.macs[0]);
      for (const at of [0, 1])
        expect(together.logits[2 * row + at]).toBeCloseTo(alone.logits[at] as number, 5);
    }
    await opened.dispose();
  });

  it("refuses what it can't run", () => {
    const regression = tinyBert({ depth: DEPTH, regression: true });
    expect(() => openTrBert(engine, regression, regression.params)).toThrow(
      /can't do regression: .*a number has none/,
    );
    const flat = tinyBert({ depth: 3 });
    expect(() => openTrBert(engine, flat, flat.params)).toThrow(/at least 4 layers .*got 3/);
  });
});

/** Logits, and who may be attended to at each layer: written without the code under test. */
function dense(model: ModelPlan, params: HostParams, batch: TokenBatch) {
  const tensors = toTensors(params);
  const keys: Float32Array[] = [batch.mask, batch.mask, batch.mask, batch.mask, batch.mask];
  const selected = (selector: number, hidden: tf.Tensor, before: Float32Array) => {
    const get = (name: string) => tensors[`strategy.selector${selector}.${name}`] as tf.Tensor2D;
    const flat = tf.reshape(hidden, [-1, model.shape.hidden]) as tf.Tensor2D;
    const inner = tf.add(tf.matMul(flat, get("inner.weight"), false, true), get("inner.bias"));
    const active = tf.mul(tf.mul(inner, 0.5), tf.add(tf.erf(tf.div(inner, Math.SQRT2)), 1));
    const score = tf.add(
      tf.matMul(active as tf.Tensor2D, get("output.weight"), false, true),
      get("output.bias"),
    );
    const values = score.dataSync();
    // A sigmoid of at least one half is a score of at least zero.
    return before.map((isKey, at) =>
      at % batch.length === 0 ? isKey : isKey * Number((values[at] as number) >= 0),
    );
  };
  const logits = denseEncoder(
    model,
    tensors,
    batch,
    (layer, _, after) => {
      const next =
        layer === 1
          ? selected(1, after, keys[1] as Float32Array)
          : layer === 2
            ? selected(2, after, keys[2] as Float32Array)
            : (keys[layer] as Float32Array);
      for (let later = layer + 1; later <= DEPTH; later += 1) keys[later] = next;
      return after;
    },
    DEPTH,
    (layer) => keys[layer] as Float32Array,
  );
  return { logits, keys };
}

describe("training", () => {
  const settings = trBertOptions({
    copies: 2,
    width: 8,
    initialised: true,
    policy: short,
    joint: short,
  });
  const fitPlan = (input: Parameters<typeof trBertOptions>[0], phases?: number) => {
    const options = trBertOptions({ ...settings, ...input });
    const own = trBertParams(
      { shape: { task: "classification", depth: DEPTH, hidden: 16, classes: 2 } },
      options,
      7,
    );
    return trainModelPlan(engine, (model) => trBertPlan(model, options), {
      depth: DEPTH,
      own,
      ...(phases === undefined ? {} : { phases }),
    });
  };

  it("has the published schedule", () => {
    const published = trBertOptions();
    expect(published).toMatchObject({
      copies: 8,
      width: 32,
      guideRate: 0.5,
      fineTune: { epochs: 5, batchSize: 32, learningRate: 3e-5 },
      policy: { epochs: 3, learningRate: 3e-5, warmup: 0.1 },
    });
  });

  it("moves the selectors alone first, then the encoder and the last classifier too", async () => {
    const policy = await fitPlan({}, 1);
    expect(policy.changed).toEqual(movable(policy.before, "strategy."));
    const both = await fitPlan({});
    const parts = ["backbone.", "heads.4.", "strategy."];
    expect(withoutKeyBias(both.changed)).toEqual(movable(both.before, ...parts));
    expect(both.trained.heads).toEqual([4]);
  });

  it("fine-tunes the teacher without the selectors when nobody has", async () => {
    const first = await fitPlan({ initialised: false, fineTune: short }, 1);
    expect(withoutKeyBias(first.changed)).toEqual(movable(first.before, "backbone.", "heads.4."));
  });

  it("follows the guide where it is told to", async () => {
    const [led, free] = [await fitPlan({ guideRate: 1 }, 1), await fitPlan({ guideRate: 0 }, 1)];
    const path = "strategy.selector1.output.weight";
    expect(led.params[path]?.data).not.toEqual(free.params[path]?.data);
  });

  it("keeps fewer tokens at a higher price, and answers alike after loading", async () => {
    const folder = await mkdtemp(join(tmpdir(), "cee-tr-bert-"));
    try {
      const policy = { ...short, epochs: 25, learningRate: 0.05 };
      const batch = toBatch(inventRows());
      const kept: number[] = [];
      const spent: number[] = [];
      for (const alpha of [-1, 20]) {
        // Below zero, dropping costs: the other end of the knob.
        const input = { ...settings, guideRate: 0, policy };
        const options = { ...trBertOptions(input), alpha };
        const result = await trainModelPlan(engine, (model) => trBertPlan(model, options), {
          depth: DEPTH,
          own: trBertParams(
            { shape: { task: "classification", depth: DEPTH, hidden: 16, classes: 2 } },
            options,
            7,
          ),
          phases: 1,
        });
        const opened = openTrBert(engine, result.model, result.params);
        const outcome = await opened.classify(batch);
        await opened.dispose();
        kept.push(outcome.active.reduce((sum, count) => sum + count, 0));
        spent.push(outcome.macs.reduce((sum, value) => sum + value, 0));
        if (alpha < 0) continue;
        const encoder = { ...result.model, params: result.params, trainedHeads: [4] };
        await saveTrBert(folder, { encoder, options });
        const loaded = await loadTrBert(folder);
        expect(loaded.options).toEqual(options);
        const again = openTrBert(engine, loaded.encoder, loaded.encoder.params);
        const repeated = await again.classify(batch);
        await again.dispose();
        expect(repeated.logits).toEqual(outcome.logits);
        expect(repeated.active).toEqual(outcome.active);
      }
      expect(kept[1]).toBeLessThan(kept[0] as number);
      expect(spent[1]).toBeLessThan(spent[0] as number);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

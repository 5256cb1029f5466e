/** @file The decoder against numbers from an independent implementation (scripts/golden_llama.py), and against itself. */
import {
  createEngine,
  type Engine,
  type HostTensor,
  type HostTree,
  type TensorSpec,
} from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { emptyLlamaCache, type LlamaInputs, llama, llamaParameters } from "../src/llama.js";
import { toTensors } from "../src/testing.js";
import { golden, goldenModel, stepInputs } from "./helpers/llama.js";

const close = { rtol: 1e-4, atol: 1e-4 };
const V = golden.config.vocab_size as number;
const texts = golden.cases.flatMap(({ tied, texts }) => texts.map((text) => ({ ...text, tied })));

function inputsOf(...args: Parameters<typeof stepInputs>): LlamaInputs {
  return toTensors(stepInputs(...args)) as unknown as LlamaInputs;
}

beforeEach(async () => {
  await tf.setBackend("cpu");
  tf.engine().startScope();
});
afterEach(() => tf.engine().endScope());

describe("LLaMA against PyTorch", () => {
  it.each(texts)("gives states and logits of a text of $ids.length tokens, tied: $tied", (text) => {
    const { config, params } = goldenModel(text.tied);
    const run = llama(
      toTensors(params),
      inputsOf([text.ids], 0),
      emptyLlamaCache(1, config),
      config,
    );
    expect(run.states.map(({ shape }) => shape)).toEqual([
      [1, text.ids.length, 24],
      [1, text.ids.length, 24],
    ]);
    expect(run.states.at(-1)?.dataSync()).toBeAllclose(text.hidden, close);
    expect(run.logits.dataSync()).toBeAllclose(text.logits, close);
  });

  it("gives a left-padded row of a batch the logits of its text alone", () => {
    const { config, params } = goldenModel(false);
    const [long, short] = (golden.cases[0] as (typeof golden.cases)[number]).texts;
    if (!long || !short) throw new Error("the golden file lacks a text");
    const pad = long.ids.length - short.ids.length;
    const rows = [long.ids, [...new Array<number>(pad).fill(3), ...short.ids]];
    const inputs = inputsOf(rows, 0, [0, pad]);
    const run = llama(toTensors(params), inputs, emptyLlamaCache(2, config), config);
    const all = run.logits.dataSync();
    expect(all.every(Number.isFinite)).toBe(true);
    expect(all.slice(0, long.logits.length)).toBeAllclose(long.logits, close);
    expect(all.slice((long.ids.length + pad) * V)).toBeAllclose(short.logits, close);
  });

  it("has the parameters of the checkpoint and no others", () => {
    for (const tied of [false, true]) {
      const { config, params } = goldenModel(tied);
      const shapes = Object.entries(params).map(([path, { shape }]) => [path, shape] as const);
      expect(new Map(llamaParameters(config))).toEqual(new Map(shapes));
    }
  });
});

describe("the key/value cache", () => {
  it.each([[1], [4]])("decodes %i token(s) at a time as without it", (step) => {
    const { config, params } = goldenModel(true);
    const text = texts.at(-1) as (typeof texts)[number];
    const tensors = toTensors(params);
    let caches = emptyLlamaCache(1, config);
    const logits: number[] = [];
    for (let past = 0; past < text.ids.length; past += step) {
      const run = llama(
        tensors,
        inputsOf([text.ids.slice(past, past + step)], past),
        caches,
        config,
      );
      logits.push(...run.logits.dataSync());
      caches = run.caches;
    }
    expect(caches.map(({ keys }) => keys.shape)).toEqual([
      [1, 2, 12, 6],
      [1, 2, 12, 6],
    ]);
    expect(logits).toBeAllclose(text.logits, close);
  });

  it("must have an entry for every block", () => {
    const { config, params } = goldenModel(true);
    const caches = emptyLlamaCache(1, config).slice(1);
    expect(() => llama(toTensors(params), inputsOf([[1]], 0), caches, config)).toThrow(/2 blocks/);
  });

  it("names the parameter that is missing", () => {
    const { config, params } = goldenModel(true);
    const { "backbone.layers.1.mlp.up_proj.weight": _, ...rest } = toTensors(params);
    const caches = emptyLlamaCache(1, config);
    expect(() => llama(rest, inputsOf([[1]], 0), caches, config)).toThrow(
      /layers\.1\.mlp\.up_proj/,
    );
  });
});

describe("gradients", () => {
  it.each([
    "backbone.embed_tokens.weight",
    "backbone.layers.0.self_attn.k_proj.weight",
    "backbone.layers.0.input_layernorm.weight",
    "backbone.layers.1.mlp.gate_proj.weight",
  ])("of %s are what finite differences give", (path) => {
    const { config, params } = goldenModel(true);
    const tensors = toTensors(params);
    const inputs = inputsOf([[5, 9, 2, 7]], 0);
    const loss = (x: tf.Tensor): tf.Scalar => {
      const all = { ...tensors, [path]: x };
      const { logits } = llama(all, inputs, emptyLlamaCache(1, config), config);
      return tf.mean(tf.square(logits)) as tf.Scalar;
    };
    const value = tensors[path] as tf.Tensor;
    const gradient = Float32Array.from(tf.grad(loss)(value).dataSync());
    // The largest entry has the best ratio to float32's noise.
    const at = gradient.reduce(
      (best, one, index) => (Math.abs(one) > Math.abs(gradient[best] as number) ? index : best),
      0,
    );
    const moved = (by: number) => {
      const copy = Float32Array.from(value.dataSync());
      copy[at] = (copy[at] as number) + by;
      return loss(tf.tensor(copy, value.shape)).dataSync()[0] as number;
    };
    const slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
    expect([gradient[at] as number]).toBeAllclose([slope], { rtol: 1e-2, atol: 1e-3 });
  });
});

describe("compiled", () => {
  let compiled: Engine;
  let eager: Engine;
  beforeAll(async () => {
    compiled = await createEngine({ runtime: "onnxruntime-node", threads: 1 });
    eager = await createEngine({ runtime: "eager", backend: "cpu" });
  });
  afterAll(async () => {
    await compiled.dispose();
    await eager.dispose();
  });

  it.each([false, true])(
    "agrees with eager at sizes it was not traced at, tied: %s",
    async (tied) => {
      const { config, params } = goldenModel(tied);
      const entry: TensorSpec = {
        dtype: "float32",
        shape: ["batch", config.kvHeads, "past", config.headSize],
      };
      const programs = [compiled, eager].map((engine) =>
        engine.compile(
          ({ params, inputs, caches }) => {
            const run = llama(params, inputs, caches, config);
            return { logits: run.logits, caches: run.caches.map((cache) => ({ ...cache })) };
          },
          {
            name: "llama",
            inputs: {
              inputs: {
                ids: { dtype: "int32", shape: ["batch", "length"] },
                positions: { dtype: "int32", shape: ["batch", "length"] },
                mask: { dtype: "float32", shape: ["batch", "length", "past+length"] },
              },
              caches: Array.from({ length: config.depth }, () => ({ keys: entry, values: entry })),
            },
            constants: { params },
          },
        ),
      );
      const rows = [
        [4, 8, 15, 16, 23, 2, 9],
        [3, 3, 1, 7, 6, 5, 11],
      ];
      const padding = [0, 2];
      type Out = { logits: HostTensor; caches: { keys: HostTensor; values: HostTensor }[] };
      const outputs: number[][] = [];
      for (const program of programs) {
        const empty = (): HostTensor => ({
          dtype: "float32",
          shape: [2, config.kvHeads, 0, config.headSize],
          data: new Float32Array(0),
        });
        let caches: Out["caches"] = Array.from({ length: config.depth }, () => ({
          keys: empty(),
          values: empty(),
        }));
        const logits: number[] = [];
        // A prompt, one token, and two at once.
        for (const [past, length] of [
          [0, 4],
          [4, 1],
          [5, 2],
        ] as const) {
          const part = rows.map((row) => row.slice(past, past + length));
          const out = await program.run<Out & HostTree>({
            inputs: stepInputs(part, past, padding),
            caches,
          });
          expect(out.logits.shape).toEqual([2, length, V]);
          expect(out.caches.map(({ keys }) => keys.shape[2])).toEqual([
            past + length,
            past + length,
          ]);
          logits.push(...out.logits.data);
          caches = out.caches;
        }
        outputs.push(logits);
      }
      expect(outputs).toHaveLength(2);
      expect(outputs[0]).toBeAllclose(outputs[1] as number[], { rtol: 1e-5, atol: 1e-5 });
    },
  );
});

/** @file Training decoders: rows are the tokens to learn, adapters add to what is frozen, records agree with decoding. */
import { join } from "node:path";
import { createEngine, type Engine, softmaxCrossEntropy } from "@cee/engine";
import type { ExitRecord, PhasePlan, TrainingPhase, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CausalDecoder, createCausalDecoder, withOwnHeads } from "../src/decoder/decoder.js";
import type { DecoderText } from "../src/decoder/train/decoder-subject.js";
import { type FitDecoderOptions, fitDecoder } from "../src/decoder/train/fit-decoder.js";
import { cutPrompt, instructionPrompt, supervisedText } from "../src/decoder/train/supervised.js";
import { emptyLlamaCache, llama } from "../src/llama.js";
import { createLlamaConfig } from "../src/llama-config.js";
import { toTensors } from "../src/testing.js";
import { stepInputs } from "./helpers/llama.js";
import { scratchFolder } from "./helpers/scratch.js";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 1 });
}, 60_000);
afterAll(() => engine.dispose());

const decoder = createCausalDecoder({
  config: createLlamaConfig({
    vocabSize: 12,
    hidden: 8,
    depth: 3,
    heads: 2,
    kvHeads: 1,
    intermediate: 12,
    maxPositions: 24,
    initializerRange: 0.4,
    eosTokenIds: [0],
    bosTokenId: 1,
  }),
  seed: 11,
});

/** Texts of several lengths that count upwards behind their prompt. */
const texts: readonly DecoderText[] = [5, 9, 7, 12].map((length, row) => ({
  id: `text-${row}`,
  ids: Int32Array.from({ length }, (_, at) => 2 + ((row + at) % 10)),
  from: 2 + row,
}));
const rows = texts.reduce((sum, { ids, from }) => sum + ids.length - from, 0);

function wce({ exits, labels, perRow, shape }: TrainingStep): tf.Scalar {
  const losses = exits.map(({ logits }, index) =>
    tf.mul(tf.sum(softmaxCrossEntropy(logits, labels)), (index + 1) / shape.depth),
  );
  return tf.mul(
    losses.reduce((a, b) => tf.add(a, b)),
    perRow,
  ) as tf.Scalar;
}

const phase = (trains: readonly string[], more: Partial<TrainingPhase> = {}): TrainingPhase => ({
  name: "wce",
  trains,
  epochs: 6,
  batchSize: 2,
  learningRate: 0.02,
  losses: { wce },
  ...more,
});

function* only(one: TrainingPhase): PhasePlan {
  yield one;
}

/** Fits, and gives the record of the same texts that the phase ends with. */
async function fitAndRecord(
  one: TrainingPhase,
  model: CausalDecoder = decoder,
  more: Partial<FitDecoderOptions> = {},
) {
  let record: ExitRecord | undefined;
  const measure = (found: ExitRecord) => {
    record = found;
    return {};
  };
  const fitted = await fitDecoder({
    engine,
    decoder: model,
    plan: () => only({ ...one, measure }),
    train: texts,
    dev: texts,
    seed: 3,
    ...more,
  });
  return { fitted, record: record as ExitRecord };
}

const still = phase(["backbone.**"], { learningRate: 0, epochs: 1 });

describe("a decoder's record", () => {
  it("has every token behind the prompts, with the loss that the full pass gives it", async () => {
    const { record } = await fitAndRecord(still);
    expect(record.ids).toHaveLength(rows);
    expect(record.labels).toHaveLength(rows);
    const params = toTensors(decoder.params);
    let row = 0;
    for (const { id, ids, from } of texts) {
      const { config } = decoder;
      const states = tf.tidy(() => {
        const host = stepInputs([[...ids]], 0);
        const inputs = {
          ids: tf.tensor2d(host.ids.data as Int32Array, [1, ids.length], "int32"),
          positions: tf.tensor2d(host.positions.data as Int32Array, [1, ids.length], "int32"),
          mask: tf.tensor3d(host.mask.data as Float32Array, [1, ids.length, ids.length]),
        };
        return [...llama(params, inputs, emptyLlamaCache(1, config), config).states];
      });
      for (let token = from; token < ids.length; token += 1, row += 1) {
        expect(record.ids[row]).toBe(`${id}:${token}`);
        expect(record.labels[row]).toBe(ids[token]);
        for (let layer = 0; layer < 3; layer += 1) {
          const logProbs = tf.tidy(() => {
            const state = tf.slice(states[layer] as tf.Tensor3D, [0, token - 1, 0], [1, 1, -1]);
            const scale = tf.rsqrt(tf.add(tf.mean(tf.square(state), -1, true), config.rmsNormEps));
            const normed = tf.mul(
              tf.mul(state, scale),
              params["backbone.norm.weight"] as tf.Tensor,
            );
            const logits = tf.matMul(
              tf.reshape(normed, [1, 8]) as tf.Tensor2D,
              params["backbone.lm_head.weight"] as tf.Tensor2D,
              false,
              true,
            );
            return tf.logSoftmax(logits).dataSync() as Float32Array;
          });
          const cell = row * 3 + layer;
          expect(record.tokens?.losses[cell]).toBeCloseTo(
            -(logProbs[ids[token] as number] as number),
            4,
          );
          expect(record.tokens?.answers[cell]).toBe(logProbs.indexOf(Math.max(...logProbs)));
        }
      }
    }
    expect(row).toBe(rows);
  });
});

describe("fitDecoder", () => {
  it("learns texts, with a head per layer or a shared one, and says which exits are trained", async () => {
    const lossOf = ({ tokens }: ExitRecord) =>
      Array.from(tokens?.losses ?? []).reduce((sum, loss) => sum + loss, 0) / (rows * 3);
    const before = lossOf((await fitAndRecord(still)).record);
    const shared = await fitAndRecord(phase(["backbone.**"]));
    const own = await fitAndRecord(
      phase(["backbone.**", "heads.**"]),
      withOwnHeads({ ...decoder, trainedHeads: [] }),
    );
    for (const { fitted, record } of [shared, own]) {
      expect(lossOf(record)).toBeLessThan(before / 2);
      expect(fitted.decoder.trainedHeads).toEqual([1, 2, 3]);
    }
  });

  it("counts no padding: a batch and its texts one by one take the same step", async () => {
    const one = phase(["backbone.**"], { epochs: 1, batchSize: 4 });
    const [whole, pieces] = [
      await fitAndRecord(one),
      await fitAndRecord(one, decoder, { microBatch: 1 }),
    ];
    for (const [path, { data }] of Object.entries(whole.fitted.decoder.params))
      expect(pieces.fitted.decoder.params[path]?.data).toBeAllclose(Array.from(data), {
        atol: 1e-4,
        rtol: 0,
      });
  });

  it("merges adapters into what was frozen: the same losses without them", async () => {
    const lora = { rank: 2, alpha: 4, dropout: 0.1 };
    const { fitted, record } = await fitAndRecord(phase(["lora.**"]), decoder, { lora });
    const { params } = fitted.decoder;
    expect(Object.keys(params).sort()).toEqual(Object.keys(decoder.params).sort());
    for (const path of ["backbone.embed_tokens.weight", "backbone.norm.weight"])
      expect(params[path]).toEqual(decoder.params[path]);
    expect(params["backbone.layers.0.mlp.up_proj.weight"]?.data).not.toEqual(
      decoder.params["backbone.layers.0.mlp.up_proj.weight"]?.data,
    );
    const merged = await fitAndRecord(still, fitted.decoder);
    expect(merged.record.tokens?.losses).toBeAllclose(Array.from(record.tokens?.losses ?? []), {
      atol: 1e-4,
      rtol: 0,
    });
  });

  it("goes on where it was stopped, to the same weights", async () => {
    const one = phase(["lora.**"], { epochs: 3 });
    const lora = { rank: 2 };
    const whole = await fitAndRecord(one, decoder, { lora });
    const out = join(scratchFolder(), "training");
    const stop = new AbortController();
    const stopped = fitAndRecord(one, decoder, {
      lora,
      out,
      signal: stop.signal,
      onProgress: ({ step }) => {
        if (step === 3) stop.abort();
      },
    });
    await expect(stopped).rejects.toMatchObject({ code: "ABORTED" });
    const resumed = await fitAndRecord(one, decoder, { lora, out });
    expect(resumed.fitted.decoder.params).toEqual(whole.fitted.decoder.params);
    // Other adapters are another run.
    await expect(fitAndRecord(one, decoder, { lora: { rank: 3 }, out })).rejects.toMatchObject({
      code: expect.stringMatching(/CHECKPOINT_MISMATCH|BAD_CHECKPOINT/),
    });
  });

  it("refuses texts and adapters that cannot be", async () => {
    const fit = (text: Partial<DecoderText>, lora?: FitDecoderOptions["lora"]) =>
      fitAndRecord(still, decoder, {
        train: [{ ...(texts[0] as DecoderText), ...text }],
        ...(lora ? { lora } : {}),
      });
    await expect(fit({ from: 0 })).rejects.toMatchObject({ code: "BAD_INPUT", who: "text-0" });
    await expect(fit({ from: 5 })).rejects.toMatchObject({ code: "BAD_INPUT" });
    await expect(fit({ ids: new Int32Array(25) })).rejects.toMatchObject({ code: "BAD_INPUT" });
    await expect(fit({ ids: Int32Array.of(1, 12, 3), from: 1 })).rejects.toThrow(
      "from 0 to 11, got 12",
    );
    await expect(fit({}, { rank: 0 })).rejects.toMatchObject({ code: "BAD_OPTION", who: "lora" });
  });
});

describe("supervised texts", () => {
  const tokenizer = {
    vocabSize: 12,
    encode: (text: string) => [1, ...Array.from(text, (letter) => 2 + (letter.charCodeAt(0) % 10))],
    decode: () => "",
  };
  const model = { tokenizer, config: decoder.config };

  it("hold prompt, response and end, and learn the response only unless asked otherwise", () => {
    const one = { id: "a", prompt: "abc", response: "de" };
    expect(supervisedText(model, one)).toEqual({
      id: "a",
      ids: Int32Array.of(1, 9, 10, 11, 2, 3, 0),
      from: 4,
    });
    expect(supervisedText(model, one, { lossOn: "all" })?.from).toBe(1);
    expect(supervisedText(model, one, { maxLength: 5 })?.ids).toHaveLength(5);
    expect(supervisedText(model, one, { maxLength: 4 })).toBeUndefined();
    expect(() => supervisedText(model, one, { maxLength: 25 })).toThrow("24 positions");
  });

  it("ask as Alpaca does, with and without an input", () => {
    expect(instructionPrompt({ instruction: "Add." })).toBe(
      "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Response:\n",
    );
    expect(instructionPrompt({ instruction: "Add.", input: "1 2" }, "brief")).toBe(
      "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n",
    );
  });

  it("cut the middle of a prompt only", () => {
    const parts = { before: "ab", text: "cdefgh", after: "i" };
    expect(cutPrompt(model, parts, 20)).toMatchObject({ kept: 1 });
    const { ids, kept } = cutPrompt(model, parts, 7);
    expect(ids).toHaveLength(7);
    expect(kept).toBe(0.5);
    expect(ids.at(-1)).toBe(2 + ("i".charCodeAt(0) % 10));
    expect(() => cutPrompt(model, parts, 4)).toThrow("take 4 tokens");
  });
});

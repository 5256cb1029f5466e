/** @file llama2.c's files: the golden decoder written in its layout, broken files, and a small tokenizer. */
import { copyFileSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createCausalDecoder } from "../src/decoder/decoder.js";
import { loadCausalDecoder, saveCausalDecoder } from "../src/decoder/folder.js";
import { emptyLlamaCache, type LlamaInputs, llama } from "../src/llama.js";
import { createLlamaConfig } from "../src/llama-config.js";
import { type Llama2cModel, loadLlama2c, loadLlama2cTokenizer } from "../src/llama2c.js";
import { toTensors } from "../src/testing.js";
import { golden, goldenModel, stepInputs } from "./helpers/llama.js";
import { scratchFolder } from "./helpers/scratch.js";

beforeEach(async () => {
  await tf.setBackend("cpu");
  tf.engine().startScope();
});
afterEach(() => tf.engine().endScope());

/** Neighbours (2 i, 2 i + 1) from the halves (i, i + D / 2) of each head. */
function interleaved(data: Float32Array, heads: number, width: number): number[] {
  const D = data.length / heads / width;
  const row = (head: number, index: number) => {
    const start = (head * D + index) * width;
    return Array.from(data.subarray(start, start + width));
  };
  return Array.from({ length: heads }, (_, head) =>
    Array.from({ length: D / 2 }, (_, pair) => [
      ...row(head, pair),
      ...row(head, pair + D / 2),
    ]).flat(),
  ).flat();
}

function legacyBytes(tied: boolean): Buffer {
  const { config, params } = goldenModel(tied);
  const one = (name: string) => params[`backbone.${name}.weight`]?.data as Float32Array;
  const blocks = (name: string, heads?: number) =>
    Array.from({ length: config.depth }, (_, index) => {
      const data = one(`layers.${index}.${name}`);
      return heads === undefined ? Array.from(data) : interleaved(data, heads, config.hidden);
    }).flat();
  const numbers = Float32Array.from([
    ...one("embed_tokens"),
    ...blocks("input_layernorm"),
    ...blocks("self_attn.q_proj", config.heads),
    ...blocks("self_attn.k_proj", config.kvHeads),
    ...blocks("self_attn.v_proj"),
    ...blocks("self_attn.o_proj"),
    ...blocks("post_attention_layernorm"),
    ...blocks("mlp.gate_proj"),
    ...blocks("mlp.down_proj"),
    ...blocks("mlp.up_proj"),
    ...one("norm"),
    ...new Array<number>(config.maxPositions * config.headSize).fill(Number.NaN),
    ...(tied ? [] : one("lm_head")),
  ]);
  const { hidden, intermediate, depth, heads, kvHeads, vocabSize, maxPositions } = config;
  const vocab = tied ? vocabSize : -vocabSize;
  const header = Int32Array.of(hidden, intermediate, depth, heads, kvHeads, vocab, maxPositions);
  return Buffer.concat([Buffer.from(header.buffer), Buffer.from(numbers.buffer)]);
}

function written(bytes: Uint8Array): string {
  const path = join(scratchFolder(), "file.bin");
  writeFileSync(path, bytes);
  return path;
}

describe("a legacy model file", () => {
  it.each([false, true])("holds the golden decoder, tied: %s", async (tied) => {
    const { config, params } = await loadLlama2c(written(legacyBytes(tied)));
    expect(params).toEqual(goldenModel(tied).params);
    expect(config).toMatchObject({ tied, kvHeads: 2, headSize: 6, rmsNormEps: 1e-5 });
    const text = golden.cases.find((one) => one.tied === tied)?.texts[0];
    if (!text) throw new Error("the golden file lacks a text");
    const inputs = toTensors(stepInputs([text.ids], 0)) as unknown as LlamaInputs;
    const run = llama(toTensors(params), inputs, emptyLlamaCache(1, config), config);
    expect(run.logits.dataSync()).toBeAllclose(text.logits, { rtol: 1e-4, atol: 1e-4 });
  });

  const header = (at: number, value: number) => (bytes: Buffer) => {
    bytes.writeInt32LE(value, 4 * at);
    return bytes;
  };
  it.each([
    ["that is truncated", (bytes: Buffer) => bytes.subarray(0, -4), "BAD_FILE", /truncated/],
    ["with bytes too many", (bytes: Buffer) => Buffer.concat([bytes, bytes]), "BAD_FILE", /no leg/],
    ["without sizes", (bytes: Buffer) => bytes.subarray(0, 27), "BAD_FILE", /got 27 bytes/],
    ["of a newer layout", header(0, 0x616b3432), "UNSUPPORTED_MODEL", /legacy/],
    ["with a negative size", header(1, -5), "BAD_CONFIG", /intermediate/],
    ["with an endless depth", header(2, 2 ** 31 - 1), "BAD_CONFIG", /depth/],
    ["without heads", header(3, 0), "BAD_CONFIG", /heads/],
    ["without a vocabulary", header(5, 0), "BAD_CONFIG", /vocabSize/],
    ["with sizes of another model", header(5, 31), "BAD_FILE", /truncated/],
  ] as const)("%s is refused", async (_, change, code, message) => {
    const path = written(change(legacyBytes(true)));
    const error = await loadLlama2c(path).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code, who: path, message: expect.stringMatching(message) });
  });

  it("that is missing is named", async () => {
    await expect(loadLlama2c("/nowhere/model.bin")).rejects.toMatchObject({ code: "MISSING_FILE" });
  });
});

/** Scores as in SentencePiece: earlier merges are higher. "ab" beats "bc", "abc" needs "ab" first. */
const merges: readonly (readonly [string, number])[] = [
  [" ", -9],
  ["a", -9],
  ["b", -9],
  ["c", -9],
  ["é", -9],
  ["ab", -1],
  ["bc", -2],
  ["abc", -3],
  [" a", -4],
  ["aa", -5],
];
const vocabulary: readonly (readonly [string, number])[] = [
  ["<unk>", 0],
  ["\n<s>\n", 0],
  ["\n</s>\n", 0],
  ...Array.from(
    { length: 256 },
    (_, byte) => [`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, 0] as const,
  ),
  ...merges,
];
const id = (piece: string) => vocabulary.findIndex(([one]) => one === piece);

function tokenizerBytes(pieces = vocabulary, longest = 8): Buffer {
  const start = Buffer.alloc(4);
  start.writeInt32LE(longest);
  return Buffer.concat([
    start,
    ...pieces.map(([piece, score]) => {
      const bytes = Buffer.from(piece, "utf8");
      const head = Buffer.alloc(8);
      head.writeFloatLE(score, 0);
      head.writeInt32LE(bytes.length, 4);
      return Buffer.concat([head, bytes]);
    }),
  ]);
}

describe("a tokenizer file", () => {
  const load = () => loadLlama2cTokenizer(written(tokenizerBytes()), vocabulary.length);

  it("merges the pair with the highest score first, of equals the leftmost", async () => {
    const { encode } = await load();
    expect(encode("abc", { bos: false })).toEqual([id(" "), id("abc")]);
    expect(encode("bc", { eos: true })).toEqual([1, id(" "), id("bc"), 2]);
    expect(encode("aaa")).toEqual([1, id(" a"), id("aa")]);
    expect(encode("baaa")).toEqual([1, id(" "), id("b"), id("aa"), id("a")]);
    expect(encode("")).toEqual([1]);
  });

  it("goes with a model that is saved as a folder, beside it or named", async () => {
    const config = createLlamaConfig({
      ...{ vocabSize: vocabulary.length, hidden: 16, intermediate: 32, depth: 2 },
      ...{ heads: 2, kvHeads: 2, maxPositions: 32 },
    });
    const folder = join(scratchFolder(), "folder");
    await saveCausalDecoder(createCausalDecoder({ config, seed: 1 }), folder);
    const named = written(tokenizerBytes());
    expect((await loadCausalDecoder(folder)).tokenizer).toBeUndefined();
    const given = await loadCausalDecoder(folder, { tokenizer: named });
    expect(given.tokenizer?.encode("abc")).toEqual([1, id(" "), id("abc")]);
    copyFileSync(named, join(folder, "tokenizer.bin"));
    const { tokenizer } = await loadCausalDecoder(folder);
    expect(tokenizer?.encode("abc")).toEqual([1, id(" "), id("abc")]);
    expect(tokenizer?.decode([1, id(" a"), id("bc")])).toBe("abc");
  });

  it("spells unknown characters in bytes and finds known ones of several bytes", async () => {
    const { encode, decode, piece } = await load();
    expect(encode("é", { bos: false })).toEqual([id(" "), id("é")]);
    expect(encode("€", { bos: false })).toEqual([id(" "), 3 + 0xe2, 3 + 0x82, 3 + 0xac]);
    expect(piece(undefined, 3 + 0xe2)).toEqual(Uint8Array.of(0xe2));
    for (const text of ["abc", " abc", "a€b é\n", "日本", "🙂ab", ""])
      expect(decode(encode(text, { eos: true }))).toBe(text);
  });

  it("leaves out the first space behind the start only", async () => {
    const { decode } = await load();
    expect(decode([1, id(" a"), id(" a")])).toBe("a a");
    expect(decode([id(" a")])).toBe(" a");
    expect(() => decode([vocabulary.length])).toThrow(/from 0 to 268, got 269/);
  });

  const changed = (at: number, entry: readonly [string, number]) =>
    tokenizerBytes(vocabulary.map((one, index) => (index === at ? entry : one)));
  it.each([
    ["for fewer tokens", tokenizerBytes(vocabulary.slice(0, -1)), /ends before token 268/],
    ["for more tokens", tokenizerBytes([...vocabulary, ["d", 0]]), /9 bytes after token 268/],
    ["cut inside a token", tokenizerBytes().subarray(0, -1), /token 268 has 2 bytes, at most 1/],
    ["with a token too long", tokenizerBytes(vocabulary, 5), /at most 5/],
    ["with a score that is no number", changed(260, ["a", Number.NaN]), /token 260.*NaN/],
    ["without its bytes", changed(68, ["A", 0]), /token 68 must be <0x41>, got "A"/],
    ["that is empty", Buffer.alloc(0), /must start/],
  ])("%s is refused", async (_, bytes, message) => {
    const path = written(bytes);
    const error = await loadLlama2cTokenizer(path, vocabulary.length).catch((e: unknown) => e);
    expect(error).toMatchObject({
      code: "BAD_TOKENIZER",
      who: path,
      message: expect.stringMatching(message),
    });
  });
});

/** The likeliest tokens one after the other, each fed back through the cache. */
function greedy({ config, params }: Llama2cModel, prompt: readonly number[], count: number) {
  const tensors = toTensors(params);
  const ids = [...prompt];
  let caches = emptyLlamaCache(1, config);
  let past = 0;
  while (ids.length < count) {
    const inputs = toTensors(stepInputs([ids.slice(past)], past)) as unknown as LlamaInputs;
    const run = llama(tensors, inputs, caches, config);
    caches = run.caches;
    past = ids.length;
    const last = run.logits.dataSync().slice(-config.vocabSize);
    ids.push(last.indexOf(Math.max(...last)));
  }
  return ids;
}

const stories = join(process.env.CEE_DATA_DIR ?? "", "models", "stories260K");

describe.skipIf(!process.env.CEE_DATA_DIR || !existsSync(stories))(
  "the real stories260K (CEE_DATA_DIR)",
  () => {
    it("writes its known text", async () => {
      const model = await loadLlama2c(join(stories, "stories260K.bin"));
      const { vocabSize } = model.config;
      const tokenizer = await loadLlama2cTokenizer(join(stories, "tok512.bin"), vocabSize);
      const text = tokenizer.decode(greedy(model, tokenizer.encode(""), 64));
      expect(
        text.startsWith(
          "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.",
        ),
        text,
      ).toBe(true);
    });
  },
);

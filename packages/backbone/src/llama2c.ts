/**
 * @file llama2.c's legacy model file (seven int32 sizes, then float32 weights, all little-endian) and its tokenizer.
 *
 * Shapes: H = hidden size, D = head size.
 */
import { type FileHandle, open, readFile, stat } from "node:fs/promises";
import type { HostParams, HostTensor } from "@cee/engine";
import { BackboneError } from "./errors.js";
import { reason } from "./files.js";
import { llamaBlockPath } from "./llama.js";
import { createLlamaConfig, type LlamaConfig } from "./llama-config.js";

export interface Llama2cModel {
  readonly config: LlamaConfig;
  readonly params: HostParams;
}

/** Text to tokens and back as llama2.c does it: greedy merges by score, unknown characters as bytes. */
export interface Llama2cTokenizer {
  readonly vocabSize: number;
  readonly bosId: number;
  readonly eosId: number;
  encode(
    text: string,
    options?: { readonly bos?: boolean; readonly eos?: boolean },
  ): readonly number[];
  /** The bytes that `id` adds after `previous`; a character may be spread over several tokens. */
  piece(previous: number | undefined, id: number): Uint8Array;
  /** The text of a sequence; tokens that only mark its start and end add nothing. */
  decode(ids: readonly number[]): string;
}

const HEADER_BYTES = 7 * 4;
/** "ak42", the first number of the newer layouts. */
const NEWER_MAGIC = 0x616b3432;
const LARGEST_TOKENIZER = 256 * 1024 * 1024;
const LONGEST_READ = 2 ** 30;
const BOS = 1;
const EOS = 2;
/** Tokens 3 to 258 are the 256 bytes. */
const FIRST_BYTE = 3;

/** Reads a model file. @throws BackboneError `MISSING_FILE`, `BAD_FILE`, `BAD_CONFIG`, `UNSUPPORTED_MODEL` */
export async function loadLlama2c(path: string): Promise<Llama2cModel> {
  const missing = (cause: unknown): never => {
    throw new BackboneError("MISSING_FILE", path, `cannot be read: ${reason(cause)}.`, { cause });
  };
  const file = await open(path, "r").catch(missing);
  try {
    const { size } = await file.stat();
    if (size < HEADER_BYTES) {
      throw new BackboneError(
        "BAD_FILE",
        path,
        `must start with ${HEADER_BYTES} bytes of sizes, got ${size} bytes. Get the file again.`,
      );
    }
    const config = parseHeader(await readBytes(file, 0, HEADER_BYTES, path), path);
    checkSize(config, size, path);
    return { config, params: await readParams(file, config, path) };
  } finally {
    await file.close();
  }
}

function parseHeader(bytes: Uint8Array, path: string): LlamaConfig {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const [hidden, intermediate, depth, heads, kvHeads, vocab, maxPositions] = Array.from(
    { length: 7 },
    (_, index) => view.getInt32(4 * index, true),
  ) as [number, number, number, number, number, number, number];
  if (hidden === NEWER_MAGIC) {
    throw new BackboneError(
      "UNSUPPORTED_MODEL",
      path,
      `is a llama2.c file of version ${intermediate}. Export it in the legacy layout (version 0).`,
    );
  }
  return createLlamaConfig(
    {
      // A negative vocabulary size says that the output projection has weights of its own.
      vocabSize: Math.abs(vocab),
      tied: vocab > 0,
      hidden,
      intermediate,
      depth,
      heads,
      kvHeads,
      maxPositions,
      rmsNormEps: 1e-5,
      ropeTheta: 10_000,
      bosTokenId: BOS,
      // llama2.c itself stops where the model starts another text.
      eosTokenIds: [BOS, EOS],
    },
    path,
  );
}

function checkSize(config: LlamaConfig, size: number, path: string): void {
  const { hidden: H, intermediate, depth, vocabSize, maxPositions, headSize } = config;
  const block = 2 * H + 2 * H * H + 2 * H * config.kvHeads * headSize + 3 * H * intermediate;
  const tables = (config.tied ? 1 : 2) * vocabSize * H + maxPositions * headSize;
  const expected = HEADER_BYTES + 4 * (tables + depth * block + H);
  if (size === expected) return;
  throw new BackboneError(
    "BAD_FILE",
    path,
    `must hold ${expected} bytes for the sizes in its header, got ${size}. It is ${size < expected ? "truncated" : "no legacy llama2.c model"}; get the file again.`,
  );
}

/** The weights stand one kind after the other, each for all blocks. */
async function readParams(
  file: FileHandle,
  config: LlamaConfig,
  path: string,
): Promise<HostParams> {
  const { hidden: H, intermediate, depth, vocabSize, headSize: D } = config;
  const params: Record<string, HostTensor> = {};
  let at = HEADER_BYTES;
  const read = async (name: string, shape: readonly number[]): Promise<HostTensor> => {
    const bytes = 4 * shape.reduce((product, size) => product * size, 1);
    const content = await readBytes(file, at, bytes, path);
    at += bytes;
    // Every platform that Node runs on is little-endian, as the file is.
    const tensor = { dtype: "float32" as const, shape, data: new Float32Array(content.buffer) };
    params[name] = tensor;
    return tensor;
  };
  const readBlocks = async (name: string, shape: readonly number[], rotated = false) => {
    for (let layer = 1; layer <= depth; layer += 1) {
      const tensor = await read(`${llamaBlockPath(layer)}.${name}.weight`, shape);
      if (rotated) pairHalves(tensor.data as Float32Array, D, H);
    }
  };
  await read("backbone.embed_tokens.weight", [vocabSize, H]);
  await readBlocks("input_layernorm", [H]);
  await readBlocks("self_attn.q_proj", [H, H], true);
  await readBlocks("self_attn.k_proj", [config.kvHeads * D, H], true);
  await readBlocks("self_attn.v_proj", [config.kvHeads * D, H]);
  await readBlocks("self_attn.o_proj", [H, H]);
  await readBlocks("post_attention_layernorm", [H]);
  await readBlocks("mlp.gate_proj", [intermediate, H]);
  await readBlocks("mlp.down_proj", [H, intermediate]);
  await readBlocks("mlp.up_proj", [intermediate, H]);
  await read("backbone.norm.weight", [H]);
  at += 4 * config.maxPositions * D; // tables of the rotary angles, which are computed here
  if (!config.tied) await read("backbone.lm_head.weight", [vocabSize, H]);
  return params;
}

/**
 * Reorders a projection's rows in place: llama2.c turns the neighbours (2 i, 2 i + 1) of a head's numbers, this
 * package, as Hugging Face's classes, the pairs (i, i + D / 2).
 */
function pairHalves(rows: Float32Array, D: number, width: number): void {
  const head = new Float32Array(D * width);
  for (let start = 0; start < rows.length; start += head.length) {
    head.set(rows.subarray(start, start + head.length));
    for (let to = 0; to < D; to += 1) {
      const from = to < D / 2 ? 2 * to : 2 * to - D + 1;
      rows.set(head.subarray(from * width, (from + 1) * width), start + to * width);
    }
  }
}

/**
 * Reads the tokenizer file of a model with `vocabSize` tokens.
 * @throws BackboneError `MISSING_FILE`, `BAD_TOKENIZER`
 */
export async function loadLlama2cTokenizer(
  path: string,
  vocabSize: number,
): Promise<Llama2cTokenizer> {
  const missing = (cause: unknown): never => {
    throw new BackboneError("MISSING_FILE", path, `cannot be read: ${reason(cause)}.`, { cause });
  };
  const { size } = await stat(path).catch(missing);
  if (size > LARGEST_TOKENIZER)
    throw new BackboneError("BAD_TOKENIZER", path, `is too large, got ${size} bytes.`);
  const { pieces, scores } = parsePieces(await readFile(path).catch(missing), vocabSize, path);
  return createTokenizer(pieces, scores);
}

function parsePieces(
  bytes: Buffer,
  vocabSize: number,
  path: string,
): { readonly pieces: readonly string[]; readonly scores: readonly number[] } {
  const fail = (message: string): never => {
    throw new BackboneError("BAD_TOKENIZER", path, message);
  };
  const advice = "Use the tokenizer file that belongs to the model.";
  if (bytes.length < 4) fail(`must start with the longest token's length. ${advice}`);
  const longest = bytes.readInt32LE(0);
  const pieces: string[] = [];
  const scores: number[] = [];
  let at = 4;
  while (pieces.length < vocabSize) {
    const id = pieces.length;
    if (at + 8 > bytes.length)
      fail(`ends before token ${id}, the model has ${vocabSize} tokens. ${advice}`);
    const score = bytes.readFloatLE(at);
    const length = bytes.readInt32LE(at + 4);
    at += 8;
    if (!Number.isFinite(score)) fail(`token ${id} has the score ${score}. ${advice}`);
    if (length < 0 || length > longest || length > bytes.length - at)
      fail(
        `token ${id} has ${length} bytes, at most ${Math.min(longest, bytes.length - at)} can follow. ${advice}`,
      );
    // Pieces are bytes and not always characters: one code unit for each byte.
    pieces.push(bytes.toString("latin1", at, at + length));
    scores.push(score);
    at += length;
  }
  if (at !== bytes.length)
    fail(
      `goes on for ${bytes.length - at} bytes after token ${vocabSize - 1}, the model's last. ${advice}`,
    );
  for (let byte = 0; byte < 256; byte += 1) {
    const piece = pieces[FIRST_BYTE + byte];
    if (piece !== byteName(byte))
      fail(
        `token ${FIRST_BYTE + byte} must be ${byteName(byte)}, got ${JSON.stringify(piece)}. ${advice}`,
      );
  }
  return { pieces, scores };
}

function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

function createTokenizer(pieces: readonly string[], scores: readonly number[]): Llama2cTokenizer {
  const idOf = new Map<string, number>();
  for (const [id, piece] of pieces.entries()) if (!idOf.has(piece)) idOf.set(piece, id);

  const characters = (text: string): number[] => {
    const ids: number[] = [];
    for (const character of text) {
      const bytes = Buffer.from(character, "utf8");
      const id = idOf.get(bytes.toString("latin1"));
      if (id === undefined) for (const byte of bytes) ids.push(FIRST_BYTE + byte);
      else ids.push(id);
    }
    return ids;
  };

  /** What the tokens at `index` and after it make together, -1 where no token spells them. */
  const union = (ids: readonly number[], index: number): number =>
    index < 0 || index + 1 >= ids.length
      ? -1
      : (idOf.get(`${pieces[ids[index] as number]}${pieces[ids[index + 1] as number]}`) ?? -1);

  const piece = (previous: number | undefined, id: number): Uint8Array => {
    const text = pieces[id];
    if (text === undefined) {
      throw new BackboneError(
        "BAD_INPUT",
        "decode",
        `ids must be whole numbers from 0 to ${pieces.length - 1}, got ${id}.`,
      );
    }
    if (id === BOS || id === EOS) return new Uint8Array(0);
    if (id >= FIRST_BYTE && id < FIRST_BYTE + 256) return Uint8Array.of(id - FIRST_BYTE);
    // `encode` puts a space before the first word.
    return Buffer.from(previous === BOS && text.startsWith(" ") ? text.slice(1) : text, "latin1");
  };

  return {
    vocabSize: pieces.length,
    bosId: BOS,
    eosId: EOS,
    piece,
    encode(text, { bos = true, eos = false } = {}) {
      const ids = text === "" ? [] : characters(` ${text}`);
      const unions = ids.map((_, index) => union(ids, index));
      for (;;) {
        let best = -1;
        for (const [index, id] of unions.entries()) {
          if (id < 0) continue;
          const rival = best < 0 ? undefined : scores[unions[best] as number];
          if (rival === undefined || (scores[id] as number) > rival) best = index;
        }
        if (best < 0) break;
        ids.splice(best, 2, unions[best] as number);
        unions.splice(best, 2, union(ids, best));
        if (best > 0) unions[best - 1] = union(ids, best - 1);
      }
      return [...(bos ? [BOS] : []), ...ids, ...(eos ? [EOS] : [])];
    },
    decode: (ids) =>
      Buffer.concat(ids.map((id, index) => piece(ids[index - 1], id))).toString("utf8"),
  };
}

async function readBytes(
  file: FileHandle,
  start: number,
  length: number,
  path: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const wanted = Math.min(length - done, LONGEST_READ);
    const { bytesRead } = await file.read(bytes, done, wanted, start + done);
    if (bytesRead === 0) {
      throw new BackboneError(
        "BAD_FILE",
        path,
        `ended at byte ${start + done} while it was read, ${start + length} were expected.`,
      );
    }
    done += bytesRead;
  }
  return bytes;
}

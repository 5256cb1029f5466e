/**
 * @file Randomness inside tensor functions: a hash of (seed, site, position), without state, the same bits everywhere.
 *
 * ONNX's and TensorFlow.js's own random operations keep hidden state, which breaks resuming, or are frozen when traced.
 * Shapes: R = rows (all axes but the last), H = last axis.
 */
import * as tf from "@tensorflow/tfjs";
import type { Value } from "./onnx/graph.js";
import { defineTracedOp } from "./trace/traced-op.js";
import type { Tracing } from "./trace/tracing.js";

export interface RandomOptions {
  /** Two words, int32 `[2]`: feed fresh ones for every step. */
  readonly seed: tf.Tensor1D;
  /** Tells the uses of one seed apart: a whole number >= 0, different at every call site. */
  readonly site: number;
}

export interface DropoutOptions extends RandomOptions {
  /** Share of the numbers that become 0, in `[0, 1)`; the others grow by `1 / (1 - rate)`. */
  readonly rate: number;
}

/** Numbers in `[0, 1)` with 24 random bits, in the shape of `like` or in a shape. No gradient. */
export function uniform(
  like: tf.Tensor | readonly number[],
  { seed, site }: RandomOptions,
): tf.Tensor {
  const shape = like instanceof tf.Tensor ? like.shape : like;
  return uniformOp([seed], { shape, site });
}

/** Zeroes numbers at random and scales the others up, so that the mean stays. */
export function dropout<T extends tf.Tensor>(x: T, { rate, seed, site }: DropoutOptions): T {
  if (!(rate >= 0 && rate < 1))
    throw new RangeError(`dropout: rate must be in [0, 1), got ${rate}`);
  if (rate === 0) return x;
  return tf.mul(x, dropoutMask([seed], { shape: x.shape, site, rate })) as T;
}

interface UniformAttributes {
  readonly shape: readonly number[];
  readonly site: number;
}

const uniformOp = defineTracedOp<UniformAttributes>({
  name: "uniform",
  eager([seed], { shape, site }) {
    const words = wordsOf(seed as tf.Tensor1D);
    const values = new Float32Array(sizeOf(shape));
    for (let index = 0; index < values.length; index += 1)
      values[index] = (hash(index, words, site) >>> 8) * 2 ** -24;
    return tf.tensor(values, [...shape], "float32");
  },
  trace(t, [seed], { shape, site }) {
    const size = sizeOf(shape);
    const top = shiftRight(t, tracedHash(t, seed as Value, site, size), 8);
    const scaled = t.binary(
      "Mul",
      t.cast(t.cast(top, "int32"), "float32"),
      t.graph.scalar("float32", 2 ** -24),
    );
    return t.reshape(scaled, shape);
  },
});

interface MaskAttributes extends UniformAttributes {
  readonly rate: number;
}

/**
 * 0 or `1 / (1 - rate)` for every number.
 *
 * A full hash of each position is some twenty passes over the tensor. Here rows and columns are hashed to odd 32-bit
 * words and multiplied: for any two positions the products are independent, since multiplying by an odd word permutes the
 * 32-bit words, and one comparison with a threshold reads their high bits. Three passes instead of twenty.
 */
const dropoutMask = defineTracedOp<MaskAttributes>({
  name: "dropoutMask",
  eager([seed], { shape, site, rate }) {
    const words = wordsOf(seed as tf.Tensor1D);
    const [R, H] = rowsAndColumns(shape);
    const columns = Int32Array.from(
      { length: H },
      (_, column) => hash(column, words, 2 * site + 1) | 1,
    );
    const [threshold, scale] = [thresholdOf(rate), scaleOf(rate)];
    const values = new Float32Array(R * H);
    for (let row = 0; row < R; row += 1) {
      const word = hash(row, words, 2 * site) | 1;
      for (let column = 0; column < H; column += 1)
        if (Math.imul(word, columns[column] as number) >= threshold)
          values[row * H + column] = scale;
    }
    return tf.tensor(values, [...shape], "float32");
  },
  trace(t, [seed], { shape, site, rate }) {
    const [R, H] = rowsAndColumns(shape);
    const odd = (value: Value) => t.binary("BitwiseOr", value, t.graph.scalar("int32", 1));
    const rows = t.reshape(odd(tracedHash(t, seed as Value, 2 * site, R)), [R, 1]);
    const columns = odd(tracedHash(t, seed as Value, 2 * site + 1, H));
    const product = t.binary("Mul", rows, columns); // [R, H]
    const dropped = t.binary("Less", product, t.graph.scalar("int32", thresholdOf(rate)), "bool");
    const mask = t.graph.node(
      "Where",
      [dropped, t.graph.scalar("float32", 0), t.graph.scalar("float32", scaleOf(rate))],
      { type: "float32", shape: [R, H] },
    );
    return t.reshape(mask, shape);
  },
});

/** Products below it, as signed words, are dropped. */
function thresholdOf(rate: number): number {
  return Math.round(rate * 2 ** 32) - 2 ** 31;
}

function scaleOf(rate: number): number {
  return Math.fround(1 / (1 - rate));
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function rowsAndColumns(shape: readonly number[]): readonly [rows: number, columns: number] {
  return [sizeOf(shape.slice(0, -1)), shape.at(-1) ?? 1];
}

function wordsOf(seed: tf.Tensor1D): Int32Array {
  return seed.dataSync() as unknown as Int32Array;
}

/** Multipliers of the counter, the site and the two mixing rounds; all odd. */
const COUNTER = 0x9e3779b1 | 0;
const SITE = 0x632be5ab;
const FIRST = 0x85ebca6b | 0;
const SECOND = 0xc2b2ae35 | 0;

/** A word from a position: two rounds of shift, xor and multiply, with one word of the seed before each. */
function hash(index: number, words: Int32Array, site: number): number {
  const first = mix((Math.imul(index, COUNTER) + (words[0] as number)) | 0);
  return mix(first ^ ((words[1] as number) + Math.imul(site, SITE)));
}

function mix(word: number): number {
  let h = word ^ (word >>> 16);
  h = Math.imul(h, FIRST);
  h ^= h >>> 13;
  h = Math.imul(h, SECOND);
  return h ^ (h >>> 16);
}

/** The same hash of the positions 0, 1, … size - 1 as nodes, int32 `[size]`. */
function tracedHash(t: Tracing, seed: Value, site: number, size: number): Value {
  const { graph } = t;
  const constant = (number: number) => graph.scalar("int32", number);
  const word = (index: number) =>
    graph.node(
      "Gather",
      [seed, graph.scalar("int64", index)],
      { type: "int32", shape: [] },
      { axis: 0 },
    );
  const count = graph.node("Squeeze", [t.size(size)], { type: "int64", shape: [] });
  const positions = t.cast(
    graph.node("Range", [graph.scalar("int64", 0), count, graph.scalar("int64", 1)], {
      type: "int64",
      shape: [size],
    }),
    "int32",
  );
  const start = t.binary("Add", t.binary("Mul", positions, constant(COUNTER)), word(0));
  const salt = t.binary("Add", word(1), constant(Math.imul(site, SITE)));
  return tracedMix(t, t.binary("BitwiseXor", tracedMix(t, start), salt));
}

function tracedMix(t: Tracing, word: Value): Value {
  const fold = (value: Value, bits: number) =>
    t.binary("BitwiseXor", value, t.cast(shiftRight(t, value, bits), "int32"));
  const first = t.binary("Mul", fold(word, 16), t.graph.scalar("int32", FIRST));
  const second = t.binary("Mul", fold(first, 13), t.graph.scalar("int32", SECOND));
  return fold(second, 16);
}

/** Shifts the bits of int32 words, as uint32: ONNX shifts unsigned words only. */
function shiftRight(t: Tracing, value: Value, bits: number): Value {
  return t.graph.node(
    "BitShift",
    [t.cast(value, "uint32"), t.graph.scalar("uint32", bits)],
    { type: "uint32", shape: value.shape },
    { direction: "RIGHT" },
  );
}

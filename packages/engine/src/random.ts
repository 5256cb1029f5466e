/**
 * @file Randomness inside tensor functions: a pure function of (seed, site, position), with no state to save, and the
 * same bits everywhere. ONNX's and TensorFlow.js's own random operations keep hidden state or are frozen when traced.
 *
 * A tensor is seen as a matrix of R rows (all axes but the last) and H columns. Each row and each column gets an odd word
 * from a full hash of its number, keyed by seed and site; the word of an element is the product of its row's and its
 * column's modulo 2^32. Elements are then independent in pairs and triples; four in a rectangle are tied only through
 * products that no threshold can see (the tests measure it), and an element costs one multiplication, not a hash. All
 * steps are int32 additions, multiplications and truncating divisions, which wrap alike in ONNX Runtime, on GPUs and in
 * `Math.imul`; bit operations on int32 are newer in ONNX and missing on GPUs.
 */
import * as tf from "@tensorflow/tfjs";
import { EngineError } from "./errors.js";
import type { Value } from "./onnx/graph.js";
import { defineTracedOp } from "./trace/traced-op.js";
import type { Tracing } from "./trace/tracing.js";

export interface RandomOptions {
  /** Two words, int32 `[2]`, for example the run's seed and the number of the step. */
  readonly seed: tf.Tensor1D;
  /** Tells the uses of one seed apart: a whole number, different at each place. */
  readonly site: number;
}

export interface DropoutOptions extends RandomOptions {
  /** Share of the numbers that become 0, in [0, 1). */
  readonly rate: number;
}

/** Draws float32 numbers from the multiples of 2^-24 in [0, 1), in the shape of `like` or in a shape. No gradient. */
export function uniform(
  like: tf.Tensor | readonly number[],
  { seed, site }: RandomOptions,
): tf.Tensor {
  checkPlace("uniform", seed, site);
  return uniformOp([seed], { shape: like instanceof tf.Tensor ? like.shape : like, site });
}

/**
 * Zeroes numbers at random and scales the others by `1 / (1 - rate)`, so that the mean stays. Dropped is what has
 * {@link uniform} below `rate` at the same seed and site.
 * @throws EngineError `BAD_OPTION` for a rate, seed or site that cannot be used
 */
export function dropout<T extends tf.Tensor>(x: T, { rate, seed, site }: DropoutOptions): T {
  if (!(rate >= 0 && rate < 1)) {
    throw new EngineError(
      "BAD_OPTION",
      `[dropout] the rate must be in [0, 1), got ${rate}. Use 0 to switch it off.`,
    );
  }
  checkPlace("dropout", seed, site);
  if (rate === 0) return x;
  // The product's gradient with respect to x alone reuses the mask; nothing leads back into the mask itself.
  return tf.mul(x, maskOp([seed], { shape: x.shape, site, rate })) as T;
}

interface Place {
  readonly shape: readonly number[];
  readonly site: number;
}

const uniformOp = defineTracedOp<Place>({
  name: "uniform",
  eager([seed], { shape, site }) {
    const words = wordsOf(seed as tf.Tensor, shape, site);
    const numbers = Float32Array.from(words, (word) => (word >> 8) * 2 ** -24 + 0.5);
    return tf.tensor(numbers, [...shape], "float32");
  },
  trace(tracing, [seed], { shape, site }) {
    const { graph } = tracing;
    const words = traceWords(tracing, seed as Value, shape, site);
    // The low 8 bits go first: a float32 holds the rest exactly, and no runtime's rounding matters.
    const low = tracing.binary("Mod", words, graph.scalar("int32", 256));
    const high = tracing.cast(tracing.binary("Sub", words, low), "float32");
    const scaled = tracing.binary("Mul", high, graph.scalar("float32", 2 ** -32));
    return tracing.binary("Add", scaled, graph.scalar("float32", 0.5));
  },
});

/** 0 or `1 / (1 - rate)` for every element. */
const maskOp = defineTracedOp<Place & { readonly rate: number }>({
  name: "dropoutMask",
  eager([seed], { shape, site, rate }) {
    const threshold = thresholdOf(rate);
    const scale = 1 / (1 - rate);
    const words = wordsOf(seed as tf.Tensor, shape, site);
    const mask = Float32Array.from(words, (word) => (word >= threshold ? scale : 0));
    return tf.tensor(mask, [...shape], "float32");
  },
  trace(tracing, [seed], { shape, site, rate }) {
    const { graph } = tracing;
    const words = traceWords(tracing, seed as Value, shape, site);
    const threshold = graph.scalar("int32", thresholdOf(rate));
    const kept = tracing.binary("GreaterOrEqual", words, threshold, "bool");
    const scales = [graph.scalar("float32", 1 / (1 - rate)), graph.scalar("float32", 0)];
    return graph.node("Where", [kept, ...scales], { type: "float32", shape });
  },
});

/** The smallest word that is kept; the words below it are those whose uniform number is below the rate. */
function thresholdOf(rate: number): number {
  return Math.ceil(rate * 2 ** 24) * 2 ** 8 - 2 ** 31;
}

function checkPlace(who: string, seed: tf.Tensor, site: number): void {
  if (seed.dtype !== "int32" || seed.rank !== 1 || seed.size !== 2) {
    throw new EngineError(
      "BAD_OPTION",
      `[${who}] the seed must be int32 [2], got ${seed.dtype} [${seed.shape.join(", ")}].`,
    );
  }
  if (!Number.isSafeInteger(site) || site < 0) {
    throw new EngineError("BAD_OPTION", `[${who}] the site must be a whole number, got ${site}.`);
  }
}

const MULTIPLIERS = [0x7feb352d, 0x846ca68b] as const;
const SEED_OFFSETS = [0x243f6a88, 0x85a308d3] as const;
/** Even, so that exchanging the two words of a seed is a bijection. */
const EXCHANGE = 0x9e3779b2;
const COUNTER = 0x9e3779b1;

interface SiteKey {
  /** Odd. */
  readonly multiplier: number;
  readonly offset: number;
}

/** Two words from the number of a site. */
function siteKey(site: number): SiteKey {
  const word = scramble((site >>> 0) ^ scramble(Math.floor(site / 2 ** 32)));
  return { multiplier: word | 1, offset: scramble(word ^ 0x5bd1e995) };
}

function scramble(word: number): number {
  let x = word;
  x = Math.imul(x ^ (x >>> 16), MULTIPLIERS[0]);
  x = Math.imul(x ^ (x >>> 15), MULTIPLIERS[1]);
  return x ^ (x >>> 16);
}

function matrixOf(shape: readonly number[]): { rows: number; columns: number } {
  const rows = shape.slice(0, -1).reduce((size, dimension) => size * dimension, 1);
  return { rows, columns: shape.at(-1) ?? 1 };
}

/** The words of all elements, on the host. It and {@link traceWords} do the same steps in the same order. */
function wordsOf(seed: tf.Tensor, shape: readonly number[], site: number): Int32Array {
  const { rows, columns } = matrixOf(shape);
  const keys = keysOf(seed.dataSync() as Int32Array);
  const rowWords = oddWords(rows, keys, siteKey(2 * site));
  const columnWords = oddWords(columns, keys, siteKey(2 * site + 1));
  const words = new Int32Array(rows * columns);
  for (let row = 0; row < rows; row += 1) {
    const factor = rowWords[row] as number;
    for (let column = 0; column < columns; column += 1) {
      words[row * columns + column] = Math.imul(factor, columnWords[column] as number);
    }
  }
  return words;
}

function oddWords(size: number, [key0, key1]: Keys, { multiplier, offset }: SiteKey): Int32Array {
  return Int32Array.from({ length: size }, (_, counter) => {
    const shared = square(fold(Math.imul(counter, COUNTER) + key0, MULTIPLIERS[0]) + key1);
    return 2 * square(fold(Math.imul(shared, multiplier) + offset, MULTIPLIERS[1])) + 1;
  });
}

type Keys = readonly [number, number];

function keysOf(seed: Int32Array): Keys {
  const a = mix((seed[0] as number) + SEED_OFFSETS[0]);
  const b = mix((seed[1] as number) + SEED_OFFSETS[1]);
  return [mix(a + Math.imul(b, EXCHANGE)), mix(b + Math.imul(a, EXCHANGE))];
}

function mix(word: number): number {
  return square(fold(square(fold(word, MULTIPLIERS[0])), MULTIPLIERS[1]));
}

function fold(word: number, multiplier: number): number {
  return Math.imul(down(word), multiplier);
}

/** The permutation x (2 x + 1), whose high bits depend on all bits of x. */
function square(word: number): number {
  const x = down(word);
  return Math.imul(x, 2 * x + 1);
}

/** Adds the high half to the low one. */
function down(word: number): number {
  const x = word | 0;
  return (x + Math.trunc(x / 65536)) | 0;
}

function traceWords(tracing: Tracing, seed: Value, shape: readonly number[], site: number): Value {
  const { graph } = tracing;
  const { rows, columns } = matrixOf(shape);
  const int = (value: number) => graph.scalar("int32", value);
  const add = (a: Value, b: Value) => tracing.binary("Add", a, b);
  const times = (a: Value, b: Value) => tracing.binary("Mul", a, b);
  const down = (x: Value) => add(x, tracing.binary("Div", x, int(65536)));
  const fold = (x: Value, multiplier: number) => times(down(x), int(multiplier));
  const twicePlusOne = (x: Value) => add(add(x, x), int(1));
  const square = (word: Value) => {
    const x = down(word);
    return times(x, twicePlusOne(x));
  };
  const mix = (word: Value) => square(fold(square(fold(word, MULTIPLIERS[0])), MULTIPLIERS[1]));
  const pick = (x: Value, index: number) =>
    graph.node("Gather", [x, graph.scalar("int64", index)], { type: "int32", shape: [] });

  const halves = mix(add(seed, graph.constant("int32", [2], Int32Array.from(SEED_OFFSETS))));
  const exchanged = graph.node("Gather", [halves, graph.ints([1, 0])], {
    type: "int32",
    shape: [2],
  });
  const keys = mix(add(halves, times(exchanged, int(EXCHANGE))));

  const oddWords = (size: number, { multiplier, offset }: SiteKey) => {
    const counted = add(times(traceCounter(tracing, size), int(COUNTER)), pick(keys, 0));
    // Equal sizes share this part between all sites.
    const shared = square(add(fold(counted, MULTIPLIERS[0]), pick(keys, 1)));
    const own = add(times(shared, int(multiplier)), int(offset));
    return twicePlusOne(square(fold(own, MULTIPLIERS[1]))); // [size]
  };
  const rowWords = tracing.reshape(oddWords(rows, siteKey(2 * site)), [rows, 1]);
  const columnWords = oddWords(columns, siteKey(2 * site + 1));
  return tracing.reshape(times(rowWords, columnWords), shape);
}

/** 0, 1, …, size - 1. */
function traceCounter(tracing: Tracing, size: number): Value {
  const { graph } = tracing;
  const end = graph.node("Squeeze", [tracing.size(size)], { type: "int64", shape: [] });
  const bounds = [graph.scalar("int32", 0), tracing.cast(end, "int32"), graph.scalar("int32", 1)];
  return graph.node("Range", bounds, { type: "int32", shape: [size] });
}

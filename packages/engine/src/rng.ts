/**
 * @file Seeded random numbers on the host: xoshiro128** streams, keyed by a 128-bit hash of the seed and of the
 * labels on the way from the root. For random numbers inside tensor functions see `random.ts`.
 */
import type { HostTensor } from "./types.js";

/** A stream of random numbers. Streams with different seeds or labels are independent of each other. */
export interface Rng {
  /** Draws a number in [0, 1) with 53 random bits. */
  next(): number;
  /** Draws an integer in [0, n). @throws RangeError when n is not an integer in [1, 2^32]. */
  int(n: number): number;
  /** Draws from the standard normal distribution. */
  normal(): number;
  /** Puts an array into random order, in place, and returns it. */
  shuffle<TArray extends Shufflable>(array: TArray): TArray;
  /**
   * Starts the stream called `label`. It depends on this stream's seed and labels only, not on how much was drawn from
   * it, so code that draws more or less elsewhere leaves it unchanged.
   */
  fork(label: string): Rng;
}

type Shufflable = unknown[] | Int32Array | Uint32Array | Float32Array | Float64Array;

/**
 * Starts a stream of random numbers from a seed. `1` and `"1"` are different seeds.
 * @throws RangeError when a numeric seed is not finite.
 */
export function createRng(seed: number | string): Rng {
  if (typeof seed === "number" && !Number.isFinite(seed)) {
    throw new RangeError(`[createRng] seed must be finite, got ${seed}. Pass a number or a text.`);
  }
  return stream(absorb(ROOT_KEY, `${typeof seed}:${seed}`));
}

/** Draws a float32 tensor from a normal distribution with mean 0. */
export function initNormal(shape: readonly number[], std: number, rng: Rng): HostTensor {
  const data = new Float32Array(sizeOf(shape));
  for (let index = 0; index < data.length; index += 1) data[index] = std * rng.normal();
  return { dtype: "float32", shape: [...shape], data };
}

/** Draws a float32 tensor uniformly from [low, high). */
export function initUniform(
  shape: readonly number[],
  low: number,
  high: number,
  rng: Rng,
): HostTensor {
  const data = new Float32Array(sizeOf(shape));
  for (let index = 0; index < data.length; index += 1) {
    data[index] = low + (high - low) * rng.next();
  }
  return { dtype: "float32", shape: [...shape], data };
}

/** Makes a float32 tensor with the same value everywhere. */
export function initConstant(shape: readonly number[], value: number): HostTensor {
  return {
    dtype: "float32",
    shape: [...shape],
    data: new Float32Array(sizeOf(shape)).fill(value),
  };
}

type Key = readonly [number, number, number, number];

const ROOT_KEY: Key = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];

function stream(key: Key): Rng {
  let [a, b, c, d] = key;
  let spare: number | undefined;

  const word = (): number => {
    const fives = Math.imul(b, 5);
    const result = Math.imul((fives << 7) | (fives >>> 25), 9);
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  const next = (): number => {
    const high = word() >>> 5;
    const low = word() >>> 6;
    return (high * 0x4000000 + low) / 0x20000000000000;
  };
  const int = (n: number): number => {
    if (!(Number.isInteger(n) && n >= 1 && n <= 0x100000000)) {
      throw new RangeError(`[rng.int] n must be an integer in [1, 2^32], got ${n}.`);
    }
    return Math.floor(next() * n);
  };

  return {
    next,
    int,
    normal() {
      if (spare !== undefined) {
        const value = spare;
        spare = undefined;
        return value;
      }
      // 1 - next() lies in (0, 1], so the logarithm is finite.
      const radius = Math.sqrt(-2 * Math.log(1 - next()));
      const angle = 2 * Math.PI * next();
      spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    },
    shuffle(array) {
      for (let last = array.length - 1; last > 0; last -= 1) {
        const other = int(last + 1);
        const value = array[last];
        array[last] = array[other] as never;
        array[other] = value as never;
      }
      return array;
    },
    fork: (label) => stream(absorb(key, label)),
  };
}

/** Hashes a text into a key: four multiply-xor lanes that exchange bits, then a finaliser per word. */
function absorb(key: Key, text: string): Key {
  let [a, b, c, d] = key;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    a = Math.imul(a ^ unit, 0x9e3779b1) ^ (d >>> 15);
    b = Math.imul(b ^ a, 0x85ebca77) ^ (a >>> 13);
    c = Math.imul(c ^ b, 0xc2b2ae3d) ^ (b >>> 16);
    d = Math.imul(d ^ c, 0x27d4eb2f) ^ (c >>> 14);
  }
  a = finalise(a ^ text.length);
  b = finalise(b + a);
  c = finalise(c + b);
  d = finalise(d + c);
  a = finalise(a + d);
  // xoshiro's state must not be all zero.
  return (a | b | c | d) === 0 ? ROOT_KEY : [a, b, c, d];
}

function finalise(word: number): number {
  let x = word;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return x ^ (x >>> 16);
}

function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const dimension of shape) {
    if (!(Number.isInteger(dimension) && dimension >= 0)) {
      throw new RangeError(
        `[rng] a shape needs integers >= 0, got [${shape.join(", ")}]. Fix the shape.`,
      );
    }
    size *= dimension;
  }
  return size;
}

/**
 * @file The keys and values of a batch of growing texts, kept on the host with room to grow.
 *
 * Shapes: R = rows in use, G = key and value heads, C = capacity in tokens, D = head size, S = tokens that are added.
 */
import type { HostTensor } from "@cee/engine";
import { BackboneError } from "../errors.js";
import type { LlamaConfig } from "../llama-config.js";

/** Tokens that a full cache grows by: at least 16, and between a 16th and an 8th of what it holds. */
function growthAt(tokens: number): number {
  return 16 * 2 ** Math.max(0, Math.floor(Math.log2(tokens / 128)));
}

/** Bytes that the cache of `rows` texts of `tokens` tokens takes. */
export function cacheBytes(rows: number, tokens: number, config: LlamaConfig): number {
  const { depth, kvHeads, headSize } = config;
  return 4 * 2 * depth * rows * kvHeads * roomFor(tokens) * headSize;
}

/**
 * Places that are reserved for `tokens` tokens. Attention runs over all of them, so few are spare; a growing cache is
 * copied as a whole, so they are more where that is long.
 */
function roomFor(tokens: number): number {
  const growth = growthAt(tokens);
  return Math.max(1, Math.ceil(tokens / growth)) * growth;
}

/** One of the two, `[rows, G, C, D]` each. */
interface Part {
  keys: Float32Array;
  values: Float32Array;
}

export interface CacheTensors {
  readonly keys: HostTensor;
  readonly values: HostTensor;
}

/** Rows stand in slots 0, 1, …, so that the live ones are one contiguous piece which is handed over without a copy. */
export class KeyValueCache {
  readonly #layers: Part[];
  #capacity = 0;
  #slots: number;

  constructor(
    rows: number,
    private readonly config: LlamaConfig,
  ) {
    this.#slots = rows;
    this.#layers = Array.from({ length: config.depth }, () => ({
      keys: new Float32Array(0),
      values: new Float32Array(0),
    }));
  }

  get capacity(): number {
    return this.#capacity;
  }

  get bytes(): number {
    return this.#layers.reduce(
      (sum, { keys, values }) => sum + keys.byteLength + values.byteLength,
      0,
    );
  }

  /** Makes room for texts of `tokens` tokens. @throws BackboneError `CACHE_TOO_LARGE` where there is no memory for it */
  reserve(tokens: number): void {
    const room = roomFor(tokens);
    if (room <= this.#capacity) return;
    const { kvHeads: G, headSize: D } = this.config;
    const [from, to] = [this.#capacity * D, room * D];
    const grow = (old: Float32Array): Float32Array => {
      const grown = this.#allocate(this.#slots * G * to, tokens);
      for (let piece = 0; piece < this.#slots * G && from > 0; piece += 1)
        grown.set(old.subarray(piece * from, (piece + 1) * from), piece * to);
      return grown;
    };
    for (const layer of this.#layers) {
      layer.keys = grow(layer.keys);
      layer.values = grow(layer.values);
    }
    this.#capacity = room;
  }

  #allocate(length: number, tokens: number): Float32Array {
    try {
      return new Float32Array(length);
    } catch (cause) {
      throw new BackboneError(
        "CACHE_TOO_LARGE",
        "reserve",
        `keys and values of ${this.#slots} text${this.#slots === 1 ? "" : "s"} of ${tokens} tokens need ${cacheBytes(this.#slots, tokens, this.config)} bytes, which this process cannot get. Generate fewer tokens or rows, and lower maxCacheBytes so that this is said before a text begins.`,
        { cause },
      );
    }
  }

  /** A layer's (1..depth) tensors of some slots, in that order; the first slots in a row are not copied. */
  tensors(layer: number, slots: readonly number[]): CacheTensors {
    const part = this.#layers[layer - 1] as Part;
    const { kvHeads, headSize } = this.config;
    const size = kvHeads * this.#capacity * headSize;
    const arePrefix = slots.every((slot, index) => slot === index);
    const take = (all: Float32Array): HostTensor => {
      const shape = [slots.length, kvHeads, this.#capacity, headSize];
      if (arePrefix) return { dtype: "float32", shape, data: all.subarray(0, slots.length * size) };
      const data = new Float32Array(slots.length * size);
      slots.forEach((slot, index) => {
        data.set(all.subarray(slot * size, (slot + 1) * size), index * size);
      });
      return { dtype: "float32", shape, data };
    };
    return { keys: take(part.keys), values: take(part.values) };
  }

  /** Writes row `index` of new keys and values `[B, G, S, D]` into a slot: its first `count` tokens, from place `first` on. */
  write(
    layer: number,
    slot: number,
    added: CacheTensors,
    index: number,
    first: number,
    count: number,
  ): void {
    const part = this.#layers[layer - 1] as Part;
    const { kvHeads: G, headSize: D } = this.config;
    const S = added.keys.shape[2] as number;
    for (const name of ["keys", "values"] as const) {
      const source = added[name].data as Float32Array;
      for (let head = 0; head < G; head += 1) {
        const from = (index * G + head) * S * D;
        const to = ((slot * G + head) * this.#capacity + first) * D;
        part[name].set(source.subarray(from, from + count * D), to);
      }
    }
  }

  /** Moves the text in slot `from` to slot `to`. */
  move(from: number, to: number): void {
    const { kvHeads, headSize } = this.config;
    const size = kvHeads * this.#capacity * headSize;
    for (const part of this.#layers)
      for (const name of ["keys", "values"] as const)
        part[name].copyWithin(to * size, from * size, (from + 1) * size);
  }

  clear(): void {
    for (const layer of this.#layers) {
      layer.keys = new Float32Array(0);
      layer.values = new Float32Array(0);
    }
    this.#capacity = 0;
    this.#slots = 0;
  }
}

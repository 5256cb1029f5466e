/**
 * @file Which token is updated up to which layer: a table from token ids, fixed before training.
 *
 * V = vocabulary, H = hidden size.
 * @see Sun et al. 2022, A simple hash-based early exiting approach, section 3
 */
import { BackboneError } from "@cee/backbone";
import { createRng, type HostTensor, type Rng } from "@cee/engine";
import type { HashEeOptions } from "./options.js";

/** Last layer at which each token id is updated, from 1, shape `[V]`. */
export type TokenMap = Int32Array;

export interface TokenMapInput {
  readonly vocabSize: number;
  /** Inputs to count ids in; their labels are not looked at. */
  readonly rows: Iterable<{ readonly ids: Int32Array }>;
  /** Ids that stay to the end: `[CLS]`, `[SEP]`, padding, unknown, mask. */
  readonly special: Iterable<number>;
  readonly seed: number;
  /** Word embeddings, `[V, H]`; for the clustered map. */
  readonly embeddings?: HostTensor | undefined;
}

/**
 * Makes the map that the options name. Special tokens, and tokens that occur in no row, go through all `maxLayer - 1` layers.
 *
 * - `frequency`: ids in order of their count, most frequent first (ties: first seen), in buckets of equally many ids;
 *   bucket after bucket leaves later. Frequent tokens stop early.
 * - `random`: the same buckets over ids in random order.
 * - `clustered`: a bucket is a cluster of the embeddings; the cluster whose tokens occur most often leaves first.
 * @throws BackboneError `BAD_OPTION` for the clustered map without embeddings
 */
// Deviates from the released code: it counts the ids of the dev file as well, if its caller passes them.
export function tokenMap(options: HashEeOptions, input: TokenMapInput): TokenMap {
  const { maxLayer, buckets, map } = options;
  const lastLayer = maxLayer - 1;
  const table = new Int32Array(input.vocabSize).fill(lastLayer);
  const counts = countIds(input.rows, new Set(input.special));
  const bucketOf =
    map === "clustered"
      ? clusters(counts, buckets, input)
      : evenBuckets(order(counts, map, input), buckets);
  const interval = Math.floor(lastLayer / buckets);
  // The first bucket's number is 2 in the released code, where a token of bucket b is updated in layers 1..b-1. What
  // is left over when the buckets are full has a number past the end there, which means all layers too.
  for (const [id, bucket] of bucketOf) table[id] = Math.min(1 + bucket * interval, lastLayer);
  return table;
}

/** How often each id occurs, in order of first occurrence. */
function countIds(rows: TokenMapInput["rows"], special: ReadonlySet<number>): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { ids } of rows)
    for (const id of ids) if (!special.has(id)) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

function order(
  counts: ReadonlyMap<number, number>,
  map: "frequency" | "random",
  { seed }: TokenMapInput,
): number[] {
  const ids = [...counts.keys()];
  if (map === "random") return createRng(seed).fork("hashee/random").shuffle(ids);
  return ids.sort((a, b) => (counts.get(b) as number) - (counts.get(a) as number));
}

/** Fills bucket after bucket with the same number of ids; the rest goes to one more. */
function evenBuckets(ids: readonly number[], buckets: number): Map<number, number> {
  const size = Math.max(1, Math.floor(ids.length / buckets));
  return new Map(ids.map((id, index) => [id, Math.floor(index / size)]));
}

function clusters(
  counts: ReadonlyMap<number, number>,
  buckets: number,
  { embeddings, seed }: TokenMapInput,
): Map<number, number> {
  if (!embeddings)
    throw new BackboneError(
      "BAD_OPTION",
      "hashee",
      "the clustered map needs the word embeddings, got none. Pass backbone.embeddings.word_embeddings.weight.",
    );
  const ids = [...counts.keys()];
  const width = embeddings.shape[1] as number;
  const points = ids.map((id) => embeddings.data.subarray(id * width, (id + 1) * width));
  const cluster = kMeans(
    points as readonly Float32Array[],
    buckets,
    createRng(seed).fork("hashee/k-means"),
  );
  const weight = new Array<number>(buckets).fill(0);
  ids.forEach((id, index) => {
    const own = cluster[index] as number;
    weight[own] = (weight[own] as number) + (counts.get(id) as number);
  });
  const byWeight = weight
    .map((_, index) => index)
    .sort((a, b) => (weight[b] as number) - (weight[a] as number));
  return new Map(ids.map((id, index) => [id, byWeight.indexOf(cluster[index] as number)]));
}

/** Most rounds of k-means. */
const ROUNDS = 50;

/** Lloyd's algorithm from k-means++ centres; the cluster of each point. */
export function kMeans(points: readonly Float32Array[], k: number, rng: Rng): Int32Array {
  const result = new Int32Array(points.length);
  if (points.length === 0) return result;
  const centres: Float32Array[] = [(points[rng.int(points.length)] as Float32Array).slice()];
  const nearest = Float64Array.from(points, (point) => distance(point, centres[0] as Float32Array));
  while (centres.length < Math.min(k, points.length)) {
    const total = nearest.reduce((sum, value) => sum + value, 0);
    let left = rng.next() * total;
    let chosen = nearest.findIndex((value) => {
      left -= value;
      return left < 0;
    });
    if (chosen < 0) chosen = rng.int(points.length);
    const centre = (points[chosen] as Float32Array).slice();
    centres.push(centre);
    points.forEach((point, index) => {
      nearest[index] = Math.min(nearest[index] as number, distance(point, centre));
    });
  }
  for (let round = 0; round < ROUNDS; round += 1) {
    let isMoved = false;
    points.forEach((point, index) => {
      let best = 0;
      for (let c = 1; c < centres.length; c += 1)
        if (
          distance(point, centres[c] as Float32Array) <
          distance(point, centres[best] as Float32Array)
        )
          best = c;
      if (result[index] !== best) isMoved = true;
      result[index] = best;
    });
    if (!isMoved && round > 0) break;
    centres.forEach((centre, c) => {
      const own = points.filter((_, index) => result[index] === c);
      if (own.length === 0) return;
      for (let at = 0; at < centre.length; at += 1)
        centre[at] = own.reduce((sum, point) => sum + (point[at] as number), 0) / own.length;
    });
  }
  return result;
}

function distance(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let index = 0; index < a.length; index += 1) {
    const gap = (a[index] as number) - (b[index] as number);
    sum += gap * gap;
  }
  return sum;
}

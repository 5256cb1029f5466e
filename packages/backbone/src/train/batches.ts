/** @file Which rows form which batch: seeded shuffling with length bucketing. */
import type { Rng } from "@cee/engine";

/** Rows of one epoch in batches; rows of similar length share a batch. */
export function planEpoch(
  lengths: ArrayLike<number>,
  batchSize: number,
  rng: Rng,
  /** Batches sorted together; 1 switches bucketing off. */
  bucket = 32,
): number[][] {
  const order = Array.from({ length: lengths.length }, (_, row) => row);
  rng.shuffle(order);
  const batches: number[][] = [];
  const stretch = batchSize * bucket;
  for (let start = 0; start < order.length; start += stretch) {
    const rows = order.slice(start, start + stretch);
    // Ties keep their shuffled order, so equal lengths do not fall back to file order.
    if (bucket > 1) rows.sort((a, b) => (lengths[a] as number) - (lengths[b] as number));
    for (let at = 0; at < rows.length; at += batchSize)
      batches.push(rows.slice(at, at + batchSize));
  }
  rng.shuffle(batches);
  return batches;
}

/** All rows in order of length, so that batches carry little padding: for passes that only record. */
export function planPass(lengths: ArrayLike<number>, batchSize: number): number[][] {
  const order = Array.from({ length: lengths.length }, (_, row) => row);
  order.sort((a, b) => (lengths[a] as number) - (lengths[b] as number) || a - b);
  const batches: number[][] = [];
  for (let at = 0; at < order.length; at += batchSize)
    batches.push(order.slice(at, at + batchSize));
  return batches;
}

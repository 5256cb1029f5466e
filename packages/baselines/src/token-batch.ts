/** @file Parts of padded batches. N = rows, S = padded length. */
import type { TokenBatch } from "@cee/backbone";

/** Tokens of each row, shape `[N]`; padding stands at the end. */
export function lengthsOf({ rows, length, mask }: TokenBatch): Int32Array {
  return Int32Array.from({ length: rows }, (_, row) => {
    let count = length;
    while (count > 0 && mask[row * length + count - 1] === 0) count -= 1;
    return count;
  });
}

/** The given rows, padded no further than the longest of them needs. */
export function dropPadding(batch: TokenBatch, kept: readonly number[]): TokenBatch {
  const lengths = lengthsOf(batch);
  const length = Math.max(1, ...kept.map((row) => lengths[row] as number));
  const cut = <T extends Int32Array | Float32Array>(values: T, empty: T): T => {
    kept.forEach((row, index) => {
      const start = row * batch.length;
      empty.set(values.subarray(start, start + length), index * length);
    });
    return empty;
  };
  const size = kept.length * length;
  return {
    rows: kept.length,
    length,
    ids: cut(batch.ids, new Int32Array(size)),
    types: cut(batch.types, new Int32Array(size)),
    mask: cut(batch.mask, new Float32Array(size)),
  };
}

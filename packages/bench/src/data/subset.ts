/** @file Seeded row limits. */
import { createRng } from "@cee/engine";
import { BenchError } from "../errors.js";

/** Takes `limit` rows at random, in their original order; a smaller limit takes a subset of a larger one. */
export function takeRows<TRow>(
  rows: readonly TRow[],
  limit: number | undefined,
  seed: number,
  label: string,
): readonly TRow[] {
  if (limit === undefined) return rows;
  if (!Number.isInteger(limit) || limit < 1) {
    const message = `the row limit must be a whole number >= 1, got ${limit}. Leave it out for all rows.`;
    throw new BenchError("BAD_OPTION", label, message);
  }
  if (limit >= rows.length) return rows;
  const order = shuffledIndices(rows.length, seed, label);
  return order
    .slice(0, limit)
    .sort((a, b) => a - b)
    .map((index) => rows[index]!);
}

/** 0..n-1 in an order fixed by the seed and a label. */
export function shuffledIndices(n: number, seed: number, label: string): number[] {
  const order = Array.from({ length: n }, (_, index) => index);
  return createRng(seed).fork(label).shuffle(order);
}

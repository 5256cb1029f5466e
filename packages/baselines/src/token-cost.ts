/**
 * @file What a block costs when some tokens are skipped, in multiply-adds: the analytic cost of token-wise methods.
 *
 * N = tokens of a row, n = those that are updated, H = hidden size, F = feed-forward width.
 */

export interface BlockSize {
  readonly hidden: number;
  /** @default 4 times `hidden` */
  readonly intermediate?: number;
}

/**
 * Multiply-adds of one block: `2nH² + 2NH² + 2nNH + 2nHF` (queries and output; keys and values; attention; feed-forward).
 * With all tokens active and F = 4H these are `12NH² + 2N²H`.
 */
export function blockMacs(
  active: number,
  tokens: number,
  { hidden, intermediate }: BlockSize,
): number {
  const inner = intermediate ?? 4 * hidden;
  return (
    2 * active * hidden ** 2 +
    2 * tokens * hidden ** 2 +
    2 * active * tokens * hidden +
    2 * active * hidden * inner
  );
}

/** Multiply-adds of a row whose block t updates `active[t - 1]` tokens and reads keys and values of all `tokens`. */
export function frozenTokenMacs(active: Iterable<number>, tokens: number, size: BlockSize): number {
  let total = 0;
  for (const count of active) total += blockMacs(count, tokens, size);
  return total;
}

/** Multiply-adds of a row whose block t sees nothing but `present[t - 1]` tokens. */
export function droppedTokenMacs(present: Iterable<number>, size: BlockSize): number {
  let total = 0;
  for (const count of present) total += blockMacs(count, count, size);
  return total;
}

/** Multiply-adds of a row of `tokens` through `depth` whole blocks. */
export function fullMacs(tokens: number, depth: number, size: BlockSize): number {
  return depth * blockMacs(tokens, tokens, size);
}

/** @file How far a window of exit layers has moved from the distribution stored with the model. T = layers. */

/**
 * Population stability index of two histograms, shape `[T]` each: the sum of `(p - q) ln(p / q)`. Half a request of the
 * smaller histogram is added to every layer's share of both, so that an empty layer gives a large number, not an infinite
 * one, and equal shares give 0 whatever the counts.
 */
export function stabilityIndex(observed: readonly number[], reference: readonly number[]): number {
  const totalOf = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);
  const half = 0.5 / Math.max(1, Math.min(totalOf(observed), totalOf(reference)));
  const shares = (counts: readonly number[]) => {
    const total = Math.max(1, totalOf(counts));
    return counts.map((count) => (count / total + half) / (1 + counts.length * half));
  };
  const [p, q] = [shares(observed), shares(reference)];
  return p.reduce((sum, share, index) => {
    const other = q[index] as number;
    return sum + (share - other) * Math.log(share / other);
  }, 0);
}

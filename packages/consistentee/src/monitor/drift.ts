/** @file How far a window of exit layers has moved from the distribution stored with the model. T = layers. */

/**
 * Population stability index of two histograms, shape `[T]` each: the sum of `(p - q) ln(p / q)`. Half a request is added
 * to every layer, so that an empty one gives a large number, not an infinite one.
 */
export function stabilityIndex(observed: readonly number[], reference: readonly number[]): number {
  const shares = (counts: readonly number[]) => {
    const total = counts.reduce((sum, count) => sum + count, 0) + counts.length / 2;
    return counts.map((count) => (count + 0.5) / total);
  };
  const [p, q] = [shares(observed), shares(reference)];
  return p.reduce((sum, share, index) => {
    const other = q[index] as number;
    return sum + (share - other) * Math.log(share / other);
  }, 0);
}

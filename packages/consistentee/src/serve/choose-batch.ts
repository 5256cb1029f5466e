/** @file Which waiting requests run together: the oldest, and those near it in length. */

/** Requests up to this many tokens run together whatever their lengths: padding them costs next to nothing. */
const SHORT = 32;

/**
 * Picks at most `maxBatch` places of `lengths`, which come in order of arrival. The first is always among them, so nobody
 * waits for ever; no picked request is padded to more than twice its own length, short ones aside.
 */
export function chooseBatch(lengths: readonly number[], maxBatch: number): number[] {
  const oldest = lengths[0];
  if (oldest === undefined) return [];
  const byLength = lengths.map((_, place) => place);
  const at = (index: number) => lengths[byLength[index] as number] as number;
  byLength.sort((a, b) => (lengths[a] as number) - (lengths[b] as number) || a - b);
  const position = byLength.indexOf(0);
  let best = { from: position, count: 1, padding: 0 };
  const sums = [0];
  for (let index = 0; index < byLength.length; index += 1)
    sums.push((sums[index] as number) + at(index));
  for (let from = Math.max(0, position - maxBatch + 1); from <= position; from += 1) {
    let to = Math.min(byLength.length, from + maxBatch);
    while (to > position + 1 && !fit(at(from), at(to - 1))) to -= 1;
    if (!fit(at(from), at(to - 1))) continue;
    const count = to - from;
    const padding = count * at(to - 1) - ((sums[to] as number) - (sums[from] as number));
    if (count > best.count || (count === best.count && padding < best.padding))
      best = { from, count, padding };
  }
  return byLength.slice(best.from, best.from + best.count).sort((a, b) => a - b);
}

function fit(shortest: number, longest: number): boolean {
  return longest <= SHORT || longest <= 2 * shortest;
}

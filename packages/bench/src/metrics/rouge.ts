/**
 * @file ROUGE-1, -2, -L and -Lsum as the published package `rouge_score` defines them, without stemming.
 * @see Lin 2004; `scripts/rouge_reference.py` is an independent implementation that the tests compare with
 */
export interface Overlap {
  readonly precision: number;
  readonly recall: number;
  /** Harmonic mean of both. */
  readonly f: number;
}

export interface RougeScores {
  readonly rouge1: Overlap;
  readonly rouge2: Overlap;
  /** Longest common subsequence of the texts as a whole. */
  readonly rougeL: Overlap;
  /** The same per line of the reference, united over the lines of the candidate. */
  readonly rougeLsum: Overlap;
}

/** Scores a candidate text against a reference; a text without words gives 0. */
export function rouge(candidate: string, reference: string): RougeScores {
  const [ours, theirs] = [rougeTokens(candidate), rougeTokens(reference)];
  return {
    rouge1: nGramOverlap(ours, theirs, 1),
    rouge2: nGramOverlap(ours, theirs, 2),
    rougeL: overlap(commonIndices(theirs, ours).length, ours.length, theirs.length),
    rougeLsum: summaryOverlap(lines(candidate), lines(reference)),
  };
}

/** Lower-case runs of ASCII letters and digits. */
export function rougeTokens(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
}

function lines(text: string): string[][] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map(rougeTokens);
}

function overlap(hits: number, candidate: number, reference: number): Overlap {
  const precision = hits / Math.max(candidate, 1);
  const recall = hits / Math.max(reference, 1);
  const f = precision + recall > 0 ? (2 * precision * recall) / (precision + recall) : 0;
  return { precision, recall, f };
}

function nGramOverlap(candidate: readonly string[], reference: readonly string[], n: number) {
  const [ours, theirs] = [counted(nGrams(candidate, n)), counted(nGrams(reference, n))];
  let hits = 0;
  for (const [gram, count] of theirs) hits += Math.min(count, ours.get(gram) ?? 0);
  const grams = (tokens: readonly string[]) => Math.max(0, tokens.length - n + 1);
  return overlap(hits, grams(candidate), grams(reference));
}

function nGrams(tokens: readonly string[], n: number): string[] {
  return Array.from({ length: Math.max(0, tokens.length - n + 1) }, (_, at) =>
    tokens.slice(at, at + n).join(" "),
  );
}

function counted(items: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
  return counts;
}

function summaryOverlap(candidate: readonly string[][], reference: readonly string[][]): Overlap {
  const [ours, theirs] = [counted(candidate.flat()), counted(reference.flat())];
  let hits = 0;
  for (const line of reference) {
    const found = new Set(candidate.flatMap((other) => commonIndices(line, other)));
    for (const index of [...found].sort((a, b) => a - b)) {
      const token = line[index] as string;
      const [left, right] = [ours.get(token) ?? 0, theirs.get(token) ?? 0];
      // A word counts at most as often as both texts hold it.
      if (left === 0 || right === 0) continue;
      ours.set(token, left - 1);
      theirs.set(token, right - 1);
      hits += 1;
    }
  }
  return overlap(hits, candidate.flat().length, reference.flat().length);
}

/** Places in `reference` of one longest common subsequence; of several, the one that the package takes. */
function commonIndices(reference: readonly string[], candidate: readonly string[]): number[] {
  const width = candidate.length + 1;
  const lengths = new Uint32Array((reference.length + 1) * width);
  const at = (i: number, j: number) => lengths[i * width + j] as number;
  for (let i = 1; i <= reference.length; i += 1)
    for (let j = 1; j <= candidate.length; j += 1)
      lengths[i * width + j] =
        reference[i - 1] === candidate[j - 1]
          ? at(i - 1, j - 1) + 1
          : Math.max(at(i - 1, j), at(i, j - 1));
  const found: number[] = [];
  for (let i = reference.length, j = candidate.length; i > 0 && j > 0; ) {
    if (reference[i - 1] === candidate[j - 1]) {
      found.push(i - 1);
      i -= 1;
      j -= 1;
    } else if (at(i, j - 1) > at(i - 1, j)) j -= 1;
    else i -= 1;
  }
  return found.reverse();
}

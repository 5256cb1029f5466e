/** @file Comparing methods: McNemar's test, Holm's correction, mean and standard error, special functions. */
import { BenchError } from "../errors.js";
import type { Values } from "./score.js";

export interface McNemar {
  /** Rows that only the first method got right. */
  readonly onlyFirst: number;
  /** Rows that only the second method got right. */
  readonly onlySecond: number;
  /** Two-sided exact binomial p-value. */
  readonly exactP: number;
  /** With continuity correction; 0 when the methods never disagree. */
  readonly chiSquare: number;
  readonly chiSquareP: number;
}

/** Tests whether two methods err equally often on the same rows. */
export function mcNemar(first: Values, second: Values, labels: Values): McNemar {
  if (first.length !== labels.length || second.length !== labels.length) {
    const got = `${first.length}, ${second.length} and ${labels.length}`;
    throw new BenchError("BAD_INPUT", "mcnemar", `expected rows of equal number, got ${got}.`);
  }
  let onlyFirst = 0;
  let onlySecond = 0;
  for (let row = 0; row < labels.length; row++) {
    const a = first[row] === labels[row];
    const b = second[row] === labels[row];
    if (a && !b) onlyFirst++;
    if (b && !a) onlySecond++;
  }
  const n = onlyFirst + onlySecond;
  if (n === 0) return { onlyFirst, onlySecond, exactP: 1, chiSquare: 0, chiSquareP: 1 };
  const least = Math.min(onlyFirst, onlySecond);
  let tail = 0;
  for (let k = 0; k <= least; k++) tail += Math.exp(logChoose(n, k) - n * Math.LN2);
  const chiSquare = Math.max(0, Math.abs(onlyFirst - onlySecond) - 1) ** 2 / n;
  return {
    onlyFirst,
    onlySecond,
    exactP: Math.min(1, 2 * tail),
    chiSquare,
    // One degree of freedom.
    chiSquareP: erfc(Math.sqrt(chiSquare / 2)),
  };
}

/** Holm's step-down correction: p-values that may be compared with the level of the whole family, in input order. */
export function holm(pValues: Values): number[] {
  const order = Array.from({ length: pValues.length }, (_, index) => index).sort(
    (a, b) => pValues[a]! - pValues[b]! || a - b,
  );
  const adjusted = new Array<number>(pValues.length).fill(1);
  let floor = 0;
  for (const [rank, index] of order.entries()) {
    const value = pValues[index]!;
    if (!(value >= 0 && value <= 1)) {
      throw new BenchError("BAD_INPUT", "holm", `expected p-values from 0 to 1, got ${value}.`);
    }
    floor = Math.max(floor, Math.min(1, value * (pValues.length - rank)));
    adjusted[index] = floor;
  }
  return adjusted;
}

export interface MeanAndError {
  readonly n: number;
  readonly mean: number;
  /** Of the sample (n - 1); 0 for one value. */
  readonly standardDeviation: number;
  /** Of the mean; 0 for one value, which says nothing about spread. */
  readonly standardError: number;
}

export function meanAndError(values: Values): MeanAndError {
  const n = values.length;
  if (n === 0) throw new BenchError("BAD_INPUT", "mean", "expected at least one value, got none.");
  let mean = 0;
  for (let index = 0; index < n; index++) mean += values[index]! / n;
  let squares = 0;
  for (let index = 0; index < n; index++) squares += (values[index]! - mean) ** 2;
  const standardDeviation = n === 1 ? 0 : Math.sqrt(squares / (n - 1));
  return { n, mean, standardDeviation, standardError: standardDeviation / Math.sqrt(n) };
}

/** The middle value; the mean of the two middle ones for an even count. */
export function median(values: Values): number {
  if (values.length === 0) {
    throw new BenchError("BAD_INPUT", "median", "expected at least one value, got none.");
  }
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** The value below which a share of the sorted values lies, interpolated linearly. */
export function quantile(sorted: Values, share: number): number {
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.ceil(at);
  return sorted[low]! + (at - low) * (sorted[high]! - sorted[low]!);
}

function logChoose(n: number, k: number): number {
  let sum = 0;
  for (let factor = 1; factor <= Math.min(k, n - k); factor++) {
    sum += Math.log((n - factor + 1) / factor);
  }
  return sum;
}

/** The complementary error function for x >= 0, to about 1e-15: series near 0, continued fraction beyond. */
export function erfc(x: number): number {
  if (x < 2) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 200; n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 120; n >= 1; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

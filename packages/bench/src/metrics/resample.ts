/**
 * @file One bootstrap for many statistics at once: every resample is drawn once and every statistic sees the same rows,
 * so that differences between any two of them are paired.
 *
 * n = rows, R = resamples. A resample is a weight per row: how often it was drawn, shape `[n]`.
 */
import { createRng } from "@cee/engine";
import { BenchError } from "../errors.js";
import { type MetricName, score, type Values } from "./score.js";
import { quantile } from "./statistics.js";

/** A statistic of weighted rows. */
export type WeightedStatistic = (weights: Int32Array) => number;

export interface ResampleOptions {
  readonly seed: number;
  /** @default 1000 */
  readonly resamples?: number;
}

/** One statistic: on the rows as they are, and on every resample, shape `[R]`. */
export interface Resampled {
  readonly estimate: number;
  readonly values: Float64Array;
}

/** @throws BenchError `BAD_INPUT` without rows, `BAD_OPTION` for fewer than 2 resamples */
export function resampleAll(
  n: number,
  statistics: readonly WeightedStatistic[],
  { seed, resamples = 1000 }: ResampleOptions,
): readonly Resampled[] {
  if (n === 0)
    throw new BenchError("BAD_INPUT", "bootstrap", "expected at least one row, got none.");
  if (!Number.isInteger(resamples) || resamples < 2)
    throw new BenchError(
      "BAD_OPTION",
      "bootstrap",
      `expected at least 2 resamples, got ${resamples}.`,
    );
  const rng = createRng(seed).fork("bootstrap");
  const weights = new Int32Array(n).fill(1);
  const estimates = statistics.map((statistic) => statistic(weights));
  const values = statistics.map(() => new Float64Array(resamples));
  for (let sample = 0; sample < resamples; sample += 1) {
    weights.fill(0);
    for (let at = 0; at < n; at += 1) {
      const row = rng.int(n);
      weights[row] = (weights[row] as number) + 1;
    }
    for (const [index, statistic] of statistics.entries())
      (values[index] as Float64Array)[sample] = statistic(weights);
  }
  return statistics.map((_, index) => ({
    estimate: estimates[index] as number,
    values: values[index] as Float64Array,
  }));
}

/** `first` less `second`, resample by resample. */
export function difference(first: Resampled, second: Resampled): Resampled {
  return {
    estimate: first.estimate - second.estimate,
    values: first.values.map((value, sample) => value - (second.values[sample] as number)),
  };
}

/** The percentile interval. */
export function intervalOf({ values }: Resampled, level = 0.95): readonly [number, number] {
  const sorted = values.slice().sort();
  const tail = (1 - level) / 2;
  return [quantile(sorted, tail), quantile(sorted, 1 - tail)];
}

/** Two-sided p-value that it is 0: twice the smaller share of resamples at or beyond 0, at least 1 / R. */
export function pOf({ values }: Resampled): number {
  let atMostZero = 0;
  let atLeastZero = 0;
  for (const value of values) {
    if (value <= 0) atMostZero += 1;
    if (value >= 0) atLeastZero += 1;
  }
  const share = Math.min(atMostZero, atLeastZero) / values.length;
  return Math.min(1, Math.max(2 * share, 1 / values.length));
}

/** The mean of a value per row. */
export function weightedMean(values: Values): WeightedStatistic {
  const own = Float64Array.from(values);
  return (weights) => {
    let sum = 0;
    let total = 0;
    for (let row = 0; row < own.length; row += 1) {
      const weight = weights[row] as number;
      sum += weight * (own[row] as number);
      total += weight;
    }
    return sum / total;
  };
}

/** The score of predictions; what depends on the rows alone is worked out once. */
export function weightedScore(
  metric: MetricName,
  predictions: Values,
  labels: Values,
): WeightedStatistic {
  // Refuses what `score` refuses, once.
  score(metric, predictions, labels);
  if (metric === "pearson") return weightedPearson(predictions, labels);
  if (metric === "spearman") return weightedSpearman(predictions, labels);
  return weightedByConfusion(metric, predictions, labels);
}

/** Class metrics need only how often each pair of label and answer occurs. */
function weightedByConfusion(
  metric: MetricName,
  predictions: Values,
  labels: Values,
): WeightedStatistic {
  const names = [...new Set([...Array.from(labels), ...Array.from(predictions)])];
  const index = new Map(names.map((name, at) => [name, at]));
  const size = names.length;
  const cells = Int32Array.from(
    { length: labels.length },
    (_, row) =>
      (index.get(labels[row] as number) as number) * size +
      (index.get(predictions[row] as number) as number),
  );
  const counts = new Float64Array(size * size);
  return (weights) => {
    counts.fill(0);
    for (let row = 0; row < cells.length; row += 1) {
      const cell = cells[row] as number;
      counts[cell] = (counts[cell] as number) + (weights[row] as number);
    }
    return fromConfusion(metric, counts, names);
  };
}

function fromConfusion(metric: MetricName, counts: Float64Array, names: readonly number[]): number {
  const size = names.length;
  const at = (label: number, answer: number) => counts[label * size + answer] as number;
  const actual = names.map((_, label) =>
    names.reduce((sum, __, other) => sum + at(label, other), 0),
  );
  const answered = names.map((_, answer) =>
    names.reduce((sum, __, other) => sum + at(other, answer), 0),
  );
  const total = actual.reduce((sum, count) => sum + count, 0);
  const right = names.reduce((sum, _, label) => sum + at(label, label), 0);
  if (metric === "accuracy") return right / total;
  if (metric === "f1") {
    const positive = names.indexOf(1);
    if (positive < 0) return 0;
    const sum = (actual[positive] as number) + (answered[positive] as number);
    return sum === 0 ? 0 : (2 * at(positive, positive)) / sum;
  }
  if (metric === "balanced-accuracy") {
    const present = names.map((_, label) => label).filter((label) => actual[label] !== 0);
    return (
      present.reduce((sum, label) => sum + at(label, label) / (actual[label] as number), 0) /
      present.length
    );
  }
  const cross = names.reduce(
    (sum, _, label) => sum + (actual[label] as number) * (answered[label] as number),
    0,
  );
  const squares = (of: readonly number[]) => of.reduce((sum, count) => sum + count * count, 0);
  const spread = (total * total - squares(answered)) * (total * total - squares(actual));
  return spread === 0 ? 0 : (right * total - cross) / Math.sqrt(spread);
}

function weightedPearson(first: Values, second: Values): WeightedStatistic {
  const a = Float64Array.from(first);
  const b = Float64Array.from(second);
  return (weights) => correlate(a, b, weights);
}

/** Average ranks of a resample follow from the order of all rows: a group of ties takes up the sum of its weights. */
function weightedSpearman(first: Values, second: Values): WeightedStatistic {
  const a = ranker(first);
  const b = ranker(second);
  return (weights) => correlate(a(weights), b(weights), weights);
}

function ranker(values: Values): (weights: Int32Array) => Float64Array {
  const order = Int32Array.from({ length: values.length }, (_, row) => row).sort(
    (x, y) => (values[x] as number) - (values[y] as number),
  );
  const ranks = new Float64Array(values.length);
  return (weights) => {
    let before = 0;
    for (let start = 0; start < order.length; ) {
      let end = start;
      let sum = 0;
      while (
        end < order.length &&
        values[order[end] as number] === values[order[start] as number]
      ) {
        sum += weights[order[end] as number] as number;
        end += 1;
      }
      for (let at = start; at < end; at += 1) ranks[order[at] as number] = before + (sum + 1) / 2;
      before += sum;
      start = end;
    }
    return ranks;
  };
}

/** 0 where one side is constant, as `pearson` has it. */
function correlate(a: Float64Array, b: Float64Array, weights: Int32Array): number {
  let [total, sumA, sumB] = [0, 0, 0];
  let [lowA, highA, lowB, highB] = [
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ];
  for (let row = 0; row < a.length; row += 1) {
    const weight = weights[row] as number;
    if (weight === 0) continue;
    const [x, y] = [a[row] as number, b[row] as number];
    total += weight;
    sumA += weight * x;
    sumB += weight * y;
    lowA = Math.min(lowA, x);
    highA = Math.max(highA, x);
    lowB = Math.min(lowB, y);
    highB = Math.max(highB, y);
  }
  if (lowA === highA || lowB === highB) return 0;
  const [meanA, meanB] = [sumA / total, sumB / total];
  let [product, squaresA, squaresB] = [0, 0, 0];
  for (let row = 0; row < a.length; row += 1) {
    const weight = weights[row] as number;
    if (weight === 0) continue;
    const x = (a[row] as number) - meanA;
    const y = (b[row] as number) - meanB;
    product += weight * x * y;
    squaresA += weight * x * x;
    squaresB += weight * y * y;
  }
  return Math.max(-1, Math.min(1, product / Math.sqrt(squaresA * squaresB)));
}

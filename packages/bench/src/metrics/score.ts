/**
 * @file Scores of a set of predictions against labels, all as fractions (accuracy 0.91, not 91).
 *
 * A score that is undefined (no positive was predicted, a constant column) is 0: it can't beat any other.
 */
import { BenchError } from "../errors.js";

export type MetricName = "accuracy" | "balanced-accuracy" | "f1" | "mcc" | "pearson" | "spearman";

/** Predictions and labels: class indices, or numbers for the correlations. */
export type Values = ArrayLike<number>;

const metrics: Readonly<Record<MetricName, (predictions: Values, labels: Values) => number>> = {
  accuracy,
  "balanced-accuracy": balancedAccuracy,
  f1,
  mcc: matthews,
  pearson,
  spearman,
};

export const metricNames = Object.keys(metrics) as readonly MetricName[];

/** Scores by name. @throws BenchError `BAD_INPUT` for no rows, unequal lengths or numbers that aren't finite */
export function score(metric: MetricName, predictions: Values, labels: Values): number {
  return metrics[metric](predictions, labels);
}

/** The share of rows with the right class. */
export function accuracy(predictions: Values, labels: Values): number {
  check("accuracy", predictions, labels);
  let right = 0;
  for (let row = 0; row < labels.length; row++) if (predictions[row] === labels[row]) right++;
  return right / labels.length;
}

export interface ClassAccuracy {
  readonly label: number;
  /** Rows with this label. */
  readonly n: number;
  /** The share of them that was recognised (recall). */
  readonly accuracy: number;
  /** Rows that were given this label. */
  readonly predicted: number;
}

/** Accuracy per class, for every class that occurs among labels or predictions, in class order. */
export function perClassAccuracy(predictions: Values, labels: Values): ClassAccuracy[] {
  check("per-class accuracy", predictions, labels);
  const classes = new Map<number, { n: number; right: number; predicted: number }>();
  const of = (label: number) => {
    const entry = classes.get(label) ?? { n: 0, right: 0, predicted: 0 };
    classes.set(label, entry);
    return entry;
  };
  for (let row = 0; row < labels.length; row++) {
    const entry = of(labels[row]!);
    entry.n++;
    if (predictions[row] === labels[row]) entry.right++;
    of(predictions[row]!).predicted++;
  }
  return [...classes]
    .sort(([a], [b]) => a - b)
    .map(([label, { n, right, predicted }]) => ({
      label,
      n,
      accuracy: n === 0 ? 0 : right / n,
      predicted,
    }));
}

/** The mean of the accuracies of the classes that occur among the labels. */
export function balancedAccuracy(predictions: Values, labels: Values): number {
  const present = perClassAccuracy(predictions, labels).filter(({ n }) => n > 0);
  return present.reduce((sum, entry) => sum + entry.accuracy, 0) / present.length;
}

/** F1 of one class against all others. */
export function f1(predictions: Values, labels: Values, positive = 1): number {
  check("f1", predictions, labels);
  let both = 0;
  let predicted = 0;
  let actual = 0;
  for (let row = 0; row < labels.length; row++) {
    const isPredicted = predictions[row] === positive;
    const isActual = labels[row] === positive;
    if (isPredicted) predicted++;
    if (isActual) actual++;
    if (isPredicted && isActual) both++;
  }
  return predicted + actual === 0 ? 0 : (2 * both) / (predicted + actual);
}

/** Matthews correlation; with more than two classes, its generalisation R_K. */
export function matthews(predictions: Values, labels: Values): number {
  const classes = perClassAccuracy(predictions, labels);
  const total = labels.length;
  let right = 0;
  let cross = 0;
  let predictedSquares = 0;
  let actualSquares = 0;
  for (const { n, accuracy: share, predicted } of classes) {
    right += Math.round(share * n);
    cross += n * predicted;
    predictedSquares += predicted * predicted;
    actualSquares += n * n;
  }
  const spread = (total * total - predictedSquares) * (total * total - actualSquares);
  return spread === 0 ? 0 : (right * total - cross) / Math.sqrt(spread);
}

/** Pearson's correlation. */
export function pearson(predictions: Values, labels: Values): number {
  check("pearson", predictions, labels);
  const n = labels.length;
  let meanA = 0;
  let meanB = 0;
  for (let row = 0; row < n; row++) {
    meanA += predictions[row]! / n;
    meanB += labels[row]! / n;
  }
  let product = 0;
  let squaresA = 0;
  let squaresB = 0;
  for (let row = 0; row < n; row++) {
    const a = predictions[row]! - meanA;
    const b = labels[row]! - meanB;
    product += a * b;
    squaresA += a * a;
    squaresB += b * b;
  }
  // The means of a constant column carry rounding, so its spread is tiny instead of 0.
  if (isConstant(predictions) || isConstant(labels)) return 0;
  return Math.max(-1, Math.min(1, product / Math.sqrt(squaresA * squaresB)));
}

/** Spearman's correlation: Pearson's on ranks, ties getting their average rank. */
export function spearman(predictions: Values, labels: Values): number {
  check("spearman", predictions, labels);
  return pearson(averageRanks(predictions), averageRanks(labels));
}

/** Ranks from 1; equal values share the mean of their ranks. */
export function averageRanks(values: Values): Float64Array {
  const order = Array.from({ length: values.length }, (_, index) => index).sort(
    (a, b) => values[a]! - values[b]!,
  );
  const ranks = new Float64Array(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end]!] === values[order[start]!]) end++;
    for (let at = start; at < end; at++) ranks[order[at]!] = (start + 1 + end) / 2;
    start = end;
  }
  return ranks;
}

function isConstant(values: Values): boolean {
  for (let row = 1; row < values.length; row++) if (values[row] !== values[0]) return false;
  return true;
}

function check(who: string, predictions: Values, labels: Values): void {
  if (labels.length === 0) {
    throw new BenchError("BAD_INPUT", who, "expected at least one row, got none.");
  }
  if (predictions.length !== labels.length) {
    throw new BenchError(
      "BAD_INPUT",
      who,
      `expected as many predictions as labels, got ${predictions.length} and ${labels.length}.`,
    );
  }
  for (let row = 0; row < labels.length; row++) {
    if (Number.isFinite(predictions[row]) && Number.isFinite(labels[row])) continue;
    throw new BenchError(
      "BAD_INPUT",
      who,
      `expected finite numbers, got prediction ${predictions[row]} and label ${labels[row]} at row ${row}.`,
    );
  }
}

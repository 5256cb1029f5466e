/**
 * @file What a sceptic asks of one row of the table: intervals by paired bootstrap, scores and exits per class, and
 * whether early exits are more than the majority class.
 */
import {
  difference,
  intervalOf,
  pOf,
  type Resampled,
  resampleAll,
  type WeightedStatistic,
  weightedMean,
  weightedScore,
} from "../metrics/resample.js";
import { type MetricName, perClassAccuracy, type Values } from "../metrics/score.js";
import type { ClassFields, EarlyExitFields, RowIntervals } from "../results.js";

/** What one operating point answered, row by row. */
export interface PointAnswers {
  readonly predictions: Values;
  readonly exitLayers: Values | null;
}

export interface IntervalOptions {
  readonly metric: MetricName;
  readonly labels: Values;
  /** The same model's predictions at full depth. */
  readonly full: Values;
  /** Every method of a split and seed has to use the same one. */
  readonly seed: number;
  /** @default 1000 */
  readonly resamples?: number;
}

const LEVEL = 0.95;

/** Intervals of several points of one method, in input order, all on the same resamples. */
export function rowIntervals(
  points: readonly PointAnswers[],
  { metric, labels, full, seed, resamples = 1000 }: IntervalOptions,
): RowIntervals[] {
  const statistics: WeightedStatistic[] = [weightedScore(metric, full, labels)];
  for (const { predictions, exitLayers } of points) {
    statistics.push(weightedScore(metric, predictions, labels));
    // A place for each, so that they are found again.
    statistics.push(exitLayers === null ? () => 0 : weightedMean(exitLayers));
  }
  const [reference, ...rest] = resampleAll(labels.length, statistics, { seed, resamples });
  return points.map(({ exitLayers }, index) => {
    const score = rest[2 * index] as Resampled;
    const exits = rest[2 * index + 1] as Resampled;
    const gap = difference(score, reference as Resampled);
    const [low, high] = intervalOf(gap, LEVEL);
    return {
      level: LEVEL,
      resamples,
      score: intervalOf(score, LEVEL),
      meanExitLayer: exitLayers === null ? null : intervalOf(exits, LEVEL),
      scoreDifference: { low, high, p: pOf(gap) },
    };
  });
}

/** Recall, answers and mean exit layer of every class that occurs. */
export function classFields(
  { predictions, exitLayers }: PointAnswers,
  labels: Values,
  names: readonly string[],
): ClassFields[] {
  return perClassAccuracy(predictions, labels).map(({ label, n, accuracy, predicted }) => ({
    label: names[label] ?? String(label),
    n,
    accuracy,
    predicted,
    meanExitLayer: exitLayers === null || n === 0 ? null : meanExitOf(label, exitLayers, labels),
  }));
}

function meanExitOf(label: number, exitLayers: Values, labels: Values): number {
  let sum = 0;
  let n = 0;
  for (let row = 0; row < labels.length; row += 1) {
    if (labels[row] !== label) continue;
    sum += exitLayers[row] as number;
    n += 1;
  }
  return sum / n;
}

/** Fewer early rows say nothing about a class. */
const LEAST_EARLY = 10;
/** Answers of one class above this share are "nothing but" that class. */
const NEARLY_ALL = 0.99;

/** Looks at what leaves early: in the first half of the layers, or before the last where nothing leaves in that half. */
export function earlyExitFields(
  { predictions, exitLayers }: PointAnswers & { readonly exitLayers: Values },
  labels: Values,
  names: readonly string[],
  layers: number,
): EarlyExitFields {
  const rowsUpTo = (layer: number) =>
    Array.from({ length: labels.length }, (_, row) => row).filter(
      (row) => (exitLayers[row] as number) <= layer,
    );
  const half = Math.floor(layers / 2);
  const inHalf = rowsUpTo(half);
  const upTo = inHalf.length > 0 ? half : layers - 1;
  const rows = inHalf.length > 0 ? inHalf : rowsUpTo(layers - 1);
  const [answer, count] = mostFrequent(rows.map((row) => predictions[row] as number)) ?? [];
  const [majority] = mostFrequent(Array.from(labels)) ?? [];
  const share = count === undefined ? 0 : count / rows.length;
  const isMajority = answer !== undefined && answer === majority;
  return {
    upTo,
    n: rows.length,
    answer: answer === undefined ? "" : (names[answer] ?? String(answer)),
    share,
    isMajority,
    majorityOnly: rows.length >= LEAST_EARLY && isMajority && share >= NEARLY_ALL,
  };
}

/** The most frequent value with its count; the lowest of equally frequent ones. */
function mostFrequent(
  values: readonly number[],
): readonly [value: number, count: number] | undefined {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0])[0];
}

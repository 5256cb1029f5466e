/** @file Bootstrap intervals over rows, paired where two methods answered the same rows. */
import { createRng } from "@cee/engine";
import { BenchError } from "../errors.js";
import { type MetricName, score, type Values } from "./score.js";
import { quantile } from "./statistics.js";

export interface BootstrapOptions {
  readonly seed: number;
  /** @default 1000 */
  readonly resamples?: number;
  /** @default 0.95 */
  readonly level?: number;
}

export interface Interval {
  /** The statistic on the rows as they are. */
  readonly estimate: number;
  /** Percentile interval. */
  readonly low: number;
  readonly high: number;
  /** Standard deviation over the resamples. */
  readonly standardError: number;
}

export interface PairedInterval extends Interval {
  /** Two-sided: twice the smaller share of resamples at or beyond 0, at least 1 / resamples. */
  readonly p: number;
}

/**
 * Resamples rows and computes a statistic of each resample.
 * @param statistic gets row indices; the array is reused between calls.
 */
export function bootstrap(
  n: number,
  statistic: (rows: Int32Array) => number,
  options: BootstrapOptions,
): Interval {
  const { estimate, sorted } = resample(n, statistic, options);
  return toInterval(estimate, sorted, options.level ?? 0.95);
}

/** The interval of one score. */
export function bootstrapScore(
  metric: MetricName,
  predictions: Values,
  labels: Values,
  options: BootstrapOptions,
): Interval {
  checkLengths(predictions, labels);
  const takeA = gather(predictions);
  const takeB = gather(labels);
  return bootstrap(labels.length, (rows) => score(metric, takeA(rows), takeB(rows)), options);
}

/** The interval of a mean, such as the mean exit layer. */
export function bootstrapMean(values: Values, options: BootstrapOptions): Interval {
  return bootstrap(values.length, (rows) => meanOf(values, rows), options);
}

/** The interval of the score of `first` less that of `second`, both on the same resampled rows. */
export function pairedBootstrap(
  metric: MetricName,
  first: Values,
  second: Values,
  labels: Values,
  options: BootstrapOptions,
): PairedInterval {
  checkLengths(first, labels);
  checkLengths(second, labels);
  const takeFirst = gather(first);
  const takeSecond = gather(second);
  const takeLabels = gather(labels);
  return paired(
    labels.length,
    (rows) => {
      const truth = takeLabels(rows);
      return score(metric, takeFirst(rows), truth) - score(metric, takeSecond(rows), truth);
    },
    options,
  );
}

/** The interval of the mean of `first` less that of `second`, row by row: exit layers of two methods. */
export function pairedBootstrapMean(
  first: Values,
  second: Values,
  options: BootstrapOptions,
): PairedInterval {
  checkLengths(first, second);
  const difference = (rows: Int32Array) => meanOf(first, rows) - meanOf(second, rows);
  return paired(first.length, difference, options);
}

function paired(
  n: number,
  statistic: (rows: Int32Array) => number,
  options: BootstrapOptions,
): PairedInterval {
  const { estimate, sorted } = resample(n, statistic, options);
  let atMostZero = 0;
  let atLeastZero = 0;
  for (const value of sorted) {
    if (value <= 0) atMostZero++;
    if (value >= 0) atLeastZero++;
  }
  const share = Math.min(atMostZero, atLeastZero) / sorted.length;
  const p = Math.min(1, Math.max(2 * share, 1 / sorted.length));
  return { ...toInterval(estimate, sorted, options.level ?? 0.95), p };
}

function resample(
  n: number,
  statistic: (rows: Int32Array) => number,
  { seed, resamples = 1000, level = 0.95 }: BootstrapOptions,
): { estimate: number; sorted: Float64Array } {
  if (n === 0)
    throw new BenchError("BAD_INPUT", "bootstrap", "expected at least one row, got none.");
  if (!Number.isInteger(resamples) || resamples < 2 || !(level > 0 && level < 1)) {
    const message = `expected at least 2 resamples and a level between 0 and 1, got ${resamples} and ${level}.`;
    throw new BenchError("BAD_OPTION", "bootstrap", message);
  }
  const rng = createRng(seed).fork("bootstrap");
  const rows = Int32Array.from({ length: n }, (_, index) => index);
  const estimate = statistic(rows);
  const values = new Float64Array(resamples);
  for (let sample = 0; sample < resamples; sample++) {
    for (let at = 0; at < n; at++) rows[at] = rng.int(n);
    values[sample] = statistic(rows);
  }
  return { estimate, sorted: values.sort() };
}

function toInterval(estimate: number, sorted: Float64Array, level: number): Interval {
  const tail = (1 - level) / 2;
  let mean = 0;
  for (const value of sorted) mean += value / sorted.length;
  let squares = 0;
  for (const value of sorted) squares += (value - mean) ** 2;
  return {
    estimate,
    low: quantile(sorted, tail),
    high: quantile(sorted, 1 - tail),
    standardError: Math.sqrt(squares / (sorted.length - 1)),
  };
}

function meanOf(values: Values, rows: Int32Array): number {
  let sum = 0;
  for (const row of rows) sum += values[row]!;
  return sum / rows.length;
}

/** Collects values by row into one array that is reused. */
function gather(values: Values): (rows: Int32Array) => Float64Array {
  const taken = new Float64Array(values.length);
  return (rows) => {
    for (let at = 0; at < rows.length; at++) taken[at] = values[rows[at]!]!;
    return taken;
  };
}

function checkLengths(first: Values, second: Values): void {
  if (first.length === second.length) return;
  const message = `expected rows of equal number, got ${first.length} and ${second.length}.`;
  throw new BenchError("BAD_INPUT", "bootstrap", message);
}

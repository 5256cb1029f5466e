/** @file The paired bootstrap interval of one difference of scores. */
import {
  difference,
  intervalOf,
  pOf,
  type Resampled,
  resampleAll,
  weightedScore,
} from "./resample.js";
import type { MetricName, Values } from "./score.js";
import { meanAndError } from "./statistics.js";

export interface BootstrapOptions {
  readonly seed: number;
  /** @default 1000 */
  readonly resamples?: number;
  /** @default 0.95 */
  readonly level?: number;
}

export interface PairedInterval {
  /** The difference on the rows as they are. */
  readonly estimate: number;
  /** Percentile interval. */
  readonly low: number;
  readonly high: number;
  /** Standard deviation over the resamples. */
  readonly standardError: number;
  /** Two-sided: twice the smaller share of resamples at or beyond 0, at least 1 / resamples. */
  readonly p: number;
}

/**
 * The interval of the score of `first` less that of `second`, both on the same resampled rows.
 * @throws BenchError `BAD_INPUT` for rows of unequal number or none, `BAD_OPTION`
 */
export function pairedBootstrap(
  metric: MetricName,
  first: Values,
  second: Values,
  labels: Values,
  { level = 0.95, ...options }: BootstrapOptions,
): PairedInterval {
  const scores = [first, second].map((predictions) => weightedScore(metric, predictions, labels));
  const [own, other] = resampleAll(labels.length, scores, options) as [Resampled, Resampled];
  const gap = difference(own, other);
  const [low, high] = intervalOf(gap, level);
  const { standardDeviation: standardError } = meanAndError(gap.values);
  return { estimate: gap.estimate, low, high, standardError, p: pOf(gap) };
}

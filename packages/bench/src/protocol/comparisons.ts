/**
 * @file Methods against each other on the same rows: paired bootstrap of score and mean exit layer, McNemar's test, and
 * Holm's correction over all pairs.
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
import type { MetricName, Values } from "../metrics/score.js";
import { holm, type McNemar, mcNemar } from "../metrics/statistics.js";
import type { Comparison, DifferenceFields } from "../results.js";
import type { PointAnswers } from "./row-statistics.js";

/** One method's answers at the operating point that is compared. */
export interface Contestant extends PointAnswers {
  readonly method: string;
}

export interface CompareOptions
  extends Pick<Comparison, "task" | "split" | "seed" | "operatingPoint"> {
  readonly metric: MetricName;
  readonly labels: Values;
  /** @default 1000 */
  readonly resamples?: number;
}

/** Every pair once, earlier methods first; empty for fewer than two. */
export function compareAll(
  contestants: readonly Contestant[],
  { metric, labels, resamples = 1000, ...where }: CompareOptions,
): Comparison[] {
  if (contestants.length < 2) return [];
  const statistics: WeightedStatistic[] = contestants.flatMap(({ predictions, exitLayers }) => [
    weightedScore(metric, predictions, labels),
    exitLayers === null ? () => 0 : weightedMean(exitLayers),
  ]);
  const resampled = resampleAll(labels.length, statistics, { seed: where.seed, resamples });
  const isClassification = metric !== "pearson" && metric !== "spearman";

  const pairs = contestants.flatMap((first, at) =>
    contestants.slice(at + 1).map((second, after) => {
      const [a, b] = [2 * at, 2 * (at + 1 + after)];
      const hasExits = first.exitLayers !== null && second.exitLayers !== null;
      return {
        first: first.method,
        second: second.method,
        score: difference(resampled[a] as Resampled, resampled[b] as Resampled),
        exits: hasExits
          ? difference(resampled[a + 1] as Resampled, resampled[b + 1] as Resampled)
          : undefined,
        mcNemar: isClassification
          ? mcNemar(first.predictions, second.predictions, labels)
          : undefined,
      };
    }),
  );
  const scoreP = holm(pairs.map(({ score }) => pOf(score)));
  const withExits = pairs.filter(({ exits }) => exits !== undefined);
  const exitP = holm(withExits.map(({ exits }) => pOf(exits as Resampled)));
  const mcNemarP = holm(pairs.map(({ mcNemar: test }) => test?.exactP ?? 1));
  return pairs.map(({ first, second, score, exits, mcNemar: test }, index) => ({
    ...where,
    first,
    second,
    scoreDifference: differenceFields(score, scoreP[index] as number),
    exitDifference: exits
      ? differenceFields(
          exits,
          exitP[withExits.findIndex((pair) => pair.exits === exits)] as number,
        )
      : null,
    mcNemar: test ? mcNemarFields(test, mcNemarP[index] as number) : null,
  }));
}

function differenceFields(resampled: Resampled, holmP: number): DifferenceFields {
  const [low, high] = intervalOf(resampled);
  return { estimate: resampled.estimate, low, high, p: pOf(resampled), holmP };
}

function mcNemarFields({ onlyFirst, onlySecond, exactP }: McNemar, holmP: number) {
  return { onlyFirst, onlySecond, p: exactP, holmP };
}

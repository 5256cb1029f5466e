/** @file Which parts of a model have been trained, by what gradients have reached. */
import type { FitTrained, LoopOptions } from "./fit.js";
import type { TrainingSubject } from "./subject.js";

/** Adds what this run's gradients have reached to what was trained before. */
export function trainedParts<TText>(
  subject: TrainingSubject<TText>,
  { params, trained: before }: LoopOptions<TText>,
  reached: ReadonlySet<string>,
): FitTrained {
  const paths = [...reached].sort();
  const isReached = (prefix: string) => paths.some((path) => path.startsWith(prefix));
  return {
    heads: subject.trainedHeads(before, params, isReached),
    strategy: before?.strategy === true || isReached("strategy."),
    paths,
  };
}

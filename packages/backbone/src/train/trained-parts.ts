/** @file Which parts of a model have been trained, by what gradients have reached. */
import type { FitOptions, FitTrained } from "./fit.js";

/** Adds what this run's gradients have reached to what was trained before. */
export function trainedParts(
  { model, params, trained: before }: FitOptions,
  reached: ReadonlySet<string>,
): FitTrained {
  const paths = [...reached].sort();
  const isReached = (prefix: string) => paths.some((path) => path.startsWith(prefix));
  const heads = Array.from({ length: model.shape.depth }, (_, index) => index + 1).filter(
    (layer) => {
      const own = `heads.${layer}.`;
      // A head without parameters of its own stands on the shared ones.
      const hasOwn = Object.keys(params).some((path) => path.startsWith(own));
      return before?.heads.includes(layer) || isReached(hasOwn ? own : "heads.shared.");
    },
  );
  return { heads, strategy: before?.strategy === true || isReached("strategy."), paths };
}

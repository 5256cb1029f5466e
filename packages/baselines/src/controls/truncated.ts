/**
 * @file The truncated model: the first t blocks with a classifier on top, trained for that depth alone. An exit model that
 * leaves at layer t on average has to be better than this to be worth its trouble.
 */
import { BackboneError } from "@cee/backbone";
import type { ModelShape, PhasePlan } from "@cee/exit-policies";
import { layers, lossAt } from "../losses.js";
import type { PhaseSettings } from "../recipe.js";

/** Everything that a model cut after `depth` blocks consists of, as paths for a phase's `trains`. */
export function truncatedPaths(depth: number): string[] {
  return [
    "backbone.embeddings.**",
    ...layers(1, depth).map((layer) => `backbone.encoder.layer.${layer - 1}.**`),
    "backbone.pooler.**",
    `heads.${depth}.**`,
    "heads.shared.**",
  ];
}

/**
 * Plans one phase that trains the model cut after `depth` blocks; deeper blocks and other heads stay as they are, and are
 * not computed. `openFlat(engine, model, params, depth)` then runs it.
 * @throws BackboneError `BAD_OPTION` for a depth that the model does not have
 */
export function* truncatedPlan(
  shape: ModelShape,
  depth: number,
  settings: PhaseSettings,
): PhasePlan {
  if (!Number.isInteger(depth) || depth < 1 || depth > shape.depth)
    throw new BackboneError(
      "BAD_OPTION",
      "truncated",
      `the depth must be a whole number from 1 to ${shape.depth}, got ${depth}.`,
    );
  yield {
    name: `truncated-${depth}`,
    trains: truncatedPaths(depth),
    ...settings,
    losses: { last: (step) => lossAt(step, depth) },
  };
}

/**
 * @file PABEE: all exits are trained together on the weighted loss; exit when enough consecutive answers agree.
 * @see Zhou et al. 2020, sections 3.2 and 3.3
 */
import { linear } from "@cee/backbone";
import { defineExitStrategy, type ModelShape, type PhasePlan, patience } from "@cee/exit-policies";
import * as v from "valibot";
import { weightedLoss } from "./losses.js";
import { jointPhase } from "./phases.js";
import { phaseSettings, type Recipe } from "./recipe.js";

const options = v.strictObject({
  ...patience.definition.options.entries,
  // Deviates from the paper: it searches batch size and learning rate and stops early; these are the released script's.
  /** All exits together. */
  joint: phaseSettings({ epochs: 5, batchSize: 32, learningRate: 2e-5, warmup: 0 }),
});

const strategy = defineExitStrategy({
  ...patience.definition,
  name: "pabee",
  options,
  phases: plan,
});

function* plan(_: ModelShape, { joint }: v.InferOutput<typeof options>): PhasePlan {
  yield jointPhase(joint, "weighted", weightedLoss);
}

export const pabee: Recipe<typeof strategy> = { strategy, head: linear };

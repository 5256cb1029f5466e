/**
 * @file PCEE-BERT: all exits are trained together on the weighted loss; exit after enough consecutive confident layers.
 * @see Zhang et al. 2022, sections 3.2 and 3.3
 */
import { linear } from "@cee/backbone";
import { defineExitStrategy, type ModelShape, type PhasePlan, pcee } from "@cee/exit-policies";
import * as v from "valibot";
import { weightedLoss } from "./losses.js";
import { jointPhase } from "./phases.js";
import { phaseSettings, type Recipe } from "./recipe.js";

const options = v.strictObject({
  ...pcee.definition.options.entries,
  // Deviates from the released code: its warm-up is 200 steps, which are 6 % of this schedule on MRPC; and it keeps
  // the best checkpoint on the dev set, here the last epoch stays.
  /** All exits together. */
  joint: phaseSettings({ epochs: 15, batchSize: 16, learningRate: 2e-5, warmup: 0.06 }),
});

const strategy = defineExitStrategy({
  ...pcee.definition,
  name: "pcee-bert",
  options,
  phases: plan,
});

function* plan(_: ModelShape, { joint }: v.InferOutput<typeof options>): PhasePlan {
  yield jointPhase(joint, "ascending", weightedLoss);
}

export const pceeBert: Recipe<typeof strategy> = { strategy, head: linear };

/**
 * @file DeeBERT: the final classifier is trained with the encoder, then the highways below it on the frozen encoder;
 * exit when the entropy of the answer falls below a threshold.
 * @see Xin et al. 2020, sections 3.1 and 3.2
 */
import { highway } from "@cee/backbone";
import { defineExitStrategy, entropy, type ModelShape, type PhasePlan } from "@cee/exit-policies";
import * as v from "valibot";
import { lossOver } from "./losses.js";
import { exitsPhase, finalPhase } from "./phases.js";
import { type PhaseSettings, phaseSettings, type Recipe } from "./recipe.js";

const published: PhaseSettings = { epochs: 3, batchSize: 8, learningRate: 2e-5, warmup: 0 };

const options = v.strictObject({
  ...entropy.definition.options.entries,
  /** Encoder and final classifier. */
  final: phaseSettings(published),
  /** Highways of the layers below. */
  highways: phaseSettings(published),
});

const strategy = defineExitStrategy({
  ...entropy.definition,
  name: "deebert",
  options,
  phases: plan,
});

function* plan(shape: ModelShape, { final, highways }: v.InferOutput<typeof options>): PhasePlan {
  // The highway head has a pooler at every layer; the backbone's own is only what they start from.
  yield finalPhase(shape, final, { sharesPooler: false });
  const { depth } = shape;
  if (depth === 1) return;
  // Deviates from the released code: it clips by a norm that includes the gradients of what is frozen.
  yield exitsPhase(shape, "highways", highways, (step) => lossOver(step, 1, depth - 1));
}

/** Needs the highway head, whose last layer is the final classifier: no untrained highway stands beside it. */
export const deebert: Recipe<typeof strategy> = { strategy, head: highway };

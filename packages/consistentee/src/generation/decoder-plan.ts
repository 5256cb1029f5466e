/**
 * @file ConsistentEE's training for decoders: the plan of classification, every token an episode of its own.
 * @see Zeng et al. 2024, "Generation"
 */
import type { ModelShape, PhasePlan } from "@cee/exit-policies";
import type { ConsistentEEInput, ConsistentEEOptions } from "../options.js";
import { resolveOptions } from "../options.js";
import { consistentEEPlan, initialisePhase, policyPhase } from "../phases.js";

export interface DecoderPlanParts {
  /** `per-layer`: heads of their own, which the task step trains; `shared`: nothing is left to train after step 1. */
  readonly heads: "shared" | "per-layer";
  /** Step 1 trains adapters in place of the whole backbone. */
  readonly lora: boolean;
}

/** Options with the vanilla reward, which the paper takes for generation. @throws ConsistentEEError `BAD_OPTION` naming the option */
export function decoderOptions(options: ConsistentEEInput = {}): ConsistentEEOptions {
  return resolveOptions({ reward: "vanilla", ...options });
}

/** What step 1 of a decoder trains: adapters or the backbone, and heads where layers have their own. */
export function initialisedParts({ heads, lora }: DecoderPlanParts): readonly string[] {
  return [lora ? "lora.**" : "backbone.**", ...(heads === "per-layer" ? ["heads.**"] : [])];
}

/**
 * Plans the training for `fitDecoder`: all exits on the weighted loss; then, with the backbone frozen, policies from
 * recorded states and heads at the layers where their tokens leave.
 */
export function* consistentEEDecoderPlan(
  shape: ModelShape,
  options: ConsistentEEOptions,
  parts: DecoderPlanParts,
): PhasePlan {
  if (!options.initialised) yield initialisePhase(options.initialise, initialisedParts(parts));
  if (shape.depth === 1) return;
  if (parts.heads === "per-layer")
    yield* consistentEEPlan(shape, { ...options, initialised: true }, ["heads.**"]);
  else yield policyPhase(options, 1);
}

/** @file Phases that several recipes share: all exits together, the last exit with the encoder, exits on a frozen encoder. */
import type { ModelShape, PhaseLoss, TrainingPhase } from "@cee/exit-policies";
import { layers, lossAt } from "./losses.js";
import type { PhaseSettings } from "./recipe.js";

/** Encoder and all exits on one loss. */
export function jointPhase(settings: PhaseSettings, name: string, loss: PhaseLoss): TrainingPhase {
  return {
    name: "joint",
    trains: ["backbone.**", "heads.**"],
    ...settings,
    losses: { [name]: loss },
  };
}

/** Encoder and last exit on the last answer's loss: what ordinary fine-tuning does. */
export function finalPhase(
  { depth }: ModelShape,
  settings: PhaseSettings,
  { sharesPooler }: { readonly sharesPooler: boolean },
): TrainingPhase {
  return {
    name: "final",
    trains: [
      "backbone.embeddings.**",
      "backbone.encoder.**",
      ...(sharesPooler ? ["backbone.pooler.**"] : []),
      `heads.${depth}.**`,
    ],
    ...settings,
    losses: { final: (step) => lossAt(step, depth) },
  };
}

/** The exits below the last, on an encoder that stays as it is. */
export function exitsPhase(
  { depth }: ModelShape,
  name: string,
  settings: PhaseSettings,
  loss: PhaseLoss,
): TrainingPhase {
  return {
    name,
    trains: layers(1, depth - 1).map((layer) => `heads.${layer}.**`),
    ...settings,
    losses: { [name]: loss },
  };
}

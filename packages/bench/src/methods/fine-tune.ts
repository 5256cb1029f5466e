/** @file Settings of trainings that start from a model whose exits are trained already, or from a pre-trained one. */
import type { PhaseSettings } from "@cee/baselines";
import { consistentEEPresets } from "@cee/consistentee";
import type { TrainingSpec, Workbench } from "./method.js";
import { initialiseSpec, rateFor } from "./strategy-method.js";

/**
 * Where a training starts. A small encoder that starts from nothing does not learn through twelve layers from the last
 * classifier alone, so the small preset goes on from the training on all exits; the paper's starts from the backbone.
 */
export function parentOf(bench: Workbench): { readonly parent?: TrainingSpec } {
  return bench.preset === "small" ? { parent: initialiseSpec(bench) } : {};
}

const { initialise, task } = consistentEEPresets.small;

/** In the small preset: goes on from trained exits, gently, because the encoder moves. */
export function gentle(bench: Workbench, epochs = 1): PhaseSettings {
  return { ...task, epochs, learningRate: rateFor(bench, task.learningRate) };
}

/** In the small preset: trains what is fresh, at the rate of the training on all exits. */
export function brisk(bench: Workbench, epochs: number): PhaseSettings {
  return { ...initialise, epochs, learningRate: rateFor(bench, initialise.learningRate) };
}

/** One short pass in the small preset; `published` in the paper's. */
export function fineTuneSettings(bench: Workbench, published: PhaseSettings): PhaseSettings {
  if (bench.preset === "paper") return { ...published, epochs: bench.epochs ?? published.epochs };
  return gentle(bench);
}

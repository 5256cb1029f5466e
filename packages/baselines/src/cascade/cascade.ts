/**
 * @file A cascade of two complete models: the small one answers where it is sure enough, the large one starts anew on the
 * rest. Nothing of the small model's work is reused, and the cost counts it.
 *
 * N = rows, C = classes.
 * @see Li et al. 2021, CascadeBERT; Mamou et al. 2022, TangoBERT
 */
import {
  BackboneError,
  type ExitEncoder,
  type LoadExitEncoderOptions,
  type ModelPlan,
  openFlat,
  type TokenBatch,
} from "@cee/backbone";
import type { Engine, HostParams } from "@cee/engine";
import { predictionOf } from "@cee/exit-policies";
import * as v from "valibot";
import { loadMethod, saveMethod } from "../method-folder.js";
import { dropPadding } from "../token-batch.js";
import { type CascadeOptions, cascadeOptions, cascadeSchema } from "./options.js";

/** A model cut after `layer` blocks. */
export interface CascadeStage {
  readonly model: ModelPlan;
  readonly params: HostParams;
  readonly layer: number;
}

export interface CascadeOutcome {
  /** Class per row, shape `[N]`. */
  readonly predictions: Float32Array;
  /** Blocks that ran on each row, shape `[N]`: those of the small model, or of both. */
  readonly layers: Int32Array;
  /** Logits behind the answers, shape `[N, C]`. */
  readonly logits: Float32Array;
}

/** Whether the small model's answer stands, from its logits `[C]`: highest probability strictly above the threshold. */
export function accepts(logits: Float32Array, threshold: number): boolean {
  const top = Math.max(...logits);
  // One over the sum of exp(z - top) is the highest probability; NaN, like a tie with the threshold, is passed on.
  const total = logits.reduce((sum, value) => sum + Math.exp(value - top), 0);
  return 1 / total > threshold;
}

/** Applies the rule to the answers of both models, logits `[N, C]` each. */
export function decideCascade(
  small: { readonly logits: Float32Array; readonly layer: number },
  large: { readonly logits: Float32Array; readonly layer: number },
  classes: number,
  threshold: number,
): CascadeOutcome {
  const rows = small.logits.length / classes;
  const outcome = {
    predictions: new Float32Array(rows),
    layers: new Int32Array(rows),
    logits: new Float32Array(rows * classes),
  };
  for (let row = 0; row < rows; row += 1) {
    const own = small.logits.subarray(row * classes, (row + 1) * classes);
    const isAccepted = accepts(own, threshold);
    const taken = isAccepted ? own : large.logits.subarray(row * classes, (row + 1) * classes);
    outcome.logits.set(taken, row * classes);
    outcome.predictions[row] = predictionOf("classification", taken, 0, classes);
    outcome.layers[row] = small.layer + (isAccepted ? 0 : large.layer);
  }
  return outcome;
}

/** Mean blocks per row as a share of the large model's; above 1 where the small model accepts too little. */
export function cascadeCost({ layers }: Pick<CascadeOutcome, "layers">, depth: number): number {
  return layers.reduce((sum, count) => sum + count, 0) / (layers.length * depth);
}

export interface CascadeModel {
  /** Answers a batch; the large model runs on the rows that the small one passes on, and on no others. */
  classify(batch: TokenBatch): Promise<CascadeOutcome>;
  dispose(): Promise<void>;
}

/**
 * Compiles both models, weights baked in.
 * @throws BackboneError `BAD_OPTION` for a regression, for models of different classes, or for a layer that a model does not have
 */
export function openCascade(
  engine: Engine,
  small: CascadeStage,
  large: CascadeStage,
  threshold: number,
): CascadeModel {
  const { classes } = large.model.shape;
  if (large.model.shape.task === "regression" || small.model.shape.classes !== classes)
    throw new BackboneError(
      "BAD_OPTION",
      "cascade",
      large.model.shape.task === "regression"
        ? `${unsupportedRegression}. Train a truncated model instead.`
        : `both models must have the same classes, got ${small.model.shape.classes} and ${classes}.`,
    );
  const first = openFlat(engine, small.model, small.params, small.layer);
  const second = openFlat(engine, large.model, large.params, large.layer);
  return {
    async classify(batch) {
      const logits = await first.logits(batch);
      const passed = Array.from({ length: batch.rows }, (_, row) => row).filter(
        (row) => !accepts(logits.subarray(row * classes, (row + 1) * classes), threshold),
      );
      const all = new Float32Array(logits.length);
      if (passed.length > 0) {
        const answers = await second.logits(dropPadding(batch, passed));
        passed.forEach((row, index) => {
          all.set(answers.subarray(index * classes, (index + 1) * classes), row * classes);
        });
      }
      const passedOn = { logits: all, layer: large.layer };
      return decideCascade({ logits, layer: small.layer }, passedOn, classes, threshold);
    },
    async dispose() {
      await first.dispose();
      await second.dispose();
    },
  };
}

/** Why a cascade has no regression form. */
export const unsupportedRegression =
  "a cascade accepts an answer for its highest class probability, and a number has none";

export interface SavedCascade {
  readonly small: ExitEncoder;
  readonly large: ExitEncoder;
  readonly options: CascadeOptions;
}

/** Writes both models and the options. @throws BackboneError `WRITE_FAILED` */
export function saveCascade(
  folder: string,
  { small, large, options }: SavedCascade,
): Promise<void> {
  return saveMethod(folder, "cascade", { encoders: { small, large }, options });
}

/** @throws BackboneError `MISSING_FILE`, `BAD_FILE`, and what loading an encoder gives */
export async function loadCascade(
  folder: string,
  load: LoadExitEncoderOptions = {},
): Promise<SavedCascade> {
  const { encoders, options } = await loadMethod(folder, "cascade", ["small", "large"], load);
  const parsed = v.safeParse(cascadeSchema, options);
  if (!parsed.success)
    throw new BackboneError(
      "BAD_FILE",
      folder,
      `holds options that a cascade does not have: ${v.summarize(parsed.issues)}.`,
    );
  return { ...encoders, options: cascadeOptions(parsed.output) };
}

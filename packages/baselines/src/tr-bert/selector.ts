/**
 * @file TR-BERT's selectors: where they stand, and the probability that each gives a token to be kept.
 *
 * Shapes: B = rows, S = length, H = hidden size.
 * @see Ye et al. 2021, TR-BERT: dynamic token reduction, section 3
 */
import { BackboneError, type ModelPlan } from "@cee/backbone";
import { createRng, gelu, type HostParams, type TensorParams } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { dense, denseParams } from "../dense.js";
import { refuseCarryingHead } from "../own-forward.js";
import type { TrBertOptions } from "./options.js";

/** Why TR-BERT's rows are refused where they are. */
export const trBertRegression =
  "it is distilled from the probabilities of a teacher's classes, and a number has none";

/** Layers after which tokens are dropped: the first and the middle one. */
export function selectorLayers(depth: number): readonly [number, number] {
  return [1, Math.floor(depth / 2)];
}

/** @throws BackboneError `BAD_OPTION` for a regression, or for fewer than four layers */
export function checkTrBert(model: ModelPlan): void {
  const { task, depth } = model.shape;
  const complain = (what: string): never => {
    throw new BackboneError("BAD_OPTION", "tr-bert", what);
  };
  if (task === "regression") complain(`can't do regression: ${trBertRegression}.`);
  if (depth < 4)
    complain(
      `needs at least 4 layers for two selectors with layers between and behind them, got ${depth}.`,
    );
  refuseCarryingHead(model, "tr-bert");
}

/** Fresh selectors, by full path: `strategy.selector1.*` and `strategy.selector2.*`. */
export function trBertParams(
  { shape: { hidden } }: Pick<ModelPlan, "shape">,
  { width }: Pick<TrBertOptions, "width">,
  seed: number,
): HostParams {
  const selectors = ["strategy.selector1", "strategy.selector2"].map((path) => {
    const rng = createRng(seed).fork(`tr-bert/${path}`);
    return {
      ...denseParams(`${path}.inner`, hidden, width, rng.fork("inner")),
      ...denseParams(`${path}.output`, width, 1, rng.fork("output")),
    };
  });
  return Object.assign({}, ...selectors);
}

/** Probability that each token is kept, `[B, S]`: `Linear(H -> width)`, GELU, `Linear(width -> 1)`, sigmoid. */
export function keepProbability(
  weights: TensorParams,
  selector: 1 | 2,
  hidden: tf.Tensor3D,
): tf.Tensor2D {
  const path = `strategy.selector${selector}`;
  const inner = gelu(dense(weights, `${path}.inner`, hidden)); // [B, S, width]
  return tf.sigmoid(tf.squeeze<tf.Tensor2D>(dense(weights, `${path}.output`, inner), [2]));
}

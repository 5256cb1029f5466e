/**
 * @file HashEE's training: one phase on the answer of the last layer, tokens frozen from their layer on.
 *
 * Shapes: B = rows, S = length, H = hidden size, C = classes.
 */
import { attentionBias, BackboneError, block, embed, type ModelPlan } from "@cee/backbone";
import { softmaxCrossEntropy } from "@cee/engine";
import type { PhasePlan, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { truncatedPaths } from "../controls/truncated.js";
import { layers } from "../losses.js";
import { answer, asColumn, choose, ownForward, refuseCarryingHead } from "../own-forward.js";
import type { HashEeOptions } from "./options.js";
import type { TokenMap } from "./token-map.js";

/** Why HashEE's rows are refused where they are. */
export const hashEeRegression =
  "its published training is a cross-entropy, and a number has no classes";

/** @throws BackboneError `BAD_OPTION` for a model that has too few layers, or a map of another vocabulary */
export function checkHashEe(
  { shape, config, head, ...rest }: ModelPlan,
  { maxLayer }: HashEeOptions,
  map: TokenMap,
): void {
  const complain = (what: string): never => {
    throw new BackboneError("BAD_OPTION", "hashee", what);
  };
  if (shape.task === "regression") complain(`can't do regression: ${hashEeRegression}.`);
  if (maxLayer - 1 > shape.depth)
    complain(
      `maxLayer must be at most ${shape.depth + 1} for a model of ${shape.depth} layers, got ${maxLayer}.`,
    );
  if (map.length !== config.vocabSize)
    complain(`the map must have ${config.vocabSize} tokens, as the model, got ${map.length}.`);
  refuseCarryingHead({ shape, config, head, ...rest }, "hashee");
}

/** Plans the training; the model ends after block `maxLayer - 1`, and nothing deeper is touched. */
export function* hashEePlan(model: ModelPlan, options: HashEeOptions, map: TokenMap): PhasePlan {
  checkHashEe(model, options, map);
  const last = options.maxLayer - 1;
  yield {
    name: "hashee",
    trains: truncatedPaths(last),
    ...options.training,
    losses: {
      "cross-entropy": (step) => {
        const rows = softmaxCrossEntropy(hashEeLogits(model, step, map, last), step.labels); // [B]
        return tf.mul(tf.sum(rows), step.perRow) as tf.Scalar;
      },
    },
  };
}

/**
 * Answers of the last layer, `[B, C]`. Every token is computed at every layer and frozen ones are put back: the same
 * numbers as skipping them, in a form that has gradients at every batch and length.
 */
function hashEeLogits(
  model: ModelPlan,
  step: TrainingStep,
  map: TokenMap,
  last: number,
): tf.Tensor2D {
  const forward = ownForward(model, step, true);
  const { weights, tokens, context } = forward;
  // Deviates from the released code: padding is masked; there, it is a key like any token.
  const bias = attentionBias(tokens.mask);
  // The answer is read from the first token, whatever it is.
  const isFirst = tf.cast(tf.equal(tokens.positions, 0), "float32"); // [S]
  const own = tf.gather<tf.Tensor>(tf.tensor1d(Float32Array.from(map)), tokens.ids); // [B, S]
  const until = tf.maximum(own, tf.mul(isFirst, last)) as tf.Tensor2D;
  let hidden = embed(weights, tokens, context);
  for (const layer of layers(1, last)) {
    const next = block(weights, layer, hidden, bias, context);
    hidden = layer === 1 ? next : choose(asColumn(tf.greaterEqual(until, layer)), next, hidden);
  }
  return answer(model, forward, hidden, tokens.mask, last);
}

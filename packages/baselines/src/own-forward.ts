/**
 * @file What the losses of token-wise methods need to run an encoder their own way.
 *
 * Shapes: B = rows, S = length, H = hidden size, C = classes.
 */
import { applyHead, BackboneError, type BertContext, type ModelPlan } from "@cee/backbone";
import { dropout, type TensorParams } from "@cee/engine";
import type { TokenTensors, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";

export interface OwnForward {
  readonly weights: TensorParams;
  readonly tokens: TokenTensors;
  readonly context: BertContext;
}

/** @param isTraining switches dropout on, as the configuration has it */
export function ownForward(model: ModelPlan, step: TrainingStep, isTraining: boolean): OwnForward {
  const { weights, tokens, seed } = step;
  if (!weights || !tokens) throw new Error("internal: a data phase has weights and tokens");
  return {
    weights,
    tokens,
    context: isTraining ? { config: model.config, dropout: { seed } } : { config: model.config },
  };
}

/** Above the sites of the encoder and of the heads that the trainer runs. */
const SITE = 1 << 22;

/** The answer of one layer's head on its block's output, `[B, C]`. */
export function answer(
  model: ModelPlan,
  { weights, context }: Pick<OwnForward, "weights" | "context">,
  hidden: tf.Tensor3D,
  mask: tf.Tensor2D,
  layer: number,
): tf.Tensor2D {
  const { config, dropout: plan } = context;
  const rate = config.classifierDropout ?? config.hiddenDropout;
  let call = 0;
  return applyHead(model, weights, hidden, mask, layer, undefined, (x) => {
    call += 1;
    return plan && rate > 0 ? dropout(x, { rate, seed: plan.seed, site: SITE + call }) : x;
  }).logits;
}

/** @throws BackboneError `BAD_OPTION` where a head would need the layers that are not asked */
export function refuseCarryingHead({ head }: ModelPlan, who: string): void {
  if (head.carries)
    throw new BackboneError(
      "BAD_OPTION",
      who,
      `the head "${head.name}" reads the heads before it, but only the last one is run. Use the head "linear".`,
    );
}

/** 1 where a condition holds, `[B, S, 1]`. */
export function asColumn(condition: tf.Tensor2D): tf.Tensor3D {
  return tf.expandDims(tf.cast(condition, "float32"), 2);
}

/** `then` where `chosen` is 1, `otherwise` where it is 0: exact, and without a branch. */
export function choose(
  chosen: tf.Tensor3D,
  then: tf.Tensor3D,
  otherwise: tf.Tensor3D,
): tf.Tensor3D {
  return tf.add(tf.mul(chosen, then), tf.mul(tf.sub(1, chosen), otherwise));
}

/** @file Computes tensors that no gradient flows through. */
import * as tf from "@tensorflow/tfjs";

/**
 * Runs `fn` off the gradient tape.
 *
 * A zero gradient would not do: it still travels back through a comparison, which has no gradient function at all.
 */
export function detached<TTensor extends tf.Tensor>(fn: () => TTensor): TTensor {
  return tf.customGrad(() => ({ value: fn(), gradFunc: () => [] }))() as TTensor;
}

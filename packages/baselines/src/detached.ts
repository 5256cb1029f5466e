/** @file Training targets that no gradient may flow into. */
import * as tf from "@tensorflow/tfjs";

/**
 * Computes a target off the gradient tape. Stopping the gradient at its end would not be enough: the way back still
 * leads through comparisons and arg max, which have no gradient function.
 */
export function detached<TTensor extends tf.Tensor>(target: () => TTensor): TTensor {
  const offTape = tf.customGrad(() => ({ value: target(), gradFunc: () => [] }));
  return offTape() as TTensor;
}

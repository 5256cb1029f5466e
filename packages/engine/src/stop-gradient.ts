/** @file Stop-gradient for tensor functions, traced or eager (`detach` in the literature's code). */
import * as tf from "@tensorflow/tfjs";

/**
 * Returns `x` unchanged, with a gradient of zero.
 *
 * The zeros still travel backwards through what computed `x`, so a value whose own derivative is infinite (the
 * logarithm of 0) makes the gradient NaN: clip it before, not after.
 */
export function stopGradient<TTensor extends tf.Tensor>(x: TTensor): TTensor {
  if (x.dtype !== "float32") return x;
  return detach(x) as TTensor;
}

const detach = tf.customGrad((x) => ({
  value: tf.clone(x as tf.Tensor),
  gradFunc: (dy: tf.Tensor) => tf.zerosLike(dy),
}));

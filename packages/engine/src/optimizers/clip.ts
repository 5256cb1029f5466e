/** @file Gradient clipping by the global norm, as a tensor function with PyTorch's semantics. */
import * as tf from "@tensorflow/tfjs";
import type { TensorParams } from "../types.js";

/**
 * Scales all gradients by `min(1, maxNorm / (norm + 1e-6))`, where `norm` is their joint Euclidean norm before scaling.
 * A `norm` that is not finite tells the host that the step must not be applied.
 */
export function clipByGlobalNorm(
  gradients: TensorParams,
  maxNorm: number | tf.Scalar,
): { gradients: TensorParams; norm: tf.Scalar } {
  return tf.tidy(() => {
    const norm = globalNorm(gradients);
    const scale = tf.minimum(tf.div(maxNorm, tf.add(norm, 1e-6)), 1);
    const scaled: Record<string, tf.Tensor> = {};
    for (const [path, gradient] of Object.entries(gradients))
      scaled[path] = tf.mul(gradient, scale);
    return { gradients: scaled, norm };
  });
}

/** Returns the Euclidean norm of all gradients together. */
export function globalNorm(gradients: TensorParams): tf.Scalar {
  const tensors = Object.values(gradients);
  if (tensors.length === 0) return tf.scalar(0);
  return tf.tidy(() => {
    const squares = tensors.map((gradient) => tf.sum(tf.square(gradient)));
    // Not stacked: the number of parameters would become a size, which may collide with a symbol's stand-in.
    return tf.sqrt(squares.reduce((sum, square) => tf.add(sum, square))) as tf.Scalar;
  });
}

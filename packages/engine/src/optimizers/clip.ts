/** @file Gradient clipping by the global norm, as a tensor function with PyTorch's semantics. */
import * as tf from "@tensorflow/tfjs";
import type { TensorParams } from "../types.js";
import { join, layOut } from "./flat.js";

/**
 * Scales all gradients by `min(1, maxNorm / (norm + 1e-6))`, where `norm` is their joint Euclidean norm before scaling.
 * A `norm` that is not finite tells the host that the step must not be applied.
 */
export function clipByGlobalNorm(
  gradients: TensorParams,
  maxNorm: number | tf.Scalar,
): { gradients: TensorParams; norm: tf.Scalar } {
  return tf.tidy(() => {
    const { scale, norm } = clipScale(gradients, maxNorm);
    const scaled: Record<string, tf.Tensor> = {};
    for (const [path, gradient] of Object.entries(gradients))
      scaled[path] = tf.mul(gradient, scale);
    return { gradients: scaled, norm };
  });
}

/** The factor that {@link clipByGlobalNorm} multiplies by, for `adamw`'s `gradientScale`. */
export function clipScale(
  gradients: TensorParams,
  maxNorm: number | tf.Scalar,
): { scale: tf.Scalar; norm: tf.Scalar } {
  return tf.tidy(() => {
    const norm = globalNorm(gradients);
    return { scale: tf.minimum(tf.div(maxNorm, tf.add(norm, 1e-6)), 1) as tf.Scalar, norm };
  });
}

/** Returns the Euclidean norm of all gradients together. */
export function globalNorm(gradients: TensorParams): tf.Scalar {
  const tensors = Object.values(gradients);
  if (tensors.length === 0) return tf.scalar(0);
  return tf.tidy(() => {
    const { groups } = layOut(
      Object.keys(gradients),
      (path) => (gradients[path] as tf.Tensor).size,
      () => "all",
    );
    const squares = groups.map((group) => tf.sum(tf.square(join(gradients, group))));
    return tf.sqrt(squares.reduce((sum, square) => tf.add(sum, square))) as tf.Scalar;
  });
}

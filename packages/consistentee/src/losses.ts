/**
 * @file Task losses of all exits at once.
 *
 * Shapes: B = rows, L = depth, C = classes.
 */
import { softmaxCrossEntropy } from "@cee/engine";
import type { ModelShape, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";

/** Loss of every row at one exit, `[B]`: cross-entropy in nats, for regression the squared error. */
export function rowLosses(
  logits: tf.Tensor2D,
  labels: tf.Tensor1D,
  { task }: Pick<ModelShape, "task">,
): tf.Tensor1D {
  return tf.tidy(() =>
    task === "regression"
      ? (tf.square(tf.sub(tf.squeeze<tf.Tensor1D>(logits, [1]), labels)) as tf.Tensor1D)
      : softmaxCrossEntropy(logits, labels),
  );
}

/** Loss of every row at every exit, `[B, L]`. */
export function exitLosses({ exits, labels, shape }: TrainingStep): tf.Tensor2D {
  return tf.tidy(
    () =>
      tf.stack(
        exits.map(({ logits }) => rowLosses(logits, labels, shape)),
        1,
      ) as tf.Tensor2D,
  );
}

/** Weighted loss (Eq. 1), mean over rows: layer t counts t / (1 + … + L). */
export function weightedExitLoss(losses: tf.Tensor2D, perRow: tf.Scalar): tf.Scalar {
  return tf.tidy(() => {
    const depth = losses.shape[1];
    const total = (depth * (depth + 1)) / 2;
    const weights = tf.tensor1d(Array.from({ length: depth }, (_, index) => (index + 1) / total));
    return tf.mul(tf.sum(tf.mul(losses, weights)), perRow) as tf.Scalar;
  });
}

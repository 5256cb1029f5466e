/** @file Tensor functions that built-in strategies share. B = live rows, C = classes, K = values observed per row. */
import * as tf from "@tensorflow/tfjs";

/** Entropy of `softmax(logits)` in nats, shape `[B]`. */
export function entropyOf(logits: tf.Tensor2D): tf.Tensor1D {
  // lse(z) - sum(softmax(z) z) with the maximum subtracted: p ln p is NaN as soon as a probability underflows.
  const shifted = tf.sub(logits, tf.max(logits, 1, true)); // [B, C]
  const weights = tf.exp(shifted);
  const total = tf.sum(weights, 1); // [B]
  return tf.sub(tf.log(total), tf.div(tf.sum(tf.mul(weights, shifted), 1), total));
}

/** One of the observed values, shape `[B]`. */
export function column(observed: tf.Tensor2D, index: number): tf.Tensor1D {
  // A gather and not a slice: a slice would write the number of rows into a traced graph.
  return tf.squeeze(tf.gather(observed, tf.tensor1d([index], "int32"), 1), [1]);
}

/** 0 per row, or NaN where a logit is not finite: some runtimes turn NaN into a number on its way, shape `[B]`. */
export function notANumber(logits: tf.Tensor2D): tf.Tensor1D {
  return tf.mul(tf.sum(logits, 1), 0) as tf.Tensor1D;
}

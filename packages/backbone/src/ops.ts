/**
 * @file The few tensor operations that an encoder block is made of.
 *
 * Shapes: I, O = features in and out; leading axes are free.
 */
import * as tf from "@tensorflow/tfjs";
import type { BertActivation } from "./config.js";

/** `x W^T + b` with the checkpoint's layout: `weight` is `[O, I]`, `x` is `[..., I]`. */
export function linear<T extends tf.Tensor>(x: T, weight: tf.Tensor, bias: tf.Tensor): T {
  const [outputs, inputs] = weight.shape as [number, number];
  const leading = x.shape.slice(0, -1);
  // Flattened, because the gradient of a broadcast matMul does not sum over the axes it broadcast.
  const rows = leading.reduce((product, size) => product * size, 1);
  const flat = tf.reshape(x, [rows, inputs]);
  const product = tf.matMul(flat as tf.Tensor2D, weight as tf.Tensor2D, false, true);
  return tf.reshape(tf.add(product, bias), [...leading, outputs]) as T;
}

/** Normalises the last axis with the biased variance. */
export function layerNorm<T extends tf.Tensor>(
  x: T,
  scale: tf.Tensor,
  shift: tf.Tensor,
  epsilon: number,
): T {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const variance = tf.mean(tf.square(centred), -1, true);
  const normal = tf.mul(centred, tf.rsqrt(tf.add(variance, epsilon)));
  return tf.add(tf.mul(normal, scale), shift) as T;
}

/** Rows of `table` `[V, H]` by id: `[..., H]`. */
export function embedding(table: tf.Tensor, ids: tf.Tensor): tf.Tensor {
  return tf.gather(table, ids as tf.Tensor1D);
}

export function activation<T extends tf.Tensor>(x: T, act: BertActivation): T {
  switch (act) {
    case "gelu":
      return gelu(x);
    case "gelu_new":
      return tanhGelu(x);
    case "relu":
      return tf.relu(x);
  }
}

/** The exact form, `x Phi(x)`; the tanh form differs by up to 5e-4, enough to change an exit. */
function gelu<T extends tf.Tensor>(x: T): T {
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)) as T;
}

function tanhGelu<T extends tf.Tensor>(x: T): T {
  const cubic = tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(tf.mul(cubic, Math.sqrt(2 / Math.PI))), 1)) as T;
}

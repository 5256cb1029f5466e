/**
 * @file The few tensor operations that a block is made of.
 */
import { embedding, gelu, layerNorm, linear, rmsNorm } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import type { BertActivation } from "./config.js";

export { embedding, layerNorm, linear, rmsNorm };

/** The activation of the feed-forward layer. */
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

function tanhGelu<T extends tf.Tensor>(x: T): T {
  const cubic = tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(tf.mul(cubic, Math.sqrt(2 / Math.PI))), 1)) as T;
}

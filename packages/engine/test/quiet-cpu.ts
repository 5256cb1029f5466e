/** @file Puts tests on TensorFlow.js's `cpu` backend without its banner. */
import * as tf from "@tensorflow/tfjs";

export async function quietCpu(): Promise<void> {
  await tf.setBackend("cpu");
  Object.assign(tf.backend(), { firstUse: false });
}

/** @file A dense layer by name: its fresh parameters, and its output. */
import { type HostParams, initConstant, initNormal, linear, type Rng } from "@cee/engine";
import type * as tf from "@tensorflow/tfjs";

/** `<name>.weight` `[outputs, inputs]` with standard deviation 0.02, as in BERT, and a `<name>.bias` of zeros. */
export function denseParams(name: string, inputs: number, outputs: number, rng: Rng): HostParams {
  return {
    [`${name}.weight`]: initNormal([outputs, inputs], 0.02, rng),
    [`${name}.bias`]: initConstant([outputs], 0),
  };
}

/** The layer called `name` over the last axis of `x`. */
export function dense<T extends tf.Tensor>(
  params: Readonly<Record<string, tf.Tensor>>,
  name: string,
  x: T,
): T {
  return linear(x, params[`${name}.weight`] as tf.Tensor, params[`${name}.bias`] as tf.Tensor);
}

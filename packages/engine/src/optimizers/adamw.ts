/**
 * @file AdamW as a tensor function: decoupled weight decay (Loshchilov and Hutter 2019) with PyTorch's semantics.
 * Parameters, gradients and moments are records with the same paths; every tensor keeps its shape.
 */
import * as tf from "@tensorflow/tfjs";
import type { TensorParams } from "../types.js";
import { join, layOut, part } from "./flat.js";

/** First and second moment of each parameter's gradient; a type, since an interface is no tree of tensors. */
export type AdamWState = {
  readonly m: TensorParams;
  readonly v: TensorParams;
};

export interface AdamWInputs {
  readonly params: TensorParams;
  readonly gradients: TensorParams;
  readonly state: AdamWState;
  /** Already scheduled. */
  readonly learningRate: tf.Scalar;
  /** Number of this update, counted from 1; it corrects the moments' bias towards zero. */
  readonly step: tf.Scalar;
  /** @default [0.9, 0.999] */
  readonly betas?: readonly [number, number];
  /** Added outside the square root, as PyTorch does. @default 1e-8 */
  readonly eps?: number;
  /** @default 0.01 */
  readonly weightDecay?: number;
  /** Says which parameters decay. @default all but biases and LayerNorm parameters */
  readonly decay?: (path: string) => boolean;
  /** Multiplies every gradient: what `clipScale` returns. @default 1 */
  readonly gradientScale?: tf.Scalar;
}

/** Applies one AdamW update to every parameter of `params`. */
export function adamw(inputs: AdamWInputs): { params: TensorParams; state: AdamWState } {
  return tf.tidy(() => update(inputs)) as { params: TensorParams; state: AdamWState };
}

/** Says that a parameter decays unless its path names a bias or a LayerNorm. */
export function decaysByDefault(path: string): boolean {
  return !/(^|\.)bias$|layer_?norm|(^|[._])ln(_?\d+)?\.|(^|\.)(gamma|beta)$/i.test(path);
}

function update(inputs: AdamWInputs) {
  const { params, gradients, state, learningRate, step } = inputs;
  const [beta1, beta2] = inputs.betas ?? [0.9, 0.999];
  const eps = inputs.eps ?? 1e-8;
  const weightDecay = inputs.weightDecay ?? 0.01;
  const decay = inputs.decay ?? decaysByDefault;

  const next: Record<"params" | "m" | "v", Record<string, tf.Tensor>> = {
    params: {},
    m: {},
    v: {},
  };
  const correction1 = oneMinusPower(beta1, step);
  const rootCorrection2 = tf.sqrt(oneMinusPower(beta2, step));
  // lr/c1 * m / (sqrt(v)/sqrt(c2) + eps), with the scalars gathered so that each tensor is passed over once less.
  const stepSize = tf.div(tf.mul(learningRate, rootCorrection2), correction1);
  const scaledEps = tf.mul(rootCorrection2, eps);
  const keep = tf.sub(1, tf.mul(learningRate, weightDecay));

  const decays = (path: string) => weightDecay !== 0 && decay(path);
  for (const path of Object.keys(params)) {
    const missing = !gradients[path]
      ? "gradients"
      : !state.m[path]
        ? "state.m"
        : !state.v[path]
          ? "state.v"
          : undefined;
    if (missing)
      throw new TypeError(
        `[adamw] ${missing} has no tensor for the parameter "${path}". Pass records with equal paths.`,
      );
  }
  const { groups } = layOut(
    Object.keys(params),
    (path) => (params[path] as tf.Tensor).size,
    (path) => (decays(path) ? "decays" : "stays"),
  );
  for (const group of groups) {
    const joined = join(gradients, group);
    const gradient = inputs.gradientScale ? tf.mul(joined, inputs.gradientScale) : joined;
    const parameter = join(params, group);
    const m = tf.add(tf.mul(join(state.m, group), beta1), tf.mul(gradient, 1 - beta1));
    const v = tf.add(tf.mul(join(state.v, group), beta2), tf.mul(tf.square(gradient), 1 - beta2));
    const change = tf.div(tf.mul(m, stepSize), tf.add(tf.sqrt(v), scaledEps));
    const decayed = decays(group[0] as string) ? tf.mul(parameter, keep) : parameter;
    Object.assign(next.params, part(tf.sub(decayed, change), group, params));
    Object.assign(next.m, part(m, group, params));
    Object.assign(next.v, part(v, group, params));
  }
  return { params: next.params, state: { m: next.m, v: next.v } };
}

/** `1 - beta^step` as `-expm1(step ln beta)`: the plain form loses 4 digits of `1 - 0.999`. */
function oneMinusPower(beta: number, step: tf.Scalar): tf.Scalar {
  if (beta === 0) return tf.scalar(1);
  // expm1(x) = 2 t / (1 - t) with t = tanh(x / 2); ONNX has no Expm1.
  const half = tf.tanh(tf.mul(tf.cast(step, "float32"), Math.log(beta) / 2));
  return tf.div(tf.mul(half, -2), tf.sub(1, half));
}

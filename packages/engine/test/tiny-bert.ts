/**
 * @file A BERT with a classifier after every layer, written with the engine's operations or with TensorFlow.js's own.
 *
 * Shapes: B = rows, S = length, H = width, N = heads, D = H / N, F = feed-forward width, C = classes, T = layers.
 */
import * as tf from "@tensorflow/tfjs";
import {
  dropout,
  embedding,
  gelu,
  type HostParams,
  initConstant,
  initNormal,
  layerNorm,
  linear,
  type Rng,
  rmsNorm,
  type SpecTree,
  softmaxCrossEntropy,
  type TensorParams,
} from "../src/index.js";

export interface TinyBert {
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly vocabulary: number;
  readonly positions: number;
  readonly classes: number;
}

export interface Batch {
  readonly ids: tf.Tensor2D;
  readonly positions: tf.Tensor1D;
  readonly mask: tf.Tensor2D;
  readonly labels: tf.Tensor1D;
  readonly perRow: tf.Scalar;
}

export const batchSpecs: Record<keyof Batch, SpecTree> = {
  ids: { dtype: "int32", shape: ["batch", "length"] },
  positions: { dtype: "int32", shape: ["length"] },
  mask: { dtype: "float32", shape: ["batch", "length"] },
  labels: { dtype: "int32", shape: ["batch"] },
  perRow: { dtype: "float32", shape: [] },
};

export function tinyBertParams(config: TinyBert, rng: Rng): HostParams {
  const { layers, width: H, vocabulary, positions, classes } = config;
  const params: Record<string, HostParams[string]> = {};
  const matrix = (path: string, rows: number, columns: number) => {
    params[path] = initNormal([rows, columns], 0.05, rng.fork(path));
  };
  const dense = (path: string, inputs: number, outputs: number) => {
    matrix(`${path}.weight`, outputs, inputs);
    params[`${path}.bias`] = initNormal([outputs], 0.02, rng.fork(`${path}.bias`));
  };
  const norm = (path: string) => {
    params[`${path}.gamma`] = initConstant([H], 1);
    params[`${path}.beta`] = initConstant([H], 0);
  };
  matrix("words", vocabulary, H);
  matrix("positions", positions, H);
  norm("norm");
  for (let layer = 1; layer <= layers; layer += 1) {
    for (const name of ["query", "key", "value", "mix"]) dense(`${layer}.${name}`, H, H);
    norm(`${layer}.norm1`);
    dense(`${layer}.up`, H, 4 * H);
    dense(`${layer}.down`, 4 * H, H);
    norm(`${layer}.norm2`);
    dense(`${layer}.pool`, H, H);
    dense(`${layer}.head`, H, classes);
  }
  return params;
}

/** The operations that exist in two forms. */
export interface Operations {
  readonly linear: (x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) => tf.Tensor;
  readonly layerNorm: (x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) => tf.Tensor;
  readonly rmsNorm: (x: tf.Tensor, weight: tf.Tensor) => tf.Tensor;
  readonly gelu: (x: tf.Tensor) => tf.Tensor;
  readonly rowLoss: (logits: tf.Tensor2D, labels: tf.Tensor1D) => tf.Tensor1D;
}

export const fused: Operations = {
  linear,
  gelu,
  layerNorm: (x, gamma, beta) => layerNorm(x, gamma, beta, 1e-12),
  rmsNorm: (x, weight) => rmsNorm(x, weight, 1e-6),
  rowLoss: softmaxCrossEntropy,
};

export const plain: Operations = {
  linear(x, weight, bias) {
    const [O, I] = weight.shape as [number, number];
    const flat = tf.reshape(x, [-1, I]) as tf.Tensor2D;
    const y = tf.add(tf.matMul(flat, weight as tf.Tensor2D, false, true), bias);
    return tf.reshape(y, [...x.shape.slice(0, -1), O]);
  },
  layerNorm(x, gamma, beta) {
    const centred = tf.sub(x, tf.mean(x, -1, true));
    const variance = tf.mean(tf.square(centred), -1, true);
    return tf.add(tf.mul(tf.mul(centred, tf.rsqrt(tf.add(variance, 1e-12))), gamma), beta);
  },
  rmsNorm: (x, weight) =>
    tf.mul(tf.div(x, tf.sqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-6))), weight),
  gelu: (x) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)),
  rowLoss(logits, labels) {
    const hot = tf.oneHot(labels, logits.shape[1], 1, 0, "float32");
    return tf.neg(tf.sum(tf.mul(tf.logSoftmax(logits), hot), 1)) as tf.Tensor1D;
  },
};

/** Logits of every layer, `T x [B, C]`. */
export function forward(
  config: TinyBert,
  ops: Operations,
  p: TensorParams,
  batch: Pick<Batch, "ids" | "positions" | "mask">,
  drop?: { readonly rate: number; readonly seed: tf.Tensor1D },
): tf.Tensor2D[] {
  const { heads: N, width: H } = config;
  const D = H / N;
  const [B, S] = batch.ids.shape;
  let site = 0;
  const maybeDrop = (x: tf.Tensor): tf.Tensor => {
    site += 1;
    return drop ? dropout(x, { rate: drop.rate, seed: drop.seed, site }) : x;
  };
  const get = (path: string) => p[path] as tf.Tensor;
  const dense = (x: tf.Tensor, path: string) =>
    ops.linear(x, get(`${path}.weight`), get(`${path}.bias`));
  const norm = (x: tf.Tensor, path: string) =>
    ops.layerNorm(x, get(`${path}.gamma`), get(`${path}.beta`));
  const bias = tf.reshape(tf.mul(tf.sub(1, batch.mask), -1e4), [B, 1, 1, S]);
  let x = tf.add(embedding(get("words"), batch.ids), embedding(get("positions"), batch.positions));
  x = maybeDrop(norm(x, "norm")); // [B, S, H]
  const logits: tf.Tensor2D[] = [];
  for (let layer = 1; layer <= config.layers; layer += 1) {
    const split = (name: string) =>
      tf.transpose(tf.reshape(dense(x, `${layer}.${name}`), [B, S, N, D]), [0, 2, 1, 3]);
    const scores = tf.matMul(tf.mul(split("query"), 1 / Math.sqrt(D)), split("key"), false, true);
    const weights = maybeDrop(tf.softmax(tf.add(scores, bias))); // [B, N, S, S]
    const mixed = tf.reshape(tf.transpose(tf.matMul(weights, split("value")), [0, 2, 1, 3]), [
      B,
      S,
      H,
    ]);
    x = norm(tf.add(maybeDrop(dense(mixed, `${layer}.mix`)), x), `${layer}.norm1`);
    const inner = ops.gelu(dense(x, `${layer}.up`)); // [B, S, F]
    x = norm(tf.add(maybeDrop(dense(inner, `${layer}.down`)), x), `${layer}.norm2`);
    const first = tf.reshape(tf.gather(x, tf.tensor1d([0], "int32"), 1), [B, H]);
    const pooled = maybeDrop(tf.tanh(dense(first, `${layer}.pool`))); // [B, H]
    logits.push(dense(pooled, `${layer}.head`) as tf.Tensor2D);
  }
  return logits;
}

/** The sum over layers of the mean cross-entropy. */
export function multiExitLoss(
  logits: readonly tf.Tensor2D[],
  ops: Operations,
  batch: Pick<Batch, "labels" | "perRow">,
): tf.Scalar {
  const losses = logits.map((one) => tf.sum(ops.rowLoss(one, batch.labels)));
  return tf.mul(tf.addN(losses), batch.perRow) as tf.Scalar;
}

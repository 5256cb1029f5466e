/**
 * @file Masked language modelling with a loss at every exit, as ElasticBERT (Liu et al. 2022) trains its backbone: one
 * prediction head, shared by all layers, whose decoder is the word embedding.
 *
 * Shapes: B = rows, S = length, H = hidden size, T = layers, V = vocabulary, K = predictions, P = pair predictions.
 */
import {
  type HostParams,
  type HostTensor,
  layerNorm,
  linear,
  softmaxCrossEntropy,
  type TensorParams,
} from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { type BertContext, type BertInputs, bertParameters, encoder } from "../bert.js";
import type { BertConfig } from "../config.js";
import { freshParameter, zeros } from "../init.js";
import { activation } from "../ops.js";
import type { MlmBatch } from "./mlm-batch.js";
import { PAIR_CLASSES } from "./pair-layout.js";

/** One batch on the device. `K` and `P` count (place, layer) pairs, so which exits are scored is data, not graph. */
export interface MlmInputs extends BertInputs {
  /** Index into all hidden states as `(row * S + position) * T + layer - 1`, int32 `[K]`. */
  readonly scored: tf.Tensor1D;
  /** int32 `[K]` */
  readonly targets: tf.Tensor1D;
  /** What each prediction weighs in the loss, `[K]`. */
  readonly weights: tf.Tensor1D;
  /** As `scored`, of the `[CLS]` states of pair rows, int32 `[P]`. */
  readonly pairScored: tf.Tensor1D;
  readonly pairTargets: tf.Tensor1D;
  readonly pairWeights: tf.Tensor1D;
}

const BATCH_SHAPE = ["batch", "length"] as const;
export const mlmSpecs = {
  ids: { dtype: "int32", shape: BATCH_SHAPE },
  types: { dtype: "int32", shape: BATCH_SHAPE },
  positions: { dtype: "int32", shape: ["length"] },
  mask: { dtype: "float32", shape: BATCH_SHAPE },
  scored: { dtype: "int32", shape: ["scored"] },
  targets: { dtype: "int32", shape: ["scored"] },
  weights: { dtype: "float32", shape: ["scored"] },
  pairScored: { dtype: "int32", shape: ["pairs"] },
  pairTargets: { dtype: "int32", shape: ["pairs"] },
  pairWeights: { dtype: "float32", shape: ["pairs"] },
} as const;

/** The shape of every parameter that pre-training adds to the encoder's. */
export function mlmParameters(config: BertConfig): ReadonlyMap<string, readonly number[]> {
  const { hidden } = config;
  return new Map([
    ["mlm.transform.dense.weight", [hidden, hidden]],
    ["mlm.transform.dense.bias", [hidden]],
    ["mlm.transform.LayerNorm.weight", [hidden]],
    ["mlm.transform.LayerNorm.bias", [hidden]],
    ["mlm.bias", [config.vocabSize]],
    ["mlm.pair.weight", [PAIR_CLASSES.length, hidden]],
    ["mlm.pair.bias", [PAIR_CLASSES.length]],
  ]);
}

/** Every parameter of a pre-training run, in the order of a checkpoint. */
export function pretrainParameters(config: BertConfig): ReadonlyMap<string, readonly number[]> {
  return new Map([...bertParameters(config), ...mlmParameters(config)]);
}

/** Fresh parameters for a pre-training run. */
export function initPretraining(config: BertConfig, seed: number): HostParams {
  const params: Record<string, HostTensor> = {};
  for (const [path, shape] of pretrainParameters(config)) {
    params[path] = path === "mlm.bias" ? zeros(shape) : freshParameter(path, shape, config, seed);
  }
  return params;
}

/** Per-prediction losses: `[K]` for tokens and `[P]` for pairs. */
export function mlmLosses(
  params: TensorParams,
  inputs: MlmInputs,
  ctx: BertContext,
): { tokens: tf.Tensor1D; pairs: tf.Tensor1D } {
  const layers = encoder(params, inputs, ctx);
  const T = layers.length;
  const [B, S, H] = (layers[0] as tf.Tensor3D).shape;
  const flat = layers.map((hidden) => tf.reshape(hidden, [B * S, H]));
  // Layers in the middle axis: the gradient of this stack cuts at fixed places, whatever the batch.
  const states = tf.reshape(tf.stack(flat, 1), [B * S * T, H]) as tf.Tensor2D;
  const words = get(params, "backbone.embeddings.word_embeddings.weight");

  const predicted = transform(params, tf.gather(states, inputs.scored), ctx); // [K, H]
  const logits = linear(predicted, words, get(params, "mlm.bias")); // [K, V]
  const pooled = tf.tanh(
    linear(
      tf.gather(states, inputs.pairScored),
      get(params, "backbone.pooler.dense.weight"),
      get(params, "backbone.pooler.dense.bias"),
    ),
  ); // [P, H]
  const pairLogits = linear(pooled, get(params, "mlm.pair.weight"), get(params, "mlm.pair.bias"));
  return {
    tokens: softmaxCrossEntropy(logits, inputs.targets),
    pairs: softmaxCrossEntropy(pairLogits, inputs.pairTargets),
  };
}

/** The weighted sum that is minimised; the host's weights make it a mean over places and exits. */
export function mlmLoss(params: TensorParams, inputs: MlmInputs, ctx: BertContext): tf.Scalar {
  const { tokens, pairs } = mlmLosses(params, inputs, ctx);
  return tf.add(tf.sum(tf.mul(tokens, inputs.weights)), tf.sum(tf.mul(pairs, inputs.pairWeights)));
}

function transform(
  params: TensorParams,
  hidden: tf.Tensor2D,
  { config }: BertContext,
): tf.Tensor2D {
  const path = "mlm.transform";
  const inner = activation(
    linear(hidden, get(params, `${path}.dense.weight`), get(params, `${path}.dense.bias`)),
    config.act,
  );
  const scale = get(params, `${path}.LayerNorm.weight`);
  return layerNorm(inner, scale, get(params, `${path}.LayerNorm.bias`), config.layerNormEps);
}

function get(params: TensorParams, path: string): tf.Tensor2D {
  const tensor = params[path];
  if (tensor === undefined) throw new Error(`internal: no parameter ${path}`);
  return tensor as tf.Tensor2D;
}

export interface ExitPlan {
  readonly depth: number;
  /**
   * How many exits, besides the last, score each masked place; drawn anew for each place, so that all are scored alike
   * in the long run. `depth - 1` scores all of them, 0 only the last.
   */
  readonly exitsPerPlace: number;
  /** Share of the pair loss in the whole. */
  readonly pairWeight: number;
  /** Places in the whole batch, micro-batches together. */
  readonly places: number;
  readonly pairs: number;
}

/**
 * Turns a batch into what is fed. The loss is the mean over exits and places: where only some exits are scored, theirs
 * weigh more, so that the sum has the expectation of the whole.
 */
export function feedMlm(
  batch: MlmBatch,
  plan: ExitPlan,
  draw: (below: number) => number,
): Record<keyof MlmInputs, HostTensor> {
  const { depth, exitsPerPlace, pairWeight } = plan;
  const { rows, length } = batch;
  const others = depth - 1;
  const drawn = Math.min(exitsPerPlace, others);
  const lastWeight = drawn === 0 ? 1 : 1 / depth;
  const otherWeight = drawn === 0 ? 0 : others / drawn / depth;
  const scored: number[] = [];
  const targets: number[] = [];
  const weights: number[] = [];
  const layers = Array.from({ length: others }, (_, index) => index + 1);
  batch.positions.forEach((place, index) => {
    const target = batch.targets[index] as number;
    const add = (layer: number, weight: number) => {
      scored.push(place * depth + layer - 1);
      targets.push(target);
      weights.push((weight / plan.places) * (1 - pairWeight));
    };
    for (let taken = 0; taken < drawn; taken += 1) {
      const pick = taken + (drawn === others ? 0 : draw(others - taken));
      [layers[taken], layers[pick]] = [layers[pick] as number, layers[taken] as number];
      add(layers[taken] as number, otherWeight);
    }
    add(depth, lastWeight);
  });
  const exits = drawn === 0 ? [depth] : Array.from({ length: depth }, (_, index) => index + 1);
  const pairScored: number[] = [];
  const pairTargets: number[] = [];
  batch.pairRows.forEach((row, index) => {
    for (const layer of exits) {
      pairScored.push(row * length * depth + layer - 1);
      pairTargets.push(batch.pairTargets[index] as number);
    }
  });
  // A dimension of 0 has no graph, so a batch without pairs scores one that weighs nothing.
  if (pairScored.length === 0) {
    pairScored.push(0);
    pairTargets.push(0);
  }
  const pairShare = batch.pairRows.length === 0 ? 0 : pairWeight / (plan.pairs * exits.length);
  const ints = (values: ArrayLike<number>, shape: readonly number[]): HostTensor => ({
    dtype: "int32",
    shape,
    data: Int32Array.from(values),
  });
  const floats = (values: readonly number[]): HostTensor => ({
    dtype: "float32",
    shape: [values.length],
    data: Float32Array.from(values),
  });
  return {
    ids: ints(batch.ids, [rows, length]),
    types: ints(batch.types, [rows, length]),
    positions: ints(
      Array.from({ length }, (_, at) => at),
      [length],
    ),
    mask: {
      dtype: "float32",
      shape: [rows, length],
      data: new Float32Array(rows * length).fill(1),
    },
    scored: ints(scored, [scored.length]),
    targets: ints(targets, [targets.length]),
    weights: floats(weights),
    pairScored: ints(pairScored, [pairScored.length]),
    pairTargets: ints(pairTargets, [pairTargets.length]),
    pairWeights: floats(pairScored.map(() => pairShare)),
  };
}

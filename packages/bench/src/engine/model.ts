/**
 * @file What the engine's benchmark times: a BERT with an exit after every layer, forward and one training step.
 *
 * Shapes: B = rows, S = sequence, H = width, C = classes, T = layers.
 */
import {
  type BertConfig,
  createBertConfig,
  encoder,
  firstToken,
  initBackbone,
} from "@cee/backbone";
import {
  adamw,
  clipByGlobalNorm,
  createRng,
  dropout,
  type HostParams,
  type HostTensor,
  initConstant,
  initNormal,
  linear,
  type SpecTree,
  softmaxCrossEntropy,
  type TensorParams,
  type TensorSpec,
  valueAndGrads,
} from "@cee/engine";
import * as tf from "@tensorflow/tfjs";

export interface EngineModelSizes {
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  readonly vocabulary: number;
  readonly batch: number;
  readonly length: number;
  readonly dropout: number;
}

export const CLASSES = 2;
export const ADAMW = { betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 0.01, clipNorm: 1 };
/** Above the encoder's dropout sites. */
const HEAD_SITE = 1 << 20;

export type EngineBatch = {
  readonly ids: tf.Tensor2D;
  readonly types: tf.Tensor2D;
  readonly positions: tf.Tensor1D;
  readonly mask: tf.Tensor2D;
  readonly labels: tf.Tensor1D;
  /** 1 / B for every row: a mean over a symbolic axis is a sum with weights that are fed. */
  readonly weights: tf.Tensor1D;
};

export type StepState = {
  readonly params: TensorParams;
  readonly m: TensorParams;
  readonly v: TensorParams;
};

export type StepScalars = {
  readonly seed: tf.Tensor1D;
  readonly learningRate: tf.Scalar;
  readonly step: tf.Scalar;
};

export function bertConfig(sizes: EngineModelSizes): BertConfig {
  return createBertConfig({
    vocabSize: sizes.vocabulary,
    hidden: sizes.width,
    depth: sizes.depth,
    heads: sizes.heads,
    hiddenDropout: sizes.dropout,
    attentionDropout: sizes.dropout,
  });
}

/** Encoder without its pooler, and for each exit a pooler and a classifier of its own. */
export function createParams(config: BertConfig, seed: number): HostParams {
  const params: Record<string, HostTensor> = {};
  for (const [path, tensor] of Object.entries(initBackbone(config, seed))) {
    if (!path.startsWith("backbone.pooler.")) params[path] = tensor;
  }
  const rng = createRng(seed);
  const dense = (path: string, outputs: number) => {
    const weight = [outputs, config.hidden];
    params[`${path}.weight`] = initNormal(weight, config.initializerRange, rng.fork(path));
    params[`${path}.bias`] = initConstant([outputs], 0);
  };
  for (let layer = 1; layer <= config.depth; layer += 1) {
    dense(`heads.${layer}.pooler`, config.hidden);
    dense(`heads.${layer}.classifier`, CLASSES);
  }
  return params;
}

/** A batch of random tokens; a quarter of the rows is padded to half its length. */
export function createBatch(sizes: EngineModelSizes, seed: number): Record<string, HostTensor> {
  const { batch: B, length: S } = sizes;
  const rng = createRng(seed).fork("batch");
  const int = (shape: number[], value: (index: number) => number): HostTensor => {
    const size = shape.reduce((product, dimension) => product * dimension, 1);
    return { dtype: "int32", shape, data: Int32Array.from({ length: size }, (_, n) => value(n)) };
  };
  const isPadding = (index: number) => Math.floor(index / S) % 4 === 3 && index % S >= S / 2;
  return {
    ids: int([B, S], (index) => (isPadding(index) ? 0 : 1 + rng.int(sizes.vocabulary - 1))),
    types: int([B, S], (index) => (index % S < S / 2 ? 0 : 1)),
    positions: int([S], (index) => index),
    mask: {
      dtype: "float32",
      shape: [B, S],
      data: Float32Array.from({ length: B * S }, (_, index) => (isPadding(index) ? 0 : 1)),
    },
    labels: int([B], () => rng.int(CLASSES)),
    weights: initConstant([B], 1 / B),
  };
}

export const BATCH_SPECS: Record<keyof EngineBatch, TensorSpec> = {
  ids: { dtype: "int32", shape: ["batch", "length"] },
  types: { dtype: "int32", shape: ["batch", "length"] },
  positions: { dtype: "int32", shape: ["length"] },
  mask: { dtype: "float32", shape: ["batch", "length"] },
  labels: { dtype: "int32", shape: ["batch"] },
  weights: { dtype: "float32", shape: ["batch"] },
};

export function stepSpecs(params: HostParams): Record<string, SpecTree> {
  const specs = Object.fromEntries(
    Object.entries(params).map(([path, { shape }]): [string, TensorSpec] => [
      path,
      { dtype: "float32", shape },
    ]),
  );
  return {
    params: specs,
    m: specs,
    v: specs,
    batch: BATCH_SPECS,
    seed: { dtype: "int32", shape: [2] },
    learningRate: { dtype: "float32", shape: [] },
    step: { dtype: "float32", shape: [] },
  };
}

/** Logits of every exit, T times `[B, C]`; with a seed, dropout is on. */
export function exitLogits(
  config: BertConfig,
  params: TensorParams,
  batch: EngineBatch,
  seed?: tf.Tensor1D,
): tf.Tensor2D[] {
  const context = { config, dropout: seed && { seed } };
  const of = (path: string) => params[path] as tf.Tensor;
  return encoder(params, batch, context).map((hidden, index) => {
    const head = `heads.${index + 1}`;
    const dense = (x: tf.Tensor2D, name: string) =>
      linear(x, of(`${head}.${name}.weight`), of(`${head}.${name}.bias`));
    const pooled = tf.tanh(dense(firstToken(hidden), "pooler")); // [B, H]
    const kept =
      seed && config.hiddenDropout > 0
        ? dropout(pooled, { rate: config.hiddenDropout, seed, site: HEAD_SITE + index })
        : pooled;
    return dense(kept, "classifier"); // [B, C]
  });
}

/** The sum over exits of the mean cross-entropy. */
export function exitLoss(logits: readonly tf.Tensor2D[], batch: EngineBatch): tf.Scalar {
  const losses = logits.map((exit) =>
    tf.sum(tf.mul(softmaxCrossEntropy(exit, batch.labels), batch.weights)),
  );
  return losses.reduce((sum, loss) => tf.add(sum, loss)) as tf.Scalar;
}

/** One training step: loss with dropout, gradients, norm clipping, AdamW. */
export function trainingStep(
  config: BertConfig,
  {
    params,
    m,
    v,
    batch,
    seed,
    learningRate,
    step,
  }: StepState & StepScalars & { batch: EngineBatch },
) {
  const { loss, gradients } = valueAndGrads(
    (current) => exitLoss(exitLogits(config, current, batch, seed), batch),
    params,
  );
  const clipped = clipByGlobalNorm(gradients, ADAMW.clipNorm);
  const next = adamw({
    ...ADAMW,
    params,
    gradients: clipped.gradients,
    state: { m, v },
    learningRate,
    step,
  });
  return { params: next.params, m: next.state.m, v: next.state.v, loss, norm: clipped.norm };
}

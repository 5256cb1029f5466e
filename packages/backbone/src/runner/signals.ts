/**
 * @file The signals of every exit, computed only as far as they are read.
 *
 * Shapes: B = rows, S = sequence, H = hidden size, C = classes, F = head features.
 */
import { rememberScope, type TensorParams } from "@cee/engine";
import type { Carry, ExitHead, ExitHeadOutput, ModelShape, Signals } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { attentionBias, block, embed, firstToken, pool } from "../bert.js";
import type { BertConfig } from "../config.js";

/** What the traced programs know of a model besides its weights. */
export interface ModelPlan {
  readonly config: BertConfig;
  readonly shape: ModelShape;
  readonly head: ExitHead;
}

export interface BatchTensors {
  readonly ids: tf.Tensor2D;
  readonly types: tf.Tensor2D;
  readonly mask: tf.Tensor2D;
  readonly positions: tf.Tensor1D;
}

/** Turns training-time dropout on. */
export interface DropoutPlan {
  readonly seed: tf.Tensor1D;
}

/** Parameters of the head at one layer, by the names that the head gave them. */
export function headParams(
  params: TensorParams,
  layer: number,
): Readonly<Record<string, tf.Tensor>> {
  const own = `heads.${layer}.`;
  const shared = "heads.shared.";
  const result: Record<string, tf.Tensor> = {};
  for (const [path, tensor] of Object.entries(params)) {
    if (path.startsWith(own)) result[path.slice(own.length)] = tensor;
    else if (path.startsWith(shared)) result[`shared.${path.slice(shared.length)}`] = tensor;
  }
  return result;
}

/** Parameters of the strategy by the names that the strategy gave them. */
export function strategyParams(params: TensorParams): Readonly<Record<string, tf.Tensor>> {
  const prefix = "strategy.";
  const result: Record<string, tf.Tensor> = {};
  for (const [path, tensor] of Object.entries(params))
    if (path.startsWith(prefix)) result[path.slice(prefix.length)] = tensor;
  return result;
}

/** Runs the exit head of one layer on its block's output. */
export function applyHead(
  model: ModelPlan,
  params: TensorParams,
  hidden: tf.Tensor3D,
  mask: tf.Tensor2D,
  layer: number,
  carry: Carry | undefined,
  dropout: <T extends tf.Tensor>(x: T) => T = (x) => x,
): ExitHeadOutput {
  return model.head.apply(
    headParams(params, layer),
    { hidden, mask, layer, shape: model.shape, pooled: () => pool(params, hidden), dropout },
    carry,
  );
}

/**
 * Signals of every exit from recorded `[CLS]` states: heads that read nothing else say what they would say after the
 * encoder. `hidden` is `[B, L, H]`, L = layers.
 */
export function signalsOfStates(
  model: ModelPlan,
  params: TensorParams,
  hidden: tf.Tensor3D,
): readonly Signals[] {
  const memo = memoise();
  const [B] = hidden.shape;
  const stateAt = (layer: number): tf.Tensor3D =>
    memo(`hidden.${layer}`, () => tf.gather(hidden, tf.tensor1d([layer - 1], "int32"), 1)); // [B, 1, H]
  const mask = () => memo("mask", () => tf.ones([B, 1]) as tf.Tensor2D);
  return signalsOfHeads(model, params, stateAt, mask);
}

/** Signals of every exit from the blocks' outputs, first layer first; each head runs once, when first read. */
function signalsOfHeads(
  model: ModelPlan,
  params: TensorParams,
  hidden: (layer: number) => tf.Tensor3D,
  mask: () => tf.Tensor2D,
  dropout?: (layer: number) => <T extends tf.Tensor>(x: T) => T,
): readonly Signals[] {
  const memo = memoise();
  const output = (layer: number): ExitHeadOutput =>
    memo(`head.${layer}`, () =>
      applyHead(
        model,
        params,
        hidden(layer),
        mask(),
        layer,
        layer > 1 && model.head.carries ? output(layer - 1).carry : undefined,
        dropout?.(layer),
      ),
    );
  return Array.from({ length: model.shape.depth }, (_, index) =>
    signalsOf(
      () => output(index + 1),
      () => hidden(index + 1),
      memoise(),
    ),
  );
}

/** The signals of one exit from its head's output and its block's. */
export function signalsOf(
  output: () => ExitHeadOutput,
  hidden: () => tf.Tensor3D,
  memo: <T>(key: string, compute: () => T) => T,
): Signals {
  return {
    get logits() {
      return output().logits;
    },
    get probs() {
      return memo("probs", () => tf.softmax(output().logits) as tf.Tensor2D);
    },
    get pooled() {
      return output().pooled;
    },
    get hidden() {
      return memo("cls", () => firstToken(hidden()));
    },
    get features() {
      return output().features;
    },
  };
}

function tensorsIn(value: unknown): tf.Tensor[] {
  if (value instanceof tf.Tensor) return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.values(value).flatMap(tensorsIn);
}

/** Each value is computed at most once, only when asked for, and lives as long as the scope that made the memo. */
export function memoise(): <T>(key: string, compute: () => T) => T {
  const known = new Map<string, unknown>();
  const toHome = rememberScope();
  return <T>(key: string, compute: () => T): T => {
    if (!known.has(key)) {
      const value = compute();
      for (const tensor of tensorsIn(value)) toHome(tensor);
      known.set(key, value);
    }
    return known.get(key) as T;
  };
}

/** Signals of every exit of a full pass, first layer first; reading layer t runs the blocks up to t. */
export function exitSignals(
  model: ModelPlan,
  params: TensorParams,
  batch: BatchTensors,
  dropout?: DropoutPlan,
  headDropout?: (layer: number) => <T extends tf.Tensor>(x: T) => T,
): readonly Signals[] {
  const memo = memoise();
  const context = dropout ? { config: model.config, dropout } : { config: model.config };
  const bias = () => memo("bias", () => attentionBias(batch.mask));
  const hidden = (layer: number): tf.Tensor3D =>
    memo(`hidden.${layer}`, () =>
      layer === 0
        ? embed(params, batch, context)
        : block(params, layer, hidden(layer - 1), bias(), context),
    );
  return signalsOfHeads(model, params, hidden, () => batch.mask, headDropout);
}

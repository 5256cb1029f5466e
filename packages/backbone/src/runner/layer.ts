/**
 * @file One layer with its exit, as a tensor function, and the parameters that it reads.
 *
 * B = live rows, S = length, H = hidden size, C = classes, K = values per row.
 */
import type { HostParams, TensorParams } from "@cee/engine";
import type { Carry, Observer } from "@cee/exit-policies";
import type * as tf from "@tensorflow/tfjs";
import { attentionBias, block } from "../bert.js";
import { observeAt } from "./observation.js";
import { applyHead, type ModelPlan, memoise, signalsOf, strategyParams } from "./signals.js";

/** What a layer is handed; the carries are those of the layer before. */
export interface LayerTensors {
  readonly params: TensorParams;
  /** Shape `[B, S, H]`. */
  readonly hidden: tf.Tensor3D;
  /** Shape `[B, S]`. */
  readonly mask: tf.Tensor2D;
  /** What {@link attentionBias} makes of the mask, where somebody has it already. */
  readonly bias?: tf.Tensor4D;
  readonly headCarry?: Carry | undefined;
  readonly observerCarry?: Carry | undefined;
}

/** What a layer gives. */
export interface LayerStep {
  readonly hidden: tf.Tensor3D;
  /** Shape `[B, K]`. */
  readonly values: tf.Tensor2D;
  /** Shape `[B, C]`. */
  readonly logits: tf.Tensor2D;
  readonly headCarry?: Carry;
  readonly observerCarry?: Carry;
}

/** Runs the block, its exit head, and what the strategy observes there. */
export function layerStep(
  model: ModelPlan,
  observer: Observer,
  layer: number,
  { params, hidden: before, mask, bias, headCarry, observerCarry }: LayerTensors,
): LayerStep {
  const { config } = model;
  const hidden = block(params, layer, before, bias ?? attentionBias(mask), { config });
  const memo = memoise();
  const output = () => memo("head", () => applyHead(model, params, hidden, mask, layer, headCarry));
  const now = signalsOf(output, () => hidden, memo);
  const observed = observeAt(observer, model, layer, now, strategyParams(params), observerCarry);
  const next = model.head.carries ? output().carry : undefined;
  return {
    hidden,
    values: observed.values,
    logits: observed.logits ?? now.logits,
    ...(next === undefined ? {} : { headCarry: next }),
    ...(observed.carry === undefined ? {} : { observerCarry: observed.carry }),
  };
}

/** The model's parameters with the strategy's own under `strategy.`. */
export function withStrategy(params: HostParams, observer: Observer | undefined): HostParams {
  const own = Object.entries(observer?.params ?? {}).map(([name, tensor]) => [
    `strategy.${name}`,
    tensor,
  ]);
  return {
    ...pickParams(params, (path) => !path.startsWith("strategy.")),
    ...Object.fromEntries(own),
  };
}

export function pickParams(params: HostParams, wanted: (path: string) => boolean): HostParams {
  return Object.fromEntries(Object.entries(params).filter(([path]) => wanted(path)));
}

export function isEmbedding(path: string): boolean {
  return path.startsWith("backbone.embeddings.");
}

/** The block of a layer (named from 0 in Hugging Face's way), its head, the pooler, and what is shared. */
export function belongsTo(layer: number): (path: string) => boolean {
  const prefixes = [
    `backbone.encoder.layer.${layer - 1}.`,
    "backbone.pooler.",
    `heads.${layer}.`,
    "heads.shared.",
    "strategy.",
  ];
  return (path) => prefixes.some((prefix) => path.startsWith(prefix));
}

/**
 * @file The contract of an exit head: the classifier after a layer.
 *
 * Shapes: B = rows, S = sequence, H = hidden size, F = features, C = classes.
 */
import type { Tensor, Tensor2D, Tensor3D } from "@tensorflow/tfjs";
import type { HostParams } from "./host-tensor.js";
import type { Carry, ModelShape } from "./strategy.js";

export interface ExitHeadInput {
  /** Output of the layer's block, shape `[B, S, H]`. */
  readonly hidden: Tensor3D;
  /** 1 for a token, 0 for padding, float32 `[B, S]`. */
  readonly mask: Tensor2D;
  readonly layer: number;
  readonly shape: ModelShape;
  /** The backbone's shared pooler on this layer's `[CLS]`, shape `[B, H]`; computed only when called. */
  pooled(): Tensor2D;
  /** Training-time dropout; the identity at inference. */
  dropout<T extends Tensor>(x: T): T;
}

export interface ExitHeadOutput {
  /** Shape `[B, C]`. */
  readonly logits: Tensor2D;
  /** The vector that policies see, shape `[B, H]`. */
  readonly pooled: Tensor2D;
  /** Shape `[B, F]`. */
  readonly features: Tensor2D;
  /** Handed to the head of the next layer. */
  readonly carry?: Carry;
}

export interface ExitHead {
  /** Kebab-case, written into checkpoints. */
  readonly name: string;
  /** True when `apply` uses the carry of the layer before. @default false */
  readonly carries?: boolean;
  /**
   * True when `apply` looks at `hidden` only through its first token (and through `pooled()`): such heads can be trained
   * from recorded states, without running the encoder.
   * @default false
   */
  readonly readsFirstToken?: boolean;
  /** Parameters of the head at `layer`, by name; they live under `heads.<layer>.`. */
  params(shape: ModelShape, layer: number, seed: number): HostParams;
  /** Parameters shared by all layers, by name; they live under `heads.shared.`. */
  shared?(shape: ModelShape, seed: number): HostParams;
  /** `params` holds this layer's names and, with the prefix `shared.`, the shared ones. Traced. */
  apply(
    params: Readonly<Record<string, Tensor>>,
    input: ExitHeadInput,
    carry: Carry | undefined,
  ): ExitHeadOutput;
}

/** @file Small real encoders, for tests here and in other packages. */
import type { HostParams } from "@cee/engine";
import type { ExitHead } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import type { BertInputs } from "./bert.js";
import { type BertActivation, createBertConfig } from "./config.js";
import { createExitEncoder, type ExitEncoder } from "./encoder.js";
import type { TextTokenizer } from "./tokenizer.js";

export interface TinyBertOptions {
  readonly depth?: number;
  readonly hidden?: number;
  readonly heads?: number;
  readonly vocabSize?: number;
  readonly maxPositions?: number;
  readonly classes?: number;
  readonly regression?: boolean;
  readonly head?: string | ExitHead;
  readonly seed?: number;
  readonly act?: BertActivation;
  readonly tokenizer?: TextTokenizer;
  /** @default 0.1 */
  readonly dropout?: number;
  /** Standard deviation of the weights; larger than BERT's, so that layers differ. @default 0.3 */
  readonly spread?: number;
}

/** An encoder with random weights: depth 3, width 8, 2 heads and 20 tokens unless said otherwise. */
export function tinyBert(options: TinyBertOptions = {}): ExitEncoder {
  const { regression = false, dropout = 0.1 } = options;
  const config = createBertConfig({
    vocabSize: options.vocabSize ?? options.tokenizer?.vocabSize ?? 20,
    hidden: options.hidden ?? 8,
    depth: options.depth ?? 3,
    heads: options.heads ?? 2,
    intermediate: 2 * (options.hidden ?? 8),
    maxPositions: options.maxPositions ?? 32,
    hiddenDropout: dropout,
    attentionDropout: dropout,
    initializerRange: options.spread ?? 0.3,
    act: options.act,
  });
  return createExitEncoder({
    config,
    ...(regression ? { regression } : { classes: options.classes ?? 2 }),
    head: options.head ?? "linear",
    seed: options.seed ?? 1,
    tokenizer: options.tokenizer,
  });
}

/** Parameters as tensors of the current TensorFlow.js backend. */
export function toTensors(params: HostParams): Record<string, tf.Tensor> {
  return Object.fromEntries(
    Object.entries(params).map(([path, { data, shape, dtype }]) => [
      path,
      tf.tensor(data, [...shape], dtype),
    ]),
  );
}

/** A padded batch as tensors; values in row-major order. */
export function toInputs(batch: {
  readonly rows: number;
  readonly length: number;
  readonly ids: ArrayLike<number>;
  readonly types: ArrayLike<number>;
  readonly mask: ArrayLike<number>;
}): BertInputs {
  const { rows, length } = batch;
  return {
    ids: tf.tensor2d(Int32Array.from(batch.ids), [rows, length], "int32"),
    types: tf.tensor2d(Int32Array.from(batch.types), [rows, length], "int32"),
    mask: tf.tensor2d(Float32Array.from(batch.mask), [rows, length]),
    positions: tf.range(0, length, 1, "int32"),
  };
}

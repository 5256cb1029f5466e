/**
 * @file What the speed benchmark runs: an encoder with random weights, and exits that are forced by the rows themselves.
 *
 * B = rows, S = length, T = layers.
 */
import {
  createBertConfig,
  createExitEncoder,
  type ExitEncoder,
  linear,
  type TextTokenizer,
  type TokenBatch,
  toBatch,
} from "@cee/backbone";
import { createRng } from "@cee/engine";
import { defineExitStrategy, type ExitHead, type ExitStrategy, never } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";

export interface SpeedSizes {
  readonly width: number;
  readonly depth: number;
  /** Tokens per row. */
  readonly length: number;
  readonly vocabulary: number;
}

/** The usual head, which also tells how many tokens a row has: what the forced exits go by. */
const countingHead: ExitHead = {
  ...linear,
  apply(params, input, carry) {
    return { ...linear.apply(params, input, carry), features: tf.sum(input.mask, 1, true) };
  },
};

/** Random weights; no figure of this benchmark depends on what they answer. */
export function createSpeedEncoder(
  { width, depth, length, vocabulary }: SpeedSizes,
  { seed, tokenizer }: { readonly seed: number; readonly tokenizer?: TextTokenizer | undefined },
): ExitEncoder {
  const encoder = createExitEncoder({
    config: createBertConfig({
      vocabSize: vocabulary,
      hidden: width,
      depth,
      heads: Math.max(2, Math.round(width / 64)),
      maxPositions: Math.max(128, length),
    }),
    labels: ["negative", "positive"],
    head: countingHead,
    seed,
    tokenizer,
  });
  return { ...encoder, trainedHeads: Array.from({ length: depth }, (_, index) => index + 1) };
}

/** Rows of random tokens that leave at the given layers under {@link forcedExits}; those of the last have all tokens. */
export function forcedBatch(
  { depth, length, vocabulary }: SpeedSizes,
  layers: readonly number[],
  seed: number,
): TokenBatch {
  const rng = createRng(seed).fork("tokens");
  const rows = layers.map((layer) => {
    const ids = Int32Array.from({ length: length - depth + layer }, () => rng.int(vocabulary));
    return { ids, types: new Int32Array(ids.length) };
  });
  // Padded to one length, whoever is in the batch.
  const whole = { ids: new Int32Array(length), types: new Int32Array(length) };
  const { ids, types, mask } = toBatch([...rows, whole]);
  const cells = rows.length * length;
  return {
    rows: rows.length,
    length,
    ids: ids.slice(0, cells),
    types: types.slice(0, cells),
    mask: mask.slice(0, cells),
  };
}

/** Lets a row go at the layer that its number of tokens names: `length - depth + layer`. */
export function forcedExits({ depth, length }: SpeedSizes): ExitStrategy {
  const missing = length - depth;
  return defineExitStrategy({
    name: "forced",
    options: never.definition.options,
    needs: ["features"],
    tasks: ["classification"],
    observe: ({ features }) => tf.squeeze(features, [1]) as tf.Tensor1D, // [B]
    start: () => ({}),
    decide: ([tokens], state, { site }) => ({
      exit: site.layer >= (tokens as number) - missing,
      state,
    }),
    decideTensor: (observed, state, { site }) => ({
      exit: tf.lessEqual(tf.squeeze(observed, [1]), site.layer + missing) as tf.Tensor1D,
      state,
    }),
  })();
}

/** A fifth of the rows that are left leaves at each layer: layers of `rows` rows, as even as whole rows allow. */
export function mixedLayers(rows: number, depth: number): number[] {
  return Array.from({ length: rows }, (_, row) => {
    const share = (row + 0.5) / rows;
    return Math.min(depth, Math.max(1, Math.ceil(Math.log(1 - share) / Math.log(0.8))));
  });
}

export function rowOf({ length, ids, types, mask }: TokenBatch, row: number): TokenBatch {
  const cells = [row * length, (row + 1) * length] as const;
  return {
    rows: 1,
    length,
    ids: ids.slice(...cells),
    types: types.slice(...cells),
    mask: mask.slice(...cells),
  };
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** How long a round takes at a width, beside the other widths: products of matrices, mostly. */
export function workOf(width: number): number {
  return width * width;
}

/**
 * @file Rewards of exiting at each layer: vanilla (Eq. 3) and hardness-guided (Eq. 4).
 *
 * R_t = -loss_t - weight * t, with weight alpha (vanilla) or alpha * (1 - M / L) (hardness).
 * N, B = rows, L = depth, M = memorized layer.
 */
import type { ExitRecord } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { checkRecord, memorizedLayerPerRow } from "./memorized-layer.js";

export type RewardKind = "hardness" | "vanilla";

export interface RewardOptions {
  /** Price of one layer, in units of the loss; higher exits earlier. */
  readonly alpha: number;
  readonly reward: RewardKind;
  /** Regression: see `memorizedLayers`. */
  readonly tolerance?: number;
}

/** Price of one layer for a row whose memorized layer is `memorized`. */
export function layerPrice(
  memorized: number,
  depth: number,
  { alpha, reward }: RewardOptions,
): number {
  return reward === "hardness" ? alpha * (1 - memorized / depth) : alpha;
}

/** Rewards of one row at every layer, first layer first, in double precision. */
export function rowRewards(losses: ArrayLike<number>, price: number): Float64Array {
  return Float64Array.from(losses, (loss, index) => -loss - price * (index + 1));
}

/** What the policy step needs of every row: loss per layer, and the price of a layer. */
export interface RecordedRewards {
  readonly rows: number;
  readonly depth: number;
  /** Cross-entropy in nats (regression: squared error), shape `[N, L]`. */
  readonly losses: Float32Array;
  /** Shape `[N]`. */
  readonly prices: Float32Array;
}

/** @throws ConsistentEEError `MISSING_LABEL`, `BAD_RECORD` */
export function recordedRewards(record: ExitRecord, options: RewardOptions): RecordedRewards {
  checkRecord(record, "recordedRewards");
  const { depth } = record.shape;
  const memorized = memorizedLayerPerRow(record, options);
  return {
    rows: record.ids.length,
    depth,
    losses: recordedLosses(record),
    prices: Float32Array.from(memorized, (layer) => layerPrice(layer, depth, options)),
  };
}

/** Loss of every row at every exit, shape `[N, L]`: cross-entropy in nats, for regression the squared error. */
export function recordedLosses(record: ExitRecord): Float32Array {
  const { depth, classes, task } = record.shape;
  if (record.tokens) return record.tokens.losses;
  const losses = new Float32Array(record.ids.length * depth);
  for (let cell = 0; cell < losses.length; cell += 1) {
    const label = record.labels[Math.floor(cell / depth)] as number;
    const logits = record.logits.subarray(cell * classes, (cell + 1) * classes);
    // Deviates from the paper: it has no regression; squared error takes the place of the cross-entropy.
    losses[cell] =
      task === "regression" ? ((logits[0] as number) - label) ** 2 : crossEntropy(logits, label);
  }
  return losses;
}

function crossEntropy(logits: Float32Array, label: number): number {
  const highest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - highest);
  return highest + Math.log(sum) - (logits[label] as number);
}

/** Tensor form of `layerPrice`: `memorized` is `[B]`. */
export function layerPrices(
  memorized: tf.Tensor1D,
  depth: number,
  { alpha, reward }: { readonly alpha: number | tf.Scalar; readonly reward: RewardKind },
): tf.Tensor1D {
  return tf.tidy(() => {
    const share =
      reward === "hardness" ? tf.sub(1, tf.div(memorized, depth)) : tf.add(tf.mul(memorized, 0), 1); // of the rows' shape, whatever their number
    return tf.mul(share, alpha) as tf.Tensor1D;
  });
}

/** Tensor form: rewards of every row at every layer, `[B, L]`, from `losses` `[B, L]` and `prices` `[B]`. */
export function rewards(losses: tf.Tensor2D, prices: tf.Tensor1D): tf.Tensor2D {
  return tf.tidy(() => {
    const layers = tf.tensor1d(Array.from({ length: losses.shape[1] }, (_, index) => index + 1)); // [L]
    const cost = tf.mul(tf.expandDims(prices, 1), layers); // [B, L]
    return tf.neg(tf.add(losses, cost)) as tf.Tensor2D;
  });
}

/**
 * @file Trains CALM's early-exit classifier from a record: at each layer below the last, whether the answer is already
 * the last layer's.
 *
 * Shapes: N, B = rows, L = depth, H = hidden size.
 * @see Schuster et al. 2022, section 3.4
 */
import * as tf from "@tensorflow/tfjs";
import type { ExitRecord } from "../record.js";
import { viewOf } from "../record-view.js";
import type { TrainingPhase, TrainingStep } from "../training.js";

export interface CalmMetaSettings {
  /** @default 3 */
  readonly epochs?: number;
  /** Rows, tokens in a decoder. @default 256 */
  readonly batchSize?: number;
  /** @default 3e-3 */
  readonly learningRate?: number;
}

/** A phase for a model whose exits are trained; it trains `strategy.**` of `calmMeta` and nothing else. */
export function calmMetaPhase({
  epochs = 3,
  batchSize = 256,
  learningRate = 3e-3,
}: CalmMetaSettings = {}): TrainingPhase {
  return {
    name: "early-exit-classifier",
    trains: ["strategy.**"],
    source: "record",
    epochs,
    batchSize,
    learningRate,
    prepare: consistency,
    losses: { consistent: balancedLoss },
  };
}

/**
 * Side data `[N, 2 (L - 1)]`: per layer 1 where the answer is the last layer's, then the weight of that row there, which
 * makes consistent and inconsistent rows count alike.
 */
function consistency(record: ExitRecord) {
  const { depth } = record.shape;
  const rows = record.ids.length;
  const answers = record.tokens?.answers ?? viewOf(record).predictions;
  const below = depth - 1;
  const width = 2 * below;
  const values = new Float32Array(rows * width);
  for (let layer = 0; layer < below; layer += 1) {
    const isSame = (row: number) => answers[row * depth + layer] === answers[row * depth + below];
    let same = 0;
    for (let row = 0; row < rows; row += 1) same += Number(isSame(row));
    const share = same / rows;
    for (let row = 0; row < rows; row += 1) {
      values[row * width + layer] = Number(isSame(row));
      values[row * width + below + layer] = isSame(row) ? 1 - share : share;
    }
  }
  return { width, values };
}

/** Weighted cross-entropy, mean over rows and layers below the last. */
function balancedLoss({ exits, params, side, shape, perRow }: TrainingStep): tf.Scalar {
  const below = shape.depth - 1;
  const { weight, bias } = params as Readonly<Record<"weight" | "bias", tf.Tensor>>;
  const [targets, weights] = tf.split(side as tf.Tensor2D, 2, 1) as [tf.Tensor2D, tf.Tensor2D];
  const at = (values: tf.Tensor2D, layer: number) =>
    tf.squeeze(tf.gather(values, tf.tensor1d([layer], "int32"), 1), [1]); // [B]
  const losses = exits.slice(0, below).map(({ hidden }, layer) => {
    const score = tf.squeeze(
      tf.add(tf.matMul(hidden, weight as tf.Tensor2D, false, true), bias),
      [1],
    ); // [B]
    // softplus(s) - target s
    const loss = tf.sub(tf.softplus(score), tf.mul(at(targets, layer), score));
    return tf.sum(tf.mul(at(weights, layer), loss));
  });
  const total = losses.reduce((a, b) => tf.add(a, b));
  return tf.mul(tf.div(total, below), perRow) as tf.Scalar;
}

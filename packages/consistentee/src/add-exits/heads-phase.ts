/**
 * @file Trains the heads below the last from recorded states, on labels, on what full depth answers, or on both.
 *
 * Shapes: B = rows, C = classes.
 */
import type { TrainingPhase, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { detached } from "../detached.js";
import { rowLosses } from "../losses.js";
import type { PhaseSettings } from "../options.js";

/** @param distill weight of full depth's answers; the labels have the rest */
export function headsPhase(depth: number, distill: number, settings: PhaseSettings): TrainingPhase {
  return {
    name: "exits",
    // The last head is the checkpoint's classifier: it stays as it is.
    trains: Array.from({ length: depth - 1 }, (_, index) => `heads.${index + 1}.**`),
    source: "record",
    ...settings,
    losses: { exits: (step) => headsLoss(step, distill) },
  };
}

/** Mean over rows and over the layers below the last. */
function headsLoss(step: TrainingStep, distill: number): tf.Scalar {
  const { exits, labels, shape, perRow } = step;
  return tf.tidy(() => {
    const full = detached(() => (exits[shape.depth - 1] as (typeof exits)[number]).logits);
    const losses = exits.slice(0, -1).map(({ logits }) => {
      const parts: tf.Tensor1D[] = [];
      if (distill < 1) parts.push(tf.mul(rowLosses(logits, labels, shape), 1 - distill));
      if (distill > 0)
        parts.push(
          tf.mul(
            shape.task === "regression"
              ? tf.squeeze<tf.Tensor1D>(tf.square(tf.sub(logits, full)), [1])
              : softLosses(logits, full),
            distill,
          ),
        );
      return tf.sum(parts.reduce((a, b) => tf.add(a, b)));
    });
    const total = losses.reduce((a, b) => tf.add(a, b));
    return tf.mul(tf.div(total, shape.depth - 1), perRow) as tf.Scalar;
  });
}

/** Cross-entropy against the distribution of other logits, in nats, `[B]`. */
function softLosses(logits: tf.Tensor2D, target: tf.Tensor2D): tf.Tensor1D {
  const shares = tf.softmax(target);
  // -sum p (z - lse) = lse - sum p z, because the shares sum to 1.
  return tf.sub(tf.logSumExp(logits, 1), tf.sum(tf.mul(shares, logits), 1)) as tf.Tensor1D;
}

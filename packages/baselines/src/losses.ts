/**
 * @file Task losses that the recipes combine.
 *
 * Shapes: B = rows, C = classes, L = depth.
 */
import { softmaxCrossEntropy } from "@cee/engine";
import type { TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";

/** Mean loss over the rows at one layer: cross-entropy in nats, for regression the squared error. */
export function lossAt({ exits, labels, shape, perRow }: TrainingStep, layer: number): tf.Scalar {
  return tf.tidy(() => {
    const logits = logitsAt(exits, layer);
    const rows =
      shape.task === "regression"
        ? tf.square(tf.sub(tf.squeeze<tf.Tensor1D>(logits, [1]), labels))
        : softmaxCrossEntropy(logits, labels); // [B]
    return tf.mul(tf.sum(rows), perRow) as tf.Scalar;
  });
}

/** Sum, not mean, of the losses of layers `first` to `last`. */
export function lossOver(step: TrainingStep, first: number, last: number): tf.Scalar {
  return tf.tidy(() =>
    layers(first, last)
      .map((layer) => lossAt(step, layer))
      .reduce((sum, loss) => tf.add(sum, loss)),
  );
}

/** Every layer's loss, layer t counted t / (1 + … + L). */
export function weightedLoss(step: TrainingStep): tf.Scalar {
  const { depth } = step.shape;
  const total = (depth * (depth + 1)) / 2;
  return tf.tidy(() =>
    layers(1, depth)
      .map((layer) => tf.mul<tf.Scalar>(lossAt(step, layer), layer / total))
      .reduce((sum, loss) => tf.add(sum, loss)),
  );
}

/** Head outputs at a layer, counted from 1, shape `[B, C]`. */
export function logitsAt(exits: TrainingStep["exits"], layer: number): tf.Tensor2D {
  return (exits[layer - 1] as TrainingStep["exits"][number]).logits;
}

/** The layers `first` to `last`, both included. */
export function layers(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

/**
 * @file FREE's training: two exits, and a distillation that brings the shallow layers near the deep ones.
 *
 * Shapes: B = rows, L = depth, s = the shallow layer, H = hidden size.
 * @see Bae et al. 2023, section 4.1
 */
import { softmaxCrossEntropy } from "@cee/engine";
import type { TrainingPhase, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { detached } from "../detached.js";

export interface FreeTrainingOptions {
  /** The layer where tokens may leave, s. */
  readonly layer: number;
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Share of the steps with linear warm-up. @default 0 */
  readonly warmup?: number;
  /** Parameter paths. @default ["backbone.**"] */
  readonly trains?: readonly string[];
  /** Weight of the distillation. @default 0.5 */
  readonly distill?: number;
}

/** (s CE_s + L CE_L) / (s + L), plus the distillation. */
export function freePhase({
  layer,
  trains = ["backbone.**"],
  distill = 0.5,
  ...settings
}: FreeTrainingOptions): TrainingPhase {
  return {
    name: "shallow-deep",
    trains,
    ...settings,
    losses: { free: (step) => freeLoss(step, layer, distill) },
  };
}

function freeLoss(
  { exits, labels, shape, perRow }: TrainingStep,
  shallow: number,
  distill: number,
): tf.Scalar {
  const { depth, hidden } = shape;
  const at = (layer: number) => exits[layer - 1] as (typeof exits)[number];
  const task = (layer: number) =>
    tf.mul(
      tf.sum(softmaxCrossEntropy(at(layer).logits, labels)),
      layer / (shallow === depth ? depth : shallow + depth),
    );
  const losses = shallow === depth ? [task(depth)] : [task(shallow), task(depth)];
  // Deviates from the released code: layers are paired one to one ("unif"), not anew at every step.
  for (const [student, teacher] of shallow === depth ? [] : layerPairs(shallow, depth)) {
    const target = detached(() => tf.mul(at(teacher).hidden, 1));
    const distance = tf.sum(tf.square(tf.sub(at(student).hidden, target)));
    losses.push(tf.mul(distance, distill / (hidden * shallow)));
  }
  return tf.mul(
    losses.reduce((a, b) => tf.add(a, b)),
    perRow,
  ) as tf.Scalar;
}

/** The shallow layers and, evenly spread up to the last, those that teach them; layers count from 1. */
export function layerPairs(
  shallow: number,
  depth: number,
): readonly (readonly [student: number, teacher: number])[] {
  return Array.from({ length: shallow }, (_, index) => [
    index + 1,
    Math.round(((index + 1) * depth) / shallow),
  ]);
}

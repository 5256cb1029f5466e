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
  /**
   * Which shallow layer each teacher teaches: `dynamic`, the nearest at this step, from the top teacher down and always
   * below the one before; `fixed`, one to one; `last`, the shallow exit's layer from the last layer alone.
   * @default "dynamic"
   */
  readonly align?: FreeAlignment;
}

export type FreeAlignment = "dynamic" | "fixed" | "last";

/** (s CE_s + L CE_L) / (s + L), plus the distillation. */
export function freePhase({
  layer,
  trains = ["backbone.**"],
  distill = 0.5,
  align = "dynamic",
  ...settings
}: FreeTrainingOptions): TrainingPhase {
  return {
    name: "shallow-deep",
    trains,
    ...settings,
    losses: { free: (step) => freeLoss(step, layer, { distill, align }) },
  };
}

function freeLoss(
  { exits, labels, shape, perRow }: TrainingStep,
  shallow: number,
  { distill, align }: Required<Pick<FreeTrainingOptions, "distill" | "align">>,
): tf.Scalar {
  const { depth, hidden } = shape;
  const at = (layer: number) => exits[layer - 1] as (typeof exits)[number];
  const task = (layer: number) =>
    tf.mul(
      tf.sum(softmaxCrossEntropy(at(layer).logits, labels)),
      layer / (shallow === depth ? depth : shallow + depth),
    );
  if (shallow === depth) return tf.mul(task(depth), perRow) as tf.Scalar;
  const targets = new Map<number, tf.Tensor>();
  const distance = (student: number, teacher: number): tf.Scalar => {
    // Signals are computed when they are first read, which must be on the tape.
    const deep = at(teacher).hidden;
    const target = targets.get(teacher) ?? detached(() => tf.mul(deep, 1));
    targets.set(teacher, target);
    return tf.sum(tf.square(tf.sub(at(student).hidden, target)));
  };
  const pairs = align === "last" ? [[shallow, depth] as const] : layerPairs(shallow, depth);
  const distances =
    align === "dynamic"
      ? nearest(
          pairs.map(([, teacher]) =>
            tf.stack(pairs.map(([student]) => distance(student, teacher))),
          ) as tf.Tensor1D[],
        )
      : pairs.map(([student, teacher]) => distance(student, teacher));
  const taught = distances.reduce((sum, own) => tf.add(sum, own));
  const distilled = tf.mul(taught, distill / (hidden * pairs.length));
  return tf.mul(tf.add(tf.add(task(shallow), task(depth)), distilled), perRow) as tf.Scalar;
}

/**
 * The distance of every teacher, the top one first, to the student that is nearest to it among those below the student
 * that was chosen before; where there is none below, to that one again. Entry t of `distances` holds those of teacher t to
 * all students, `[students]`.
 */
export function nearest(distances: readonly tf.Tensor1D[]): tf.Scalar[] {
  const count = distances.length;
  const places = tf.range(0, count);
  let below: tf.Tensor = tf.scalar(count);
  return [...distances].reverse().map((own) => {
    const isChosen = detached(() => {
      const isAllowed = tf.less(places, tf.maximum(below, 1));
      const place = tf.argMin(tf.where(isAllowed, own, 1e30));
      return tf.cast(tf.equal(places, tf.cast(place, "float32")), "float32");
    });
    below = tf.sum(tf.mul(isChosen, places));
    return tf.sum(tf.mul(own, isChosen));
  });
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

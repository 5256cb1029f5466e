/** @file Learning-rate schedules, as factors of the peak rate. */
import * as tf from "@tensorflow/tfjs";

export interface LinearScheduleOptions<TStep extends number | tf.Scalar> {
  /** Updates done so far: 0 at the first one. */
  readonly step: TStep;
  /** Updates of the whole run. */
  readonly total: number;
  /** Updates over which the factor rises from 0 to 1. */
  readonly warmup: number;
}

/**
 * Rises linearly from 0 to 1 over `warmup` updates, then falls linearly to 0 at `total`.
 * With a number it computes on the host, with a tensor inside a tensor function.
 */
export function linearSchedule(options: LinearScheduleOptions<number>): number;
export function linearSchedule(options: LinearScheduleOptions<tf.Scalar>): tf.Scalar;
export function linearSchedule({
  step,
  total,
  warmup,
}: LinearScheduleOptions<number | tf.Scalar>): number | tf.Scalar {
  if (!(warmup >= 0 && warmup <= total && Number.isFinite(total))) {
    throw new RangeError(
      `[linearSchedule] 0 <= warmup <= total must hold, got warmup ${warmup} and total ${total}.`,
    );
  }
  const fall = Math.max(1, total - warmup);
  if (typeof step === "number") {
    if (step < warmup) return step / warmup;
    return Math.max(0, (total - step) / fall);
  }
  const done = tf.cast(step, "float32");
  const falling = tf.maximum(tf.div(tf.sub(total, done), fall), 0) as tf.Scalar;
  // Before the end of the warm-up the falling line lies above 1, after it the rising one does.
  return warmup === 0 ? falling : (tf.minimum(tf.div(done, warmup), falling) as tf.Scalar);
}

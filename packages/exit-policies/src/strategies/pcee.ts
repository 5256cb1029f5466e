/**
 * @file PCEE-BERT: exit after so many consecutive layers whose normalised entropy is below a threshold. B = live rows.
 * @see Zhang et al. 2022, section 3.3
 */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";
import { column, entropyOf } from "./signals.js";

export const pcee = defineExitStrategy({
  name: "pcee",
  options: v.strictObject({
    /**
     * `tau` in the paper, a share of the highest possible entropy: higher exits earlier.
     * @default 0.25
     */
    threshold: v.optional(v.pipe(v.number(), v.finite()), 0.25),
    /**
     * Confident layers in a row that are needed, so the earliest exit is this layer; lower exits earlier.
     * @default 2
     */
    patience: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 2),
  }),
  needs: ["logits"],
  tasks: ["classification"],
  knob: {
    option: "threshold",
    grid: [1 / 18, 2 / 18, 3 / 18, 4 / 18, 5 / 18, 6 / 18, 7 / 18, 8 / 18, 9 / 18],
    direction: "higher-is-faster",
  },
  // With a single class this is 0 / 0, and NaN never exits.
  observe: ({ logits }) => tf.div<tf.Tensor1D>(entropyOf(logits), Math.log(logits.shape[1])), // [B]
  start: () => ({ streak: 0 }),
  decide(observed, state, { options }) {
    const now = observed[0] as number;
    if (Number.isNaN(now)) return { exit: false, state };
    const streak = now < Math.fround(options.threshold) ? state.streak + 1 : 0;
    return { exit: streak === options.patience, state: { streak } };
  },
  decideTensor(observed, { streak }, { options }) {
    const now = column(observed, 0);
    const isNumber = tf.equal(now, now);
    const count = tf.where(
      tf.less(now, options.threshold),
      tf.add(streak, 1),
      tf.zerosLike(streak),
    );
    return {
      exit: tf.logicalAnd(isNumber, tf.equal(count, options.patience)) as tf.Tensor1D,
      state: { streak: tf.where(isNumber, count, streak) as tf.Tensor1D },
    };
  },
});

/**
 * @file PABEE: exit after so many consecutive agreements of the answer with the layer before. B = live rows.
 * @see Zhou et al. 2020, section 3.2
 */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";
import { column } from "./signals.js";

export const patience = defineExitStrategy({
  name: "patience",
  options: v.strictObject({
    /**
     * Agreements needed: `k` of them are `k + 1` equal answers in a row, so the earliest exit is layer `k + 1`; lower
     * exits earlier.
     * @default 6
     */
    // Deviates from the paper: its text counts k equal answers, its released code k agreements; this is the code.
    patience: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 6),
    /**
     * Regression: two values agree when they differ by strictly less than this; higher exits earlier.
     * @default 0.1
     */
    tolerance: v.optional(v.pipe(v.number(), v.finite(), v.minValue(0)), 0.1),
  }),
  needs: ["logits"],
  tasks: ["classification", "regression"],
  knob: {
    option: "patience",
    grid: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    direction: "lower-is-faster",
  },
  observe({ logits }, { site }) {
    if (site.task === "regression") return tf.squeeze<tf.Tensor1D>(logits, [1]); // [B]
    const label = tf.cast(tf.argMax(logits, 1), "float32");
    // Adds zero, or NaN where the arg max of a NaN would pass for an answer.
    return tf.add(label, tf.mul(tf.sum(logits, 1), 0)) as tf.Tensor1D;
  },
  // -1 agreements: no answer seen yet.
  start: () => ({ last: 0, agreements: -1 }),
  decide(observed, { last, agreements }, { site, options }) {
    const now = observed[0] as number;
    if (Number.isNaN(now)) return { exit: false, state: { last, agreements } };
    const agrees =
      agreements >= 0 &&
      (site.task === "regression"
        ? Math.fround(Math.abs(now - last)) < Math.fround(options.tolerance)
        : now === last);
    const count = agrees ? agreements + 1 : 0;
    return { exit: count === options.patience, state: { last: now, agreements: count } };
  },
  decideTensor(observed, { last, agreements }, { site, options }) {
    const now = column(observed, 0);
    const same =
      site.task === "regression"
        ? tf.less(tf.abs(tf.sub(now, last)), options.tolerance)
        : tf.equal(now, last);
    const agrees = tf.logicalAnd(same, tf.greaterEqual(agreements, 0));
    const more = tf.add<tf.Tensor1D>(agreements, 1);
    const count = tf.where(agrees, more, tf.zerosLike(agreements));
    const isNumber = tf.equal(now, now);
    return {
      exit: tf.logicalAnd(isNumber, tf.equal(count, options.patience)),
      state: {
        last: tf.where(isNumber, now, last),
        agreements: tf.where(isNumber, count, agreements),
      },
    };
  },
});

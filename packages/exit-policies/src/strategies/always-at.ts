/** @file Every row exits at one fixed layer: a truncated model. */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";

export const alwaysAt = defineExitStrategy({
  name: "always-at",
  options: v.strictObject({
    /** Lower exits earlier; from the model's depth on, nothing exits early. */
    layer: v.pipe(v.number(), v.integer(), v.minValue(1)),
  }),
  needs: ["logits"],
  tasks: ["classification", "regression", "generation"],
  knob: {
    option: "layer",
    grid: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    direction: "lower-is-faster",
    isMonotone: true,
  },
  observe: ({ logits }) => tf.max(logits, 1) as tf.Tensor1D, // [B]
  start: () => ({}),
  decide: (observed, state, { site, options }) => ({
    exit: site.layer >= options.layer && !Number.isNaN(observed[0]),
    state,
  }),
  decideTensor(observed, state, { site, options }) {
    // The layer as one number per row; NaN where the observation is.
    const layer = tf.add(tf.mul(tf.squeeze<tf.Tensor1D>(observed, [1]), 0), site.layer);
    return { exit: tf.greaterEqual(layer, options.layer) as tf.Tensor1D, state };
  },
});

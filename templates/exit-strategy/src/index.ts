/**
 * @file my-strategy: exit when the two likeliest answers are far enough apart. B = live rows, C = classes.
 *
 * Say here where the rule comes from, and what deviates from there.
 */
import { defineExitStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";

export default defineExitStrategy({
  name: "my-strategy",
  options: v.strictObject({
    /** Difference of the two largest probabilities that is enough; lower exits earlier. */
    margin: v.optional(v.pipe(v.number(), v.minValue(0)), 0.8),
  }),
  needs: ["probs"],
  tasks: ["classification"],
  knob: {
    option: "margin",
    // Above 1 nobody leaves, at 0 nearly everybody does at the first layer.
    grid: [0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1],
    direction: "lower-is-faster",
    isMonotone: true,
  },
  observe({ probs }) {
    // A model may have a single class: then the second probability is 0.
    const padded = tf.pad(probs, [
      [0, 0],
      [0, 1],
    ]); // [B, C + 1]
    const { values } = tf.topk(padded, 2); // [B, 2]
    const [first, second] = tf.split(values, 2, 1) as [tf.Tensor2D, tf.Tensor2D]; // [B, 1] each
    return tf.squeeze<tf.Tensor1D>(tf.sub(first, second), [1]); // [B]
  },
  start: () => ({}),
  // Equality stays. Observations are 32-bit, so the option is compared as one; NaN compares false and stays.
  decide: ([margin], state, { options }) => ({
    exit: (margin as number) > Math.fround(options.margin),
    state,
  }),
  // The same for many rows at once: what lets the strategy become part of an exported graph.
  decideTensor: (observed, state, { options }) => ({
    exit: tf.greater(tf.squeeze<tf.Tensor1D>(observed, [1]), options.margin),
    state,
  }),
});

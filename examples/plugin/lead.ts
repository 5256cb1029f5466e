/**
 * @file lead: exit when the likeliest answer leads the second by enough, for some layers in a row with the same answer.
 * B = live rows, C = classes.
 */
import { defineExitStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";

export default defineExitStrategy({
  name: "lead",
  options: v.strictObject({
    /** Difference of the two largest probabilities that is enough; lower exits earlier. */
    margin: v.optional(v.pipe(v.number(), v.minValue(0)), 0.6),
    /** Layers in a row that must have it, with the same answer. */
    layers: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 2),
  }),
  needs: ["probs"],
  tasks: ["classification"],
  knob: {
    option: "margin",
    // Nobody leads by more than 1; at 0 one layer's confirmation is enough.
    grid: [0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1],
    direction: "lower-is-faster",
  },
  observe({ probs }) {
    // A model may have a single class: then the second probability is 0.
    const padded = tf.pad(probs, [
      [0, 0],
      [0, 1],
    ]); // [B, C + 1]
    const { values, indices } = tf.topk(padded, 2); // [B, 2] each
    const [first, second] = tf.split(values, 2, 1) as [tf.Tensor2D, tf.Tensor2D]; // [B, 1] each
    const answer = tf.cast(tf.slice(indices, [0, 0], [-1, 1]), "float32"); // [B, 1]
    return tf.concat([tf.sub(first, second), answer], 1) as tf.Tensor2D; // [B, 2]
  },
  start: () => ({ streak: 0, last: -1 }),
  decide(observed, { streak, last }, { options }) {
    const [lead, answer] = observed as unknown as [number, number];
    // Equality stays. Observations are 32-bit, so the option is compared as one; NaN compares false and stays.
    const isAhead = lead > Math.fround(options.margin);
    const next = isAhead ? (answer === last ? streak + 1 : 1) : 0;
    return { exit: next >= options.layers, state: { streak: next, last: answer } };
  },
  // The same for many rows at once: what lets the strategy become part of an exported file.
  decideTensor(observed, { streak, last }, { options }) {
    const [lead, answer] = tf.unstack(observed, 1) as [tf.Tensor1D, tf.Tensor1D]; // [B] each
    const isSame = tf.cast(tf.equal(answer, last), "float32");
    const grown = tf.add(tf.mul(isSame, streak), 1);
    const next = tf.mul(tf.cast(tf.greater(lead, options.margin), "float32"), grown) as tf.Tensor1D;
    return {
      exit: tf.greaterEqual<tf.Tensor1D>(next, options.layers),
      state: { streak: next, last: answer },
    };
  },
});

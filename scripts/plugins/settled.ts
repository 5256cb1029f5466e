import { defineExitStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";

/** Exits when the answer is certain enough and is what the layer before answered. B = live rows. */
export default defineExitStrategy({
  name: "settled",
  options: v.strictObject({
    /** Least probability of the answer; lower exits earlier. */
    certainty: v.optional(v.pipe(v.number(), v.minValue(0)), 0.7),
  }),
  needs: ["probs"],
  tasks: ["classification"],
  knob: {
    option: "certainty",
    grid: [0, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
    direction: "lower-is-faster",
  },
  observe({ probs }) {
    const answer = tf.cast(tf.argMax(probs, 1), "float32");
    return tf.stack([tf.max(probs, 1), answer], 1) as tf.Tensor2D; // [B, 2]
  },
  start: () => ({ last: -1 }),
  decide(observed, { last }, { options }) {
    const [top, answer] = observed as unknown as [number, number];
    const exit = answer === last && top > Math.fround(options.certainty);
    return { exit, state: { last: answer } };
  },
});

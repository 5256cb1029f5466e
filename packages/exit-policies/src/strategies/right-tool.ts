/**
 * @file The right tool for the job: exit when the calibrated probability of the answer reaches a threshold.
 *
 * B = live rows, C = classes, T = exits.
 * @see Schwartz et al. 2020, section 3
 */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";
import { fitTemperatures } from "./temperatures.js";

export const rightTool = defineExitStrategy({
  name: "right-tool",
  options: v.strictObject({
    /**
     * Lower exits earlier; a probability equal to it exits.
     * @default 0.9
     */
    threshold: v.optional(v.pipe(v.number(), v.finite()), 0.9),
    /**
     * What the logits of each exit are divided by, first layer first; 1 where the list ends.
     * @default none
     */
    temperatures: v.optional(v.array(v.pipe(v.number(), v.finite(), v.gtValue(0))), []),
  }),
  needs: ["logits"],
  tasks: ["classification"],
  knob: {
    option: "threshold",
    grid: [0, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1],
    direction: "lower-is-faster",
    isMonotone: true,
  },
  calibrated: ["temperatures"],
  // How far each logit lies below the highest: with it, any temperature can be applied afterwards.
  observe: ({ logits }) => tf.sub(logits, tf.max(logits, 1, true)) as tf.Tensor2D, // [B, C]
  start: () => ({}),
  decide(observed, state, { site, options }) {
    const { temperatures } = options;
    const { layer } = site;
    // Asked for its length first: reading beyond a list's end is slow, and replay comes here millions of times.
    const temperature = layer <= temperatures.length ? (temperatures[layer - 1] as number) : 1;
    let total = 0;
    for (let index = 0; index < observed.length; index += 1) {
      const below = observed[index] as number;
      total += below === 0 ? 1 : Math.exp(below / temperature);
    }
    return { exit: Math.fround(1 / total) >= Math.fround(options.threshold), state };
  },
  decideTensor(observed, state, { site, options }) {
    const { temperatures, threshold } = options;
    const isListed = site.layer <= (temperatures.shape[0] ?? 0);
    const temperature = isListed
      ? tf.gather(temperatures as tf.Tensor1D, tf.scalar(site.layer - 1, "int32"))
      : tf.scalar(1);
    const highest = tf.div(1, tf.sum(tf.exp(tf.div(observed, temperature)), 1)); // [B]
    return { exit: tf.greaterEqual(highest, threshold) as tf.Tensor1D, state };
  },
  // Deviates from the released code: its stop rule ends the search at the first step that does not improve.
  calibrate: (record) => ({ temperatures: fitTemperatures(record) }),
});

/**
 * @file FastBERT: exit when the normalised entropy of the answer is at most the "speed". B = live rows, C = classes.
 * @see Liu et al. 2020, section 3.3
 */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";
import { column, entropyOf } from "./signals.js";

export const fastBert = defineExitStrategy({
  name: "fast-bert",
  options: v.strictObject({
    /**
     * `speed` in the paper, a share of the highest possible entropy: higher exits earlier.
     * @default 0.5
     */
    speed: v.optional(v.pipe(v.number(), v.finite()), 0.5),
  }),
  needs: ["logits"],
  tasks: ["classification"],
  knob: {
    option: "speed",
    grid: [0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
    direction: "higher-is-faster",
    isMonotone: true,
  },
  // With a single class this is 0 / 0, and NaN never exits.
  observe: ({ logits }) => tf.div<tf.Tensor1D>(entropyOf(logits), Math.log(logits.shape[1])), // [B]
  start: () => ({}),
  decide: (observed, state, { options }) => ({
    // Deviates from the released code: its script keeps rows above the speed, so that NaN exits; its package exits
    // strictly below. This is the script's tie, and NaN stays.
    exit: (observed[0] as number) <= Math.fround(options.speed),
    state,
  }),
  decideTensor: (observed, state, { options }) => ({
    exit: tf.lessEqual(column(observed, 0), options.speed),
    state,
  }),
});

/**
 * @file DeeBERT: exit when the entropy of the answer falls below a threshold. B = live rows.
 * @see Xin et al. 2020, section 3.2
 */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";
import { column, entropyOf } from "./signals.js";

export const entropy = defineExitStrategy({
  name: "entropy",
  options: v.strictObject({
    /**
     * `S` in the paper, in nats: higher exits earlier; at `ln C` or below nearly certain rows alone stay out.
     * @default 0.1
     */
    // Deviates from the released code: its default of -1 never exits.
    threshold: v.optional(v.pipe(v.number(), v.finite()), 0.1),
  }),
  needs: ["logits"],
  tasks: ["classification"],
  knob: {
    option: "threshold",
    grid: [0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    direction: "higher-is-faster",
    isMonotone: true,
  },
  observe: ({ logits }) => entropyOf(logits), // [B]
  start: () => ({}),
  decide: (observed, state, { options }) => ({
    // In float32, like the observation, so that a graph decides ties alike.
    exit: (observed[0] as number) < Math.fround(options.threshold),
    state,
  }),
  decideTensor: (observed, state, { options }) => ({
    exit: tf.less(column(observed, 0), options.threshold),
    state,
  }),
});

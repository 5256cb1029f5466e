/**
 * @file ConsistentEE for generation: a policy per layer on the newest token's state behind the final norm. B = live rows.
 * @see Zeng et al. 2024, "Generation"
 */
import { defineExitStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { logitOf, policyLogit, policyParams } from "../policy.js";

export const consistentEEDecoder = defineExitStrategy({
  name: "consistentee-decoder",
  options: v.strictObject({
    /** Width of the policy's inner layer. @default 32 */
    // Deviates from the released code: it has a single linear layer here; the paper says two layers throughout.
    width: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 32),
    // Deviates from the paper: it always exits at p > 0.5.
    /** A token leaves when its probability to leave is above this; lower exits earlier. @default 0.5 */
    threshold: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0.5),
  }),
  needs: ["pooled"],
  tasks: ["generation"],
  knob: {
    option: "threshold",
    grid: [0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1],
    direction: "lower-is-faster",
  },
  // The last layer has no policy and observes 0.
  observe: ({ pooled }, { site, params }) =>
    site.layer < site.depth
      ? policyLogit(params, site.layer, pooled)
      : (tf.mul(tf.sum(pooled, 1), 0) as tf.Tensor1D),
  start: () => ({}),
  // On the logit, since the sigmoid rounds near 0.5.
  decide: ([logit], state, { options: { threshold } }) => ({
    exit: (logit as number) > logitOf(threshold),
    state,
  }),
  decideTensor: (observed, state, { options: { threshold } }) => ({
    exit: tf.greater(
      tf.squeeze<tf.Tensor1D>(observed, [1]),
      tf.log(tf.div(threshold, tf.sub(1, threshold))),
    ),
    state,
  }),
  params: (shape, options, seed) => policyParams(shape, options.width, seed),
});

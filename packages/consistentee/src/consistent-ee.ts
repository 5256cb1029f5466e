/**
 * @file ConsistentEE: exit when a learned policy gives exiting more than even odds. B = live rows.
 * @see Zeng et al. 2024, "Model Training and Inference"
 */
import { defineExitStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { consistentEESchema } from "./options.js";
import { consistentEEPlan } from "./phases.js";
import { logitOf, policyLogit, policyParams } from "./policy.js";

export const consistentEE = defineExitStrategy({
  name: "consistentee",
  options: consistentEESchema,
  needs: ["pooled"],
  // Deviates from the paper: regression is an extension, with the squared error in place of the cross-entropy.
  tasks: ["classification", "regression"],
  // Deviates from the paper: it trains one policy per alpha and has no dial at inference.
  knob: {
    option: "threshold",
    grid: [0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1],
    direction: "lower-is-faster",
  },
  // The logit, not the probability: near 0.5 the sigmoid rounds. The last layer has no policy and observes 0.
  observe: ({ pooled }, { site, params }) =>
    site.layer < site.depth
      ? policyLogit(params, site.layer, pooled)
      : (tf.mul(tf.sum(pooled, 1), 0) as tf.Tensor1D),
  start: () => ({}),
  decide: (observed, state, { options }) => ({
    exit: (observed[0] as number) > logitOf(options.threshold),
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
  phases: (shape, options) => consistentEEPlan(shape, options),
});

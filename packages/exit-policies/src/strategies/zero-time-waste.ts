/**
 * @file Zero Time Waste's ensemble: every exit answers with a weighted geometric mean of all answers so far; exit when
 * the highest probability of that is above a threshold.
 *
 * B = live rows, C = classes, t = layer, j = layers up to it.
 * @see Wójcik et al. 2021, section 3.2
 */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";
import type { HostParams } from "../host-tensor.js";
import type { ModelShape } from "../strategy.js";
import { draws } from "./draws.js";
import { notANumber } from "./signals.js";

type Parameters = Readonly<Record<string, tf.Tensor>>;

/**
 * Logits of the ensemble at a layer below the last, shape `[B, C]`.
 * @param logProbs log-probabilities of the exits up to this one, first layer first, each `[B, C]`
 */
export function ensembleLogits(params: Parameters, logProbs: readonly tf.Tensor2D[]): tf.Tensor2D {
  const layer = logProbs.length;
  return tf.tidy(() => {
    const weights = tf.exp(params[`ensemble.${layer}.weight`] as tf.Tensor1D);
    const weighted = logProbs.map((own, index) =>
      tf.mul<tf.Tensor2D>(own, tf.gather(weights, tf.tensor1d([index], "int32"))),
    );
    const total = weighted.reduce((sum, own) => tf.add(sum, own));
    return tf.add(tf.div(total, layer), params[`ensemble.${layer}.bias`] as tf.Tensor1D);
  });
}

export const zeroTimeWaste = defineExitStrategy({
  name: "zero-time-waste",
  options: v.strictObject({
    /**
     * `tau` in the paper: lower exits earlier.
     * @default 0.9
     */
    threshold: v.optional(v.pipe(v.number(), v.finite()), 0.9),
  }),
  needs: ["logits"],
  tasks: ["classification"],
  knob: {
    option: "threshold",
    grid: [0, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1],
    direction: "lower-is-faster",
    isMonotone: true,
  },
  params({ depth, classes }: ModelShape, _, seed): HostParams {
    const params: Record<string, HostParams[string]> = {};
    for (let layer = 1; layer < depth; layer += 1) {
      params[`ensemble.${layer}.weight`] = draws([layer], 0.01, seed, `ensemble.${layer}`);
      params[`ensemble.${layer}.bias`] = draws([classes], 0, seed, "");
    }
    return params;
  },
  observe({ logits }, { site, params, carry }) {
    const alert = notANumber(logits);
    const highest = (answer: tf.Tensor2D) =>
      tf.add(tf.max(tf.softmax(answer), 1), alert) as tf.Tensor1D; // [B]
    // The last exit is the backbone's own and stays out of the ensemble.
    if (site.layer === site.depth) return highest(logits);
    const past = (carry ?? []) as readonly tf.Tensor2D[];
    const all = [...past, tf.logSoftmax(logits) as tf.Tensor2D];
    const answer = ensembleLogits(params, all);
    return { values: highest(answer), logits: answer, carry: all };
  },
  start: () => ({}),
  decide: (observed, state, { options }) => ({
    exit: (observed[0] as number) > Math.fround(options.threshold),
    state,
  }),
  decideTensor: (observed, state, { options }) => ({
    exit: tf.greater(tf.squeeze<tf.Tensor1D>(observed, [1]), options.threshold),
    state,
  }),
});

/**
 * @file FREE's rule: a token leaves at one shallow layer or goes to full depth. B = live rows, V = vocabulary.
 * @see Bae et al. 2023, section 4
 */
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";
import { topTwoDifference } from "./calm.js";

export const shallowDeep = defineExitStrategy({
  name: "shallow-deep",
  options: v.strictObject({
    /** The one layer where a token may leave. */
    layer: v.pipe(v.number(), v.integer(), v.minValue(1)),
    /**
     * A token leaves where the likeliest token's probability is further above the second's than this; lower exits earlier.
     * @default 0.9
     */
    threshold: v.optional(v.pipe(v.number(), v.finite()), 0.9),
  }),
  needs: ["probs"],
  tasks: ["classification", "generation"],
  knob: {
    option: "threshold",
    grid: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1],
    direction: "lower-is-faster",
  },
  observe: ({ probs }) => topTwoDifference(probs),
  start: () => ({}),
  // Strict, unlike CALM's.
  decide: ([confidence], state, { site, options }) => ({
    exit: site.layer === options.layer && (confidence as number) > Math.fround(options.threshold),
    state,
  }),
});

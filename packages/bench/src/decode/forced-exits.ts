/** @file A strategy that spreads the tokens' exits over given layers, whatever they say: for measuring time alone. */
import { defineExitStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";

interface ForcedExits {
  /** Where token 0, 1, … of a text leaves, again from the start when all have been used. */
  readonly layers: readonly number[];
}

interface Schema {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => { readonly value: ForcedExits };
    readonly types?: { readonly input: ForcedExits; readonly output: ForcedExits };
  };
}

// Only this benchmark makes the options, so nothing needs to be refused.
const options: Schema = {
  "~standard": {
    version: 1,
    vendor: "cee",
    validate: (value) => ({ value: value as ForcedExits }),
  },
};

export const forcedExits = defineExitStrategy({
  name: "forced-exits",
  options,
  needs: ["hidden"],
  tasks: ["generation"],
  calibrated: ["layers"],
  // As little as can be observed.
  observe: ({ hidden }) => tf.sum(hidden, 1) as tf.Tensor1D,
  start: () => ({}),
  decide: (_, state, { site, options: { layers } }) => ({
    exit: site.layer === layers[site.position % layers.length],
    state,
  }),
});

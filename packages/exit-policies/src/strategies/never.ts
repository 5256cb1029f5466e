/** @file Full depth: no row exits before the last layer. */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";

export const never = defineExitStrategy({
  name: "never",
  options: v.strictObject({}),
  needs: ["logits"],
  tasks: ["classification", "regression", "generation"],
  // One number per row has to be observed; nothing reads it.
  observe: ({ logits }) => tf.max(logits, 1) as tf.Tensor1D, // [B]
  start: () => ({}),
  decide: (_, state) => ({ exit: false, state }),
  decideTensor: (observed, state) => ({
    exit: tf.less(tf.squeeze(tf.abs(observed), [1]), Number.NEGATIVE_INFINITY) as tf.Tensor1D,
    state,
  }),
});

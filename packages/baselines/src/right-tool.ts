/**
 * @file The right tool for the job: each exit reads a learned mixture of all layers up to its own; exits are trained
 * together on the sum of their losses, their confidence is calibrated, and a row exits when it reaches a threshold.
 *
 * Shapes: B = rows, H = hidden size, C = classes, t = layer.
 * @see Schwartz et al. 2020, section 3
 */
import { createRng, initConstant } from "@cee/engine";
import {
  defineExitStrategy,
  type ExitHead,
  type ModelShape,
  type PhasePlan,
  rightTool as rule,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { dense, denseParams } from "./dense.js";
import { lossOver } from "./losses.js";
import { jointPhase } from "./phases.js";
import { phaseSettings, type Recipe } from "./recipe.js";

/** Keeps the norm of a mixture that training drove to zero from dividing by it. */
const SMALLEST_NORM = 1e-6;

/** One unit-norm mixture over the layers so far and one `Linear(H -> C)` per layer, on the shared pooler. */
const head: ExitHead = {
  name: "layer-mixture",
  carries: true,
  params({ hidden, classes }, layer, seed) {
    const rng = createRng(seed).fork(`heads.${layer}`);
    const classifier = denseParams("classifier", hidden, classes, rng.fork("classifier.weight"));
    // A mixture of one layer has no direction to learn.
    if (layer === 1) return classifier;
    // Deviates from the released code: equal shares, not a random direction, in which signs differ.
    return { ...classifier, "mixture.weight": initConstant([layer], 1) };
  },
  apply(params, { pooled, dropout, layer, shape }, carry) {
    const now = tf.expandDims<tf.Tensor3D>(dropout(pooled()), 1); // [B, 1, H]
    const past = carry as tf.Tensor3D | undefined;
    const all = past ? tf.concat([past, now], 1) : now; // [B, t, H]
    const mixed =
      layer === 1
        ? tf.squeeze<tf.Tensor2D>(now, [1])
        : (tf.sum(
            tf.mul(all, unit(params["mixture.weight"] as tf.Tensor, layer)),
            1,
          ) as tf.Tensor2D); // [B, H]
    const logits = dense(params, "classifier", mixed);
    return {
      logits,
      pooled: mixed,
      features: mixed,
      ...(layer < shape.depth ? { carry: all } : {}),
    };
  },
};

/** A vector at length 1, shape `[t, 1]`. */
// Deviates from the released code: it normalises into a new parameter at every call, which the optimiser never sees.
function unit(weight: tf.Tensor, layer: number): tf.Tensor2D {
  const norm = tf.sqrt(tf.add(tf.sum(tf.square(weight)), SMALLEST_NORM ** 2));
  return tf.reshape(tf.div(weight, norm), [layer, 1]);
}

const options = v.strictObject({
  ...rule.definition.options.entries,
  // Deviates from the released code: it draws the learning rate of each of several runs from 2e-5, 3e-5 and 5e-5.
  /** All exits together. */
  joint: phaseSettings({ epochs: 2, batchSize: 72, learningRate: 3e-5, warmup: 0 }),
});

const strategy = defineExitStrategy({
  ...rule.definition,
  name: "right-tool-mixture",
  options,
  phases: plan,
});

// Deviates from the paper: it has exits at a few layers; here every layer has one.
function* plan({ depth }: ModelShape, { joint }: v.InferOutput<typeof options>): PhasePlan {
  yield jointPhase(joint, "sum", (step) => lossOver(step, 1, depth));
}

export const rightTool: Recipe<typeof strategy> = { strategy, head };

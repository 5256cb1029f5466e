/**
 * @file RomeBERT: one stage on the final loss and, below it, on losses that follow the final answer ("self-distillation");
 * where the two pull the encoder apart, one gives way ("gradient regularisation"). Exits as DeeBERT does.
 *
 * Shapes: B = rows, C = classes.
 * @see Geng et al. 2021, section 3
 */
import { highway } from "@cee/backbone";
import type { TrainingStep } from "@cee/exit-policies";
import { defineExitStrategy, entropy, type ModelShape, type PhasePlan } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { detached } from "./detached.js";
import { layers, logitsAt, lossAt } from "./losses.js";
import { phaseSettings, type Recipe } from "./recipe.js";

const options = v.strictObject({
  ...entropy.definition.options.entries,
  /**
   * Share of the distillation in the loss of a layer below the last.
   * @default 0.9
   */
  distillation: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0.9),
  /**
   * What the logits of teacher and student are divided by.
   * @default 3
   */
  softness: v.optional(v.pipe(v.number(), v.finite(), v.gtValue(0)), 3),
  /**
   * Which of the two losses gives way; the paper's choice is `early` on MNLI and QQP, `final` on all other tasks.
   * @default "final"
   */
  yields: v.optional(v.picklist(["early", "final"]), "final"),
  joint: phaseSettings({ epochs: 3, batchSize: 8, learningRate: 2e-5, warmup: 0 }),
});
type Options = v.InferOutput<typeof options>;
type Gradients = Readonly<Record<string, tf.Tensor>>;

const strategy = defineExitStrategy({
  ...entropy.definition,
  name: "rome-bert",
  options,
  phases: plan,
});

function* plan({ depth }: ModelShape, settings: Options): PhasePlan {
  const trains = [
    "backbone.embeddings.**",
    "backbone.encoder.**",
    ...layers(1, depth).map((layer) => `heads.${layer}.**`),
  ];
  const final = (step: TrainingStep) => lossAt(step, depth);
  if (depth === 1) {
    yield { name: "joint", trains, ...settings.joint, losses: { final } };
    return;
  }
  yield {
    name: "joint",
    trains,
    ...settings.joint,
    losses: { final, early: (step) => earlyLoss(step, settings) },
    combine: (gradients) => reconciled(gradients, depth, settings.yields),
  };
}

/** Sum over the layers below the last of their own loss and of the distance of their answer from the final one. */
function earlyLoss(step: TrainingStep, { distillation, softness }: Options): tf.Scalar {
  const { depth, classes } = step.shape;
  const soft = (layer: number) => tf.logSoftmax(tf.div(logitsAt(step.exits, layer), softness));
  return tf.tidy(() => {
    const teacher = detached(() => soft(depth)); // [B, C]
    return layers(1, depth - 1)
      .map((layer) => {
        const gap = tf.mul(tf.exp(teacher), tf.sub(teacher, soft(layer)));
        // The released code's mean is over rows and classes.
        const distance = tf.div(tf.mul(tf.sum(gap), step.perRow), classes);
        return tf.add<tf.Scalar>(
          tf.mul(lossAt(step, layer), 1 - distillation),
          tf.mul(distance, distillation * softness ** 2),
        );
      })
      .reduce((sum, loss) => tf.add(sum, loss));
  });
}

/** Weight matrices of all blocks but the last; the paths count blocks from 0. */
function isRegularised(path: string, depth: number): boolean {
  const block = /^backbone\.encoder\.layer\.(\d+)\..*\.weight$/.exec(path)?.[1];
  return block !== undefined && Number(block) < depth - 1 && !path.includes("LayerNorm");
}

/** The sum of both gradients; in each regularised matrix, the one that yields loses what is opposed to the other. */
function reconciled(
  gradients: Readonly<Record<string, Gradients>>,
  depth: number,
  yields: Options["yields"],
): Gradients {
  const leading = gradients[yields === "final" ? "early" : "final"] as Gradients;
  const yielding = gradients[yields] as Gradients;
  return Object.fromEntries(
    Object.entries(leading).map(([path, lead]) => {
      const own = yielding[path] as tf.Tensor;
      return [path, tf.add(lead, isRegularised(path, depth) ? withoutConflict(own, lead) : own)];
    }),
  );
}

/** `own` without its component along `lead`, where that component points the other way. */
function withoutConflict(own: tf.Tensor, lead: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const opposed = tf.minimum(tf.sum(tf.mul(own, lead)), 0);
    // A zero gradient opposes nothing; the smallest normal number keeps it from being divided by.
    const share = tf.div(opposed, tf.maximum(tf.sum(tf.square(lead)), 1.2e-38));
    return tf.sub(own, tf.mul(lead, share));
  });
}

/** Needs the highway head; its last layer is the final classifier. */
export const romeBert: Recipe<typeof strategy> = { strategy, head: highway };

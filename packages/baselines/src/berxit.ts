/**
 * @file BERxiT: steps alternate between the final loss and the loss of all exits, while one module that all layers share
 * learns to tell where an exit is wrong ("learning to exit", LTE); exit when it is certain enough that it is right.
 *
 * Convention: what is learned and observed is the released code's uncertainty u (1: wrong, 0: right), and a row exits at
 * u < threshold. The paper's certainty is 1 - u, so its "certainty above 0.5" is the threshold 0.5 here.
 *
 * Shapes: B = rows, H = hidden size.
 * @see Xin et al. 2021, sections 3.2 and 3.3
 */
import { highway } from "@cee/backbone";
import { createRng } from "@cee/engine";
import {
  defineExitStrategy,
  type ModelShape,
  type PhasePlan,
  type TrainingPhase,
  type TrainingStep,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { dense, denseParams } from "./dense.js";
import { detached } from "./detached.js";
import { layers, logitsAt, lossAt, lossOver } from "./losses.js";
import { type PhaseSettings, phaseSettings, type Recipe } from "./recipe.js";

const options = v.strictObject({
  /**
   * A row exits when its uncertainty is strictly below this; higher exits earlier.
   * @default 0.5
   */
  // Deviates from the released code: its default is 0.005; this is the paper's.
  threshold: v.optional(v.pipe(v.number(), v.finite()), 0.5),
  alternating: phaseSettings({ epochs: 3, batchSize: 8, learningRate: 2e-5, warmup: 0 }),
});

const strategy = defineExitStrategy({
  name: "berxit",
  options,
  needs: ["pooled"],
  tasks: ["classification", "regression"],
  knob: {
    option: "threshold",
    grid: [0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1],
    direction: "higher-is-faster",
    isMonotone: true,
  },
  observe: ({ pooled }, { params }) => uncertainty(params, pooled), // [B]
  start: () => ({}),
  decide: (observed, state, { options: { threshold } }) => ({
    // In float32, like the observation, so that a graph decides ties alike.
    exit: (observed[0] as number) < Math.fround(threshold),
    state,
  }),
  decideTensor: (observed, state, { options: { threshold } }) => ({
    exit: tf.less(tf.squeeze<tf.Tensor1D>(observed, [1]), threshold),
    state,
  }),
  params: ({ hidden }, _, seed) =>
    denseParams("lte", hidden, 1, createRng(seed).fork("berxit.lte")),
  phases: plan,
});

type Parameters = Readonly<Record<string, tf.Tensor>>;

/** Probability that the answer given here is wrong, shape `[B]`. */
function uncertainty(params: Parameters, pooled: tf.Tensor2D): tf.Tensor1D {
  return tf.tidy(() => tf.sigmoid(tf.squeeze<tf.Tensor1D>(dense(params, "lte", pooled), [1])));
}

/** How wrong the answer at a layer is, shape `[B]`: 0 or 1 for a class, `tanh |z - y|` for a number. */
function wrongness({ exits, labels, shape }: TrainingStep, layer: number): tf.Tensor1D {
  return detached(() =>
    tf.tidy(() => {
      const logits = logitsAt(exits, layer);
      if (shape.task === "regression") {
        const value = tf.squeeze<tf.Tensor1D>(logits, [1]);
        return tf.tanh(tf.abs<tf.Tensor1D>(tf.sub<tf.Tensor1D>(value, labels)));
      }
      const answer = tf.cast(tf.argMax(logits, 1), "float32");
      return tf.cast(tf.notEqual(answer, labels), "float32") as tf.Tensor1D;
    }),
  );
}

/** Squared error of the uncertainty, mean over rows and layers; its gradient reaches the encoder too. */
// Deviates from the released code: while training, it applies dropout to the pooled vector that the module reads.
function lteLoss(step: TrainingStep): tf.Scalar {
  const { exits, params, perRow, shape } = step;
  return tf.tidy(() => {
    const errors = exits.map(({ pooled }, index) =>
      tf.sum(tf.square(tf.sub(uncertainty(params, pooled), wrongness(step, index + 1)))),
    );
    const total = errors.reduce((sum, error) => tf.add(sum, error));
    return tf.mul(tf.div(total, shape.depth), perRow) as tf.Scalar;
  });
}

function* plan({ depth }: ModelShape, { alternating }: v.InferOutput<typeof options>): PhasePlan {
  yield {
    name: "alternating",
    trains: [
      "backbone.embeddings.**",
      "backbone.encoder.**",
      ...layers(1, depth).map((layer) => `heads.${layer}.**`),
      "strategy.**",
    ],
    ...alternating,
    losses: {
      final: (step) => tf.add(lossAt(step, depth), lteLoss(step)),
      // Deviates from the released code: with its LTE module on, this sum leaves out the last layer.
      all: (step) => tf.add(lossOver(step, 1, depth), lteLoss(step)),
    },
    // Deviates from the released code: it counts steps within the epoch, so that an odd number of them per epoch has
    // two steps of the final loss in a row.
    pick: (step) => (step % 2 === 0 ? "final" : "all"),
  };
}

/**
 * The module alone, from recorded states: for exits that were added to a finished model, whose encoder stays as it is
 * (`addExits` of `@cee/consistentee`, as its `plan`).
 */
// Deviates from the paper: it trains the module together with encoder and heads.
export function ltePhase(settings: Partial<PhaseSettings> = {}): TrainingPhase {
  return {
    name: "lte",
    trains: ["strategy.**"],
    source: "record",
    epochs: 10,
    batchSize: 256,
    learningRate: 3e-3,
    ...settings,
    losses: { lte: lteLoss },
  };
}

/** Needs the highway head: a pooler of its own at every layer. */
export const berxit: Recipe<typeof strategy> = { strategy, head: highway };

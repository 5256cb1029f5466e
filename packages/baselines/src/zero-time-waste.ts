/**
 * @file Zero Time Waste: on a frozen fine-tuned encoder every exit also reads what the exit before it said ("cascade"), and
 * answers are then ensembled over all exits so far; exit when the ensemble's highest probability is above a threshold.
 *
 * Shapes: B = rows, H = hidden size, C = classes.
 * @see Wójcik et al. 2021, section 3
 */
import { createRng, initNormal, softmaxCrossEntropy, stopGradient } from "@cee/engine";
import {
  defineExitStrategy,
  type ExitHead,
  ensembleLogits,
  type ModelShape,
  type PhasePlan,
  zeroTimeWaste as rule,
  type TrainingStep,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { dense, denseParams } from "./dense.js";
import { layers, logitsAt, lossOver } from "./losses.js";
import { exitsPhase, finalPhase } from "./phases.js";
import { phaseSettings, type Recipe } from "./recipe.js";

/** A linear classifier on the shared pooler that adds a linear function of the exit before; the last one stands alone. */
const head: ExitHead = {
  name: "cascaded",
  carries: true,
  readsFirstToken: true,
  params({ hidden, classes, depth }, layer, seed) {
    const rng = createRng(seed).fork(`heads.${layer}`);
    return {
      ...denseParams("classifier", hidden, classes, rng.fork("classifier.weight")),
      ...(layer > 1 && layer < depth
        ? { "cascade.weight": initNormal([classes, classes], 0.02, rng.fork("cascade.weight")) }
        : {}),
    };
  },
  apply(params, { pooled, dropout, layer, shape }, carry) {
    const state = pooled();
    const own = dense(params, "classifier", dropout(state));
    if (layer === shape.depth) return { logits: own, pooled: state, features: state };
    const before = carry as tf.Tensor2D | undefined;
    const logits = before
      ? tf.add<tf.Tensor2D>(
          own,
          tf.matMul(before, params["cascade.weight"] as tf.Tensor2D, false, true),
        )
      : own;
    // No gradient flows to the exit before: each is trained for its own answer.
    return { logits, pooled: state, features: state, carry: stopGradient(normalised(logits)) };
  },
};

/** Layer normalisation over the classes, without parameters: the next classifier scales it. */
function normalised(logits: tf.Tensor2D): tf.Tensor2D {
  const centred = tf.sub(logits, tf.mean(logits, 1, true));
  const variance = tf.mean(tf.square(centred), 1, true);
  return tf.div(centred, tf.sqrt(tf.add(variance, 1e-5)));
}

// Deviates from the paper: it works on images; no settings for BERT are published, these are DeeBERT's, and the
// ensemble's are ours.
const stage = { epochs: 3, batchSize: 8, learningRate: 2e-5, warmup: 0 };

const options = v.strictObject({
  ...rule.definition.options.entries,
  /** Encoder and last classifier. */
  final: phaseSettings(stage),
  /** Cascaded classifiers below it. */
  cascade: phaseSettings(stage),
  /** Weights of the ensembles. */
  ensemble: phaseSettings({ epochs: 3, batchSize: 32, learningRate: 1e-3, warmup: 0 }),
});

const strategy = defineExitStrategy({
  ...rule.definition,
  name: "zero-time-waste-cascaded",
  options,
  phases: plan,
});

function* plan(
  shape: ModelShape,
  { final, cascade, ensemble }: v.InferOutput<typeof options>,
): PhasePlan {
  const { depth } = shape;
  yield finalPhase(shape, final, { sharesPooler: true });
  if (depth === 1) return;
  yield exitsPhase(shape, "cascade", cascade, (step) =>
    tf.div(lossOver(step, 1, depth - 1), depth - 1),
  );
  yield {
    name: "ensemble",
    trains: ["strategy.**"],
    source: "record",
    ...ensemble,
    losses: { ensemble: ensembleLoss },
  };
}

/** Mean over rows and over the layers below the last of the ensemble's cross-entropy. */
function ensembleLoss({ exits, labels, params, perRow, shape }: TrainingStep): tf.Scalar {
  const { depth } = shape;
  return tf.tidy(() => {
    const logProbs = layers(1, depth - 1).map(
      (layer) => tf.logSoftmax(logitsAt(exits, layer)) as tf.Tensor2D,
    );
    const losses = logProbs.map((_, index) =>
      tf.sum(softmaxCrossEntropy(ensembleLogits(params, logProbs.slice(0, index + 1)), labels)),
    );
    const total = losses.reduce((sum, loss) => tf.add(sum, loss));
    return tf.mul(tf.div(total, depth - 1), perRow) as tf.Scalar;
  });
}

/** Needs its own head: the cascade. */
export const zeroTimeWaste: Recipe<typeof strategy> = { strategy, head };

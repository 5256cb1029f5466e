/**
 * @file CAT (confident adaptive transformers): on a frozen fine-tuned encoder, exits are trained and calibrated by a
 * temperature each, then meta-classifiers learn where an exit agrees with the full model; conformal calibration turns a
 * bound on disagreement into the threshold.
 *
 * Shapes: B = rows, H = hidden size, C = classes, L = depth, t = layer.
 * @see Schuster et al. 2021
 */
import { createRng, softmaxCrossEntropy } from "@cee/engine";
import {
  type ConformalHistory,
  conformal,
  conformalAnswer,
  conformalLogits,
  conformalWidth,
  defineExitStrategy,
  disagreements,
  type ExitHead,
  type ExitRecord,
  type ModelShape,
  type PhasePlan,
  remembered,
  type TrainingStep,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { dense, denseParams } from "./dense.js";
import { detached } from "./detached.js";
import { layers, logitsAt, lossOver } from "./losses.js";
import { exitsPhase, finalPhase } from "./phases.js";
import { phaseSettings, type Recipe } from "./recipe.js";

/** Two layers on the first token below the last; the last has the model's own pooler and classifier. */
const head: ExitHead = {
  name: "two-layer",
  readsFirstToken: true,
  params(shape, layer, seed) {
    const { hidden, classes, depth } = shape;
    const width = conformalWidth(shape);
    const rng = createRng(seed).fork(`heads.${layer}`);
    const fresh = (name: string, inputs: number, outputs: number) =>
      denseParams(name, inputs, outputs, rng.fork(`${name}.weight`));
    if (layer === depth) return fresh("classifier", hidden, classes);
    return { ...fresh("inner", hidden, width), ...fresh("output", width, classes) };
  },
  apply(params, { hidden, pooled, dropout, layer, shape }) {
    if (layer === shape.depth) {
      const state = pooled();
      return {
        logits: dense(params, "classifier", dropout(state)),
        pooled: state,
        // Nothing reads these; a record wants them as wide as the other layers'.
        features: tf.slice(state, [0, 0], [-1, conformalWidth(shape)]),
      };
    }
    const first = tf.squeeze<tf.Tensor2D>(tf.gather(hidden, tf.tensor1d([0], "int32"), 1), [1]);
    const features = tf.tanh(dense(params, "inner", dropout(first)));
    return {
      logits: dense(params, "output", features),
      get pooled() {
        return pooled();
      },
      features,
    };
  },
};

// Deviates from the paper: its settings for each stage on ALBERT are not known to us; the encoder's and the exits' are
// DeeBERT's, the rate of the temperatures is the released one.
const stage = { epochs: 3, batchSize: 8, learningRate: 2e-5, warmup: 0 };

const options = v.strictObject({
  ...conformal.definition.options.entries,
  /** Encoder and last classifier. */
  final: phaseSettings(stage),
  /** Classifiers below it. */
  exits: phaseSettings(stage),
  /** One temperature per exit; not for a regression. */
  scaling: phaseSettings({ epochs: 3, batchSize: 32, learningRate: 1e-3, warmup: 0 }),
  /** Meta-classifiers. */
  meta: phaseSettings({ epochs: 3, batchSize: 32, learningRate: 1e-3, warmup: 0 }),
});

const strategy = defineExitStrategy({
  ...conformal.definition,
  name: "cat",
  options,
  phases: plan,
});

// Deviates from the paper: exits, temperatures and meta-classifiers are trained on the same rows, not on three disjoint
// parts; only calibration sees rows of its own, and they alone carry the guarantee.
function* plan(
  shape: ModelShape,
  { final, exits, scaling, meta }: v.InferOutput<typeof options>,
): PhasePlan {
  const { depth, task } = shape;
  yield finalPhase(shape, final, { sharesPooler: true });
  if (depth === 1) return;
  yield exitsPhase(shape, "exits", exits, (step) =>
    tf.div(lossOver(step, 1, depth - 1), depth - 1),
  );
  if (task === "classification")
    yield {
      name: "scaling",
      trains: ["strategy.temperature.*"],
      source: "record",
      ...scaling,
      losses: { scaling: scalingLoss },
    };
  yield {
    name: "meta",
    trains: ["strategy.meta.**"],
    source: "record",
    ...meta,
    losses: { meta: metaLoss },
    prepare: metaTargets,
  };
}

/** Mean over rows and exits of the cross-entropy after temperature scaling. */
function scalingLoss({ exits, labels, params, perRow, shape }: TrainingStep): tf.Scalar {
  const { depth } = shape;
  return tf.tidy(() => {
    const losses = layers(1, depth - 1).map((layer) => {
      const temperature = tf.exp(params[`temperature.${layer}`] as tf.Tensor1D);
      const scaled = tf.div<tf.Tensor2D>(logitsAt(exits, layer), temperature);
      return tf.sum(softmaxCrossEntropy(scaled, labels));
    });
    const total = losses.reduce((sum, loss) => tf.add(sum, loss));
    return tf.mul(tf.div(total, depth - 1), perRow) as tf.Scalar;
  });
}

/** Per layer below the last: whether the row agrees with the full model, then the weight of its side, `[N, 2 (L - 1)]`. */
function metaTargets(record: ExitRecord) {
  const exits = record.shape.depth - 1;
  const rows = disagreements(record);
  const values = new Float32Array(rows.length * 2 * exits);
  for (let index = 0; index < exits; index += 1) {
    const wrong = rows.filter((layersOf) => layersOf[index]).length;
    rows.forEach((layersOf, row) => {
      const side = layersOf[index] ? wrong : rows.length - wrong;
      values[row * 2 * exits + index] = layersOf[index] ? 0 : 1;
      // Halved, so that the mean over rows is the weighted mean: both sides weigh n together.
      values[row * 2 * exits + exits + index] = rows.length / side / 2;
    });
  }
  return { width: 2 * exits, values };
}

/** Cross-entropy of the meta-classifiers, both sides weighing alike, mean over rows and exits. */
function metaLoss({ exits, params, side, perRow, shape }: TrainingStep): tf.Scalar {
  const { depth, task } = shape;
  const targets = side as tf.Tensor2D;
  const column = (index: number) =>
    tf.squeeze<tf.Tensor1D>(tf.gather(targets, tf.tensor1d([index], "int32"), 1), [1]);
  return tf.tidy(() => {
    let history: ConformalHistory = [];
    const losses = layers(1, depth - 1).map((layer) => {
      const site = { layer, depth, task };
      const signals = exits[layer - 1] as (typeof exits)[number];
      const { logits: given } = signals;
      // Temperatures are trained before; here they are given.
      const answer = detached(() => conformalAnswer(params, given, site));
      const logits = conformalLogits(params, signals, answer, history, site);
      history = remembered(history, answer, layer);
      const rows = softmaxCrossEntropy(logits, column(layer - 1)); // [B]
      return tf.sum(tf.mul(rows, column(depth - 1 + layer - 1)));
    });
    const total = losses.reduce((sum, loss) => tf.add(sum, loss));
    return tf.mul(tf.div(total, depth - 1), perRow) as tf.Scalar;
  });
}

/** Needs its own head: what its inner layer says is part of what the meta-classifier reads. */
export const cat: Recipe<typeof strategy> = { strategy, head };

/**
 * @file Global Past-Future: each exit weighs what all layers so far say against what it imagines the later ones would say;
 * all exits are trained together, and imagined states are pulled towards the real ones. Exits as DeeBERT does.
 *
 * Shapes: B = rows, H = hidden size, C = classes, t = layer, j = layer whose state is seen or imagined.
 * @see Liao et al. 2021, section 3
 */
import { type BackboneHead, copyPooler } from "@cee/backbone";
import { createRng, stopGradient } from "@cee/engine";
import {
  defineExitStrategy,
  type ExitHead,
  entropy,
  type ModelShape,
  type PhasePlan,
  type TrainingStep,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { dense, denseParams } from "./dense.js";
import { layers, weightedLoss } from "./losses.js";
import { jointPhase } from "./phases.js";
import { phaseSettings, type Recipe } from "./recipe.js";

/** Every layer draws from streams of its own. */
const fresh = (
  seed: number,
  owner: number | "shared",
  name: string,
  inputs: number,
  outputs: number,
) => denseParams(name, inputs, outputs, createRng(seed).fork(`heads.${owner}.${name}`));

/** A pooler and a gate per layer; projections and imagination of a layer are shared by all exits that use them. */
const head: BackboneHead = {
  name: "past-future",
  carries: true,
  readsFirstToken: true,
  params: ({ hidden, classes, depth }, layer, seed) => ({
    ...fresh(seed, layer, "pooler", hidden, hidden),
    // The last layer has no future to weigh.
    ...(layer < depth ? fresh(seed, layer, "gate", classes, classes) : {}),
  }),
  inherit: copyPooler,
  shared: ({ hidden, classes, depth }, seed) =>
    Object.assign(
      {},
      ...layers(1, depth).map((layer) => ({
        ...fresh(seed, "shared", `answer.${layer}`, hidden, classes),
        ...(layer < depth ? fresh(seed, "shared", `gate.${layer}`, hidden, classes) : {}),
        ...(layer > 1 ? fresh(seed, "shared", `imagine.${layer}`, hidden, hidden) : {}),
      })),
    ),
  apply(params, { hidden, dropout, layer, shape }, carry) {
    const { depth } = shape;
    const first = tf.squeeze<tf.Tensor2D>(tf.gather(hidden, tf.tensor1d([0], "int32"), 1), [1]);
    const state = tf.tanh(dense(params, "pooler", first)); // [B, H]
    const past = (carry ?? []) as readonly tf.Tensor2D[];
    const seen = [...past, dropout(state)];
    const sum = (terms: readonly tf.Tensor2D[]) => terms.reduce((total, one) => tf.add(total, one));
    const said = sum(seen.map((one, index) => dense(params, `shared.answer.${index + 1}`, one))); // [B, C]
    if (layer === depth) return { logits: said, pooled: state, features: state };
    const imagined = layers(layer + 1, depth).map((later) => ({
      later,
      state: tf.tanh(dense(params, `shared.imagine.${later}`, state)) as tf.Tensor2D,
    }));
    const expected = sum(
      imagined.map(({ later, state: own }) => dense(params, `shared.answer.${later}`, own)),
    );
    const mean = tf.div<tf.Tensor2D>(
      sum(seen.map((one, index) => dense(params, `shared.gate.${index + 1}`, one))),
      layer,
    );
    const gate = tf.sigmoid(dense(params, "gate", tf.tanh(mean)));
    const logits = tf.add<tf.Tensor2D>(
      tf.mul(tf.mul(gate, 2), said),
      tf.mul(tf.sub(2, tf.mul(gate, 2)), expected),
    );
    // The state and after it the imagined ones: what the loss compares.
    const imagining = tf.stack([state, ...imagined.map((one) => one.state)], 1);
    return {
      logits,
      pooled: state,
      features: tf.reshape(imagining, [imagining.shape[0], -1]) as tf.Tensor2D,
      // Later exits read this state and don't move it.
      carry: [...past, stopGradient(state)],
    };
  },
};

const options = v.strictObject({
  ...entropy.definition.options.entries,
  // Deviates from the paper: learning rate and epochs differ from task to task; these are MRPC's.
  /** All exits together. */
  joint: phaseSettings({ epochs: 5, batchSize: 16, learningRate: 2e-5, warmup: 0 }),
});

const strategy = defineExitStrategy({
  ...entropy.definition,
  name: "past-future",
  options,
  phases: plan,
});

// Deviates from the released code: it also cuts the gradient of the lowest one to three layers, at random and ever more
// rarely; here it always flows. The authors of Zero Time Waste note that the code is not what the paper describes.
function* plan(_: ModelShape, { joint }: v.InferOutput<typeof options>): PhasePlan {
  yield {
    ...jointPhase(joint, "imitation", (step) =>
      tf.div(tf.add(weightedLoss(step), imitation(step)), 2),
    ),
    // Every layer has a pooler of its own; the backbone's is only what they start from.
    trains: ["backbone.embeddings.**", "backbone.encoder.**", "heads.**"],
  };
}

/** 1 - cosine between imagined and real later states, mean over rows, later layers and exits. */
function imitation({ exits, shape, perRow }: TrainingStep): tf.Scalar {
  const { depth, hidden } = shape;
  if (depth === 1) return tf.scalar(0);
  return tf.tidy(() => {
    const split = (layer: number): tf.Tensor2D[] => {
      const { features } = exits[layer - 1] as (typeof exits)[number];
      if (layer === depth) return [features];
      const states = tf.reshape(features, [features.shape[0], depth - layer + 1, hidden]);
      return layers(0, depth - layer).map((index) =>
        tf.squeeze<tf.Tensor2D>(tf.gather(states, tf.tensor1d([index], "int32"), 1), [1]),
      );
    };
    const states = layers(1, depth).map(split);
    const real = states.map(([own]) => stopGradient(own as tf.Tensor2D));
    const perExit = states.slice(0, -1).map(([, ...imagined], index) => {
      const distances = imagined.map((own, ahead) =>
        tf.sum(tf.sub(1, cosine(own, real[index + 1 + ahead] as tf.Tensor2D))),
      );
      return tf.div<tf.Scalar>(
        distances.reduce((total, one) => tf.add(total, one)),
        imagined.length,
      );
    });
    const total = perExit.reduce((sum, one) => tf.add(sum, one));
    return tf.mul(tf.div(total, depth - 1), perRow) as tf.Scalar;
  });
}

/** Per row, shape `[B]`; zero vectors have a cosine of 0. */
function cosine(a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor1D {
  const norm = (x: tf.Tensor2D) => tf.sqrt(tf.add(tf.sum(tf.square(x), 1), 1e-12));
  return tf.div(tf.sum(tf.mul(a, b), 1), tf.mul(norm(a), norm(b))) as tf.Tensor1D;
}

/** Needs its own head; the gate and the imagined states live there. */
export const pastFuture: Recipe<typeof strategy> = { strategy, head: head satisfies ExitHead };

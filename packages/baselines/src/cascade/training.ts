/**
 * @file How a cascade's small model is trained: cross-entropy, and a margin that keeps its confidence on easy rows above
 * that on hard ones, so that the confidence says when to ask the next model.
 *
 * Shapes: B = rows of the batch, N = training rows, C = classes.
 * @see Li et al. 2021, CascadeBERT, section 3
 */
import { BackboneError } from "@cee/backbone";
import type {
  ExitRecord,
  ModelShape,
  PhasePlan,
  TrainingPhase,
  TrainingStep,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { answerAt } from "../controls/oracle.js";
import { truncatedPaths, truncatedPlan } from "../controls/truncated.js";
import { logitsAt, lossAt } from "../losses.js";
import type { CascadeOptions } from "./options.js";

/** 1 for a hard row, 0 for an easy one, by row id. */
export type Difficulty = ReadonlyMap<string, 0 | 1>;

/**
 * Which training rows are hard: those that at least half of the small models (one per seed) answer wrong.
 *
 * The paper takes the small model's own mistakes over five seeds; how many of them make a row hard is not said.
 * @param answers one record per seed, of the same rows
 * @param depth the small model's last layer
 * @throws BackboneError `BAD_INPUT` for records of different rows
 */
export function difficultyOf(answers: readonly ExitRecord[], depth: number): Difficulty {
  const [first] = answers;
  if (!first || answers.some(({ ids }) => ids.length !== first.ids.length))
    throw new BackboneError(
      "BAD_INPUT",
      "cascade",
      `difficulty needs one record per seed of the same rows, got ${answers.map(({ ids }) => ids.length).join(", ") || "none"}.`,
    );
  return new Map(
    first.ids.map((id, row) => {
      const wrong = answers.filter(
        (record) => answerAt(record, row, depth) !== record.labels[row],
      ).length;
      return [id, 2 * wrong >= answers.length ? 1 : 0] as const;
    }),
  );
}

/** One of the small models whose mistakes say what is hard; `run` tells their order of rows apart. */
export function* difficultyPlan(
  shape: ModelShape,
  { depth, difficulty }: Pick<CascadeOptions, "depth" | "difficulty">,
  run: number,
): PhasePlan {
  const phase = truncatedPlan(shape, depth, difficulty).next().value as TrainingPhase;
  // Rows are shuffled by the phase's name.
  yield { ...phase, name: `difficulty-${run}` };
}

/**
 * Plans the small model: the first `depth` blocks with the classifier on top of them.
 * @param hard asked for when the phase starts
 */
// Deviates from the paper: it takes small models that were pre-trained as such; these are the first blocks of the backbone.
export function* cascadePlan(
  { depth: layers }: ModelShape,
  { depth, small, margin, weight }: CascadeOptions,
  hard: () => Difficulty,
): PhasePlan {
  if (depth >= layers)
    throw new BackboneError(
      "BAD_OPTION",
      "cascade",
      `the small model must have fewer layers than the large one's ${layers}, got ${depth}.`,
    );
  yield {
    name: "cascade-small",
    trains: truncatedPaths(depth),
    ...small,
    prepare: ({ ids }) => {
      const known = hard();
      return { width: 1, values: Float32Array.from(ids, (id) => known.get(id) ?? 0) };
    },
    losses: {
      "cross-entropy + margin": (step) =>
        tf.add(lossAt(step, depth), tf.mul(marginLoss(step, depth, margin), weight)) as tf.Scalar,
    },
  };
}

/**
 * `max(0, m - (c_easy - c_hard))`, the mean over the pairs of an easy and a hard row, where c is the highest probability;
 * 0 in a batch without such a pair. Side data: 1 for hard, `[B, 1]`.
 */
// Deviates from the released code: it draws random pairs; this is their expectation.
export function marginLoss(step: TrainingStep, layer: number, margin: number): tf.Scalar {
  return tf.tidy(() => {
    const sure = tf.max(tf.softmax(logitsAt(step.exits, layer)), 1, true); // [B, 1]
    const isHard = step.side as tf.Tensor2D; // [B, 1]
    const isEasy = tf.sub(1, isHard);
    const pairs = tf.matMul(isEasy as tf.Tensor2D, isHard, false, true); // [B easy, B hard]
    const gaps = tf.sub(sure, tf.transpose(sure));
    const losses = tf.relu(tf.sub(margin, gaps));
    return tf.div(tf.sum(tf.mul(losses, pairs)), tf.maximum(tf.sum(pairs), 1)) as tf.Scalar;
  });
}

/**
 * @file CAT (confident adaptive transformers): a meta-classifier per layer says whether the answer there agrees with the
 * full model's; exit when it is surer than a threshold that calibration takes from rows where it was wrong.
 *
 * B = live rows, C = classes, F = head features, t = layer, n = calibration rows that disagree at some layer.
 * @see Schuster et al. 2021, sections 4 and 5
 */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";
import type { HostParams } from "../host-tensor.js";
import { predictionOf } from "../outcome.js";
import type { ExitRecord } from "../record.js";
import type { LayerSite, ModelShape, Signals } from "../strategy.js";
import { draws } from "./draws.js";
import { column, notANumber } from "./signals.js";

type Parameters = Readonly<Record<string, tf.Tensor>>;

/** Units of the exit head's and the meta-classifier's inner layer; never more than the encoder has. */
export const conformalWidth = ({ hidden }: Pick<ModelShape, "hidden">): number =>
  Math.min(32, hidden);

/** Answers of layer t and of the full model agree: the same class, or numbers this close. */
export const CONFORMAL_TOLERANCE = 0.5;

/** Probabilities (of a number: the values) of the layers 2 to t - 1, first layer first, each `[B, C]`. */
export type ConformalHistory = readonly tf.Tensor2D[];

/** What an exit says after temperature scaling: probabilities, or the number itself, shape `[B, C]`. */
export function conformalAnswer(
  params: Parameters,
  logits: tf.Tensor2D,
  { layer, task }: Pick<LayerSite, "layer" | "task">,
): tf.Tensor2D {
  if (task === "regression") return logits;
  const temperature = tf.exp(params[`temperature.${layer}`] as tf.Tensor1D);
  return tf.softmax(tf.div<tf.Tensor2D>(logits, temperature));
}

/** The meta-classifier's two logits (disagrees, agrees) below the last layer, shape `[B, 2]`. */
export function conformalLogits(
  params: Parameters,
  { features }: Pick<Signals, "features">,
  answer: tf.Tensor2D,
  history: ConformalHistory,
  { layer, depth, task }: LayerSite,
): tf.Tensor2D {
  const at = (name: string) => params[`meta.${layer}.${name}`] as tf.Tensor2D;
  return tf.tidy(() => {
    const zero = tf.mul(tf.sum(answer, 1, true), 0) as tf.Tensor2D; // [B, 1]
    const own: tf.Tensor2D[] = [];
    let seen: (past: tf.Tensor2D) => tf.Tensor2D;
    if (task === "regression") {
      // Deviates from the released code: a number has no probabilities; what stands for them is the value, and in the
      // history how far it has moved.
      own.push(answer);
      seen = (past) => tf.abs(tf.sub<tf.Tensor2D>(answer, past));
    } else {
      const highest = tf.max(answer, 1, true) as tf.Tensor2D; // [B, 1]
      // A comparison, since one-hot vectors of a single class don't exist.
      const classes = tf.range(0, answer.shape[1], 1, "int32"); // [C]
      const best = tf.expandDims<tf.Tensor2D>(tf.argMax(answer, 1), 1); // [B, 1]
      const label = tf.cast(tf.equal(best, classes), "float32") as tf.Tensor2D; // [B, C]
      const second = tf.max<tf.Tensor2D>(tf.sub(answer, tf.mul(label, 2)), 1, true);
      own.push(label, highest, tf.sub<tf.Tensor2D>(highest, second));
      seen = (past) => tf.sum(tf.mul(past, label), 1, true) as tf.Tensor2D;
    }
    const newestFirst = [...history].reverse().map(seen);
    const padded = Array.from(
      { length: historyLength(depth) },
      (_, index) => newestFirst[index] ?? zero,
    );
    const position = tf.add(zero, depth > 1 ? (layer - 1) / (depth - 1) : 0) as tf.Tensor2D;
    const input = tf.concat([features, ...own, ...padded, position], 1); // [B, I]
    const inner = tf.tanh(
      tf.add(tf.matMul(input, at("hidden.weight"), false, true), at("hidden.bias")),
    ) as tf.Tensor2D;
    return tf.add(tf.matMul(inner, at("output.weight"), false, true), at("output.bias"));
  });
}

/** Layers 2 to L - 2 can lie behind an exit below the last. */
const historyLength = (depth: number) => Math.max(0, depth - 3);

/** What the next layer remembers; layer 1 is not part of it. */
export function remembered(
  history: ConformalHistory,
  answer: tf.Tensor2D,
  layer: number,
): ConformalHistory {
  return layer === 1 ? [] : [...history, answer];
}

/** The layers below the last whose answers disagree with the last one's, by row. */
export function disagreements({ shape, logits, ids }: ExitRecord): boolean[][] {
  const { depth, classes, task } = shape;
  const answerAt = (row: number, index: number): number =>
    predictionOf(task, logits, (row * depth + index) * classes, classes);
  return ids.map((_, row) => {
    const final = answerAt(row, depth - 1);
    return Array.from({ length: depth - 1 }, (__, index) => {
      const own = answerAt(row, index);
      return task === "regression"
        ? !(Math.abs(own - final) <= CONFORMAL_TOLERANCE)
        : own !== final;
    });
  });
}

/** Rank of the threshold among n sorted scores; n stands for "infinite". In float32, as a graph computes it. */
function rankOf(count: number, epsilon: number): number {
  return Math.ceil(Math.fround(count * Math.fround(1 - Math.fround(epsilon))));
}

export const conformal = defineExitStrategy({
  name: "conformal",
  options: v.strictObject({
    /**
     * `epsilon` in the paper, the share of rows that may answer otherwise than the full model: higher exits earlier.
     * @default 0.1
     */
    epsilon: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0.1),
    /**
     * Highest score among the layers that disagree, of each calibration row that has one, ascending. Without any nothing
     * exits early.
     * @default none
     */
    scores: v.optional(v.array(v.pipe(v.number(), v.finite())), []),
  }),
  needs: ["logits", "features"],
  tasks: ["classification", "regression"],
  knob: {
    option: "epsilon",
    grid: [0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
    direction: "higher-is-faster",
    isMonotone: true,
  },
  calibrated: ["scores"],
  params(shape: ModelShape, _, seed): HostParams {
    const { depth, classes, task } = shape;
    const width = conformalWidth(shape);
    const own = task === "regression" ? 1 : classes + 2;
    const inputs = width + own + historyLength(depth) + 1;
    const params: Record<string, HostParams[string]> = {};
    for (let layer = 1; layer < depth; layer += 1) {
      const path = `meta.${layer}`;
      const fresh = (name: string, outputs: number, size: number) => {
        params[`${path}.${name}.weight`] = draws(
          [outputs, size],
          1 / Math.sqrt(size),
          seed,
          `${path}.${name}`,
        );
        params[`${path}.${name}.bias`] = draws([outputs], 0, seed, "");
      };
      fresh("hidden", width, inputs);
      fresh("output", 2, width);
      if (task !== "regression") params[`temperature.${layer}`] = draws([1], 0, seed, "");
    }
    return params;
  },
  observe({ logits, features }, { site, params, carry }) {
    const alert = notANumber(logits);
    // The last layer is what the others are compared with; it has no meta-classifier.
    if (site.layer === site.depth) return tf.add<tf.Tensor1D>(alert, 1);
    const history = (carry ?? []) as ConformalHistory;
    const answer = conformalAnswer(params, logits, site);
    const meta = conformalLogits(params, { features }, answer, history, site);
    const score = column(tf.softmax(meta), 1);
    return {
      values: tf.add<tf.Tensor1D>(score, alert),
      carry: remembered(history, answer, site.layer),
    };
  },
  start: () => ({}),
  decide(observed, state, { options: { epsilon, scores } }) {
    const rank = rankOf(scores.length, epsilon);
    if (rank >= scores.length) return { exit: false, state };
    return { exit: (observed[0] as number) > Math.fround(scores[rank] as number), state };
  },
  decideTensor(observed, state, { options: { epsilon, scores } }) {
    const count = scores.shape[0] ?? 0;
    const score = column(observed, 0);
    if (count === 0) return { exit: tf.less(tf.abs(score), Number.NEGATIVE_INFINITY), state };
    const rank = tf.ceil(tf.mul(tf.sub(1, epsilon), count));
    const listed = tf.cast(tf.minimum(rank, count - 1), "int32") as tf.Scalar;
    const threshold = tf.gather(scores as tf.Tensor1D, listed);
    return {
      exit: tf.logicalAnd(tf.greater(score, threshold), tf.less(rank, count)) as tf.Tensor1D,
      state,
    };
  },
  calibrate(record) {
    const { depth } = record.shape;
    const scores: number[] = [];
    disagreements(record).forEach((layers, row) => {
      const own = layers.flatMap((disagrees, index) =>
        disagrees ? [record.observed[row * depth + index] as number] : [],
      );
      // A score that is no number never exits, so it is no reason for a higher threshold.
      const finite = own.filter(Number.isFinite);
      if (finite.length > 0) scores.push(Math.max(...finite));
    });
    return { scores: scores.sort((a, b) => a - b) };
  },
});

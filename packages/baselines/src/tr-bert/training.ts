/**
 * @file TR-BERT's training: a teacher, then selectors by reinforcement learning on the frozen teacher, then everything on
 * the teacher's answers.
 *
 * A dropped token is no key any more; its own states are computed on and read by nobody, which gives the same answers as
 * dropping it and has gradients at every batch and length.
 *
 * Shapes: B = rows, S = length, K = copies, R = K B sampled rows (copy after copy), H = hidden size, C = classes.
 * @see Ye et al. 2021, section 3
 */
import { attentionBias, block, embed, type ModelPlan } from "@cee/backbone";
import { softmaxCrossEntropy, stopGradient, uniform } from "@cee/engine";
import type { PhasePlan, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { detached } from "../detached.js";
import { layers, lossAt } from "../losses.js";
import { answer, type OwnForward, ownForward } from "../own-forward.js";
import type { TrBertOptions } from "./options.js";
import { checkTrBert, keepProbability, selectorLayers } from "./selector.js";

/** In the logarithms of the selectors' loss. */
const EPSILON = 1e-6;
/** Where the action of each selector is drawn. */
const SITES = { 1: (1 << 23) + 1, 2: (1 << 23) + 2 } as const;

/** The layer whose gradient says which tokens matter: 9 of 12, 5 of 6. */
export function guideLayer(depth: number): number {
  return Math.round((3 * depth) / 4);
}

/** Plans all phases; the model needs the parameters of `trBertParams`. @throws BackboneError `BAD_OPTION` */
export function* trBertPlan(model: ModelPlan, options: TrBertOptions): PhasePlan {
  checkTrBert(model);
  const { depth, classes } = model.shape;
  const everything = ["backbone.**", `heads.${depth}.**`, "heads.shared.**"];
  if (!options.initialised)
    yield {
      name: "fine-tune",
      trains: everything,
      ...options.fineTune,
      losses: { task: (step) => lossAt(step, depth) },
    };
  yield {
    name: "policy",
    trains: ["strategy.**"],
    // Rewards are compared between copies of a row: dropout would be noise in them.
    dropout: false,
    ...options.policy,
    losses: { policy: (step) => policyLoss(model, step, options) },
  };
  yield {
    name: "joint",
    trains: [...everything, "strategy.**"],
    ...options.joint,
    // The teacher is the model as the policy phase left it: its encoder and classifier are still the fine-tuned ones.
    prepare: ({ ids, logits }) => {
      const values = new Float32Array(ids.length * classes);
      for (let row = 0; row < ids.length; row += 1) {
        const last = (row * depth + depth - 1) * classes;
        values.set(logits.subarray(last, last + classes), row * classes);
      }
      return { width: classes, values };
    },
    losses: { "distillation + policy": (step) => jointLoss(model, step, options) },
  };
}

/** What a sampled pass gives. */
interface Sampled {
  /** Answers of the copies, `[R, C]`. */
  readonly logits: tf.Tensor2D;
  /** Share of the row's tokens that are left after each selector, `[R]`. */
  readonly kept: readonly [tf.Tensor1D, tf.Tensor1D];
  /** Minus the log-probability of what the selectors did, mean over the tokens that each could choose about, `[R]`. */
  readonly surprise: tf.Tensor1D;
}

/** Which tokens the heuristic would keep, and in how much of this step it is followed (0 or 1). */
interface Guide {
  readonly scores: readonly [tf.Tensor2D, tf.Tensor2D];
  readonly isGuided: tf.Scalar;
}

/** Runs K copies of each row with tokens dropped at random. */
function sample(
  model: ModelPlan,
  step: TrainingStep,
  forward: OwnForward,
  { copies }: TrBertOptions,
  guide: Guide | undefined,
): Sampled {
  const { weights, tokens, context } = forward;
  const { depth } = model.shape;
  const [first, second] = selectorLayers(depth);
  const isFirst = tf.cast(tf.equal(tokens.positions, 0), "float32"); // [S]
  const repeat = <T extends tf.Tensor>(x: T): T =>
    tf.tile(x, [copies, ...x.shape.slice(1).map(() => 1)]) as T;
  const firstCopy = firstOfCopies(tokens.mask, copies); // [R, 1]

  const act = (
    selector: 1 | 2,
    probability: tf.Tensor2D,
    present: tf.Tensor2D,
  ): { readonly keep: tf.Tensor2D; readonly surprise: tf.Tensor1D } => {
    // Off the tape: what was done is no function of the probabilities, and comparisons have no gradient.
    const chosen = detached(() => {
      const draw = uniform(probability, { seed: step.seed, site: SITES[selector] });
      const drawn = tf.cast(tf.less(draw, probability), "float32");
      if (!guide) return drawn;
      const score = repeat(guide.scores[selector - 1] as tf.Tensor2D);
      const wanted = keepBest(score, present, probability);
      const follow = tf.mul(firstCopy, guide.isGuided); // [R, 1]
      return tf.add(tf.mul(follow, wanted), tf.mul(tf.sub(1, follow), drawn));
    });
    // The first token is kept whatever its selector says, so that saying is no action.
    // Deviates from the released code: it counts the first token's, and padding's, among the actions.
    const free = tf.mul(present, tf.sub(1, isFirst)); // [R, S]
    const said = tf.add(
      tf.mul(chosen, tf.log(tf.add(probability, EPSILON))),
      tf.mul(tf.sub(1, chosen), tf.log(tf.add(tf.sub(1, probability), EPSILON))),
    );
    const count = tf.maximum(tf.sum(free, 1), 1);
    const surprise = tf.neg(tf.div(tf.sum(tf.mul(said, free), 1), count)) as tf.Tensor1D;
    const keep = tf.mul(present, tf.maximum(chosen, isFirst)) as tf.Tensor2D;
    return { keep, surprise };
  };

  let hidden = embed(weights, tokens, context);
  for (const layer of layers(1, first))
    hidden = block(weights, layer, hidden, attentionBias(tokens.mask), context);
  const mask = repeat(tokens.mask); // [R, S]
  const one = act(1, repeat(keepProbability(weights, 1, hidden)), mask);
  let copiesHidden = repeat(hidden); // [R, S, H]
  for (const layer of layers(first + 1, second))
    copiesHidden = block(weights, layer, copiesHidden, attentionBias(one.keep), context);
  const two = act(2, keepProbability(weights, 2, copiesHidden), one.keep);
  for (const layer of layers(second + 1, depth))
    copiesHidden = block(weights, layer, copiesHidden, attentionBias(two.keep), context);
  // Deviates from the released code: it divides by the padded length, which says more about the batch than about the row.
  const size = tf.sum(mask, 1);
  const share = (keep: tf.Tensor2D) => tf.div(tf.sum(keep, 1), size) as tf.Tensor1D;
  return {
    logits: answer(model, forward, copiesHidden, two.keep, depth),
    kept: [share(one.keep), share(two.keep)],
    surprise: tf.add(one.surprise, two.surprise),
  };
}

/** 1 for rows of the first copy, `[R, 1]`: rows are numbered by adding up, since no count is known while tracing. */
function firstOfCopies(mask: tf.Tensor2D, copies: number): tf.Tensor2D {
  const one = tf.add(tf.mul(tf.max(mask, 1, true), 0), 1); // [B, 1]
  const none = tf.mul(one, 0);
  return tf.concat([one, ...Array.from({ length: copies - 1 }, () => none)], 0) as tf.Tensor2D;
}

/** The round(sum of probabilities) tokens with the highest score among those present, `[R, S]`. */
export function keepBest(
  score: tf.Tensor2D,
  present: tf.Tensor2D,
  probability: tf.Tensor2D,
): tf.Tensor2D {
  const wanted = tf.round(tf.sum(tf.mul(probability, present), 1, true)); // [R, 1]
  // Absent tokens come after all others, whose scores are at least 0.
  const own = tf.sub(tf.mul(score, present), tf.sub(1, present));
  const better = tf.cast(tf.greater(tf.expandDims(own, 1), tf.expandDims(own, 2)), "float32"); // [R, S, S]
  const rank = tf.sum(better, 2); // [R, S]
  return tf.mul(tf.cast(tf.less(rank, wanted), "float32"), present) as tf.Tensor2D;
}

/** `|g · (h_9 - h_j)|` per token for both selectors' inputs, g being the gradient of the loss at h_9, `[B, S]` each. */
export function heuristic(
  model: ModelPlan,
  step: TrainingStep,
  forward: OwnForward,
): Guide["scores"] {
  const { weights, tokens, context } = forward;
  const { depth } = model.shape;
  const [first, second] = selectorLayers(depth);
  const top = guideLayer(depth);
  const bias = attentionBias(tokens.mask);
  const states: tf.Tensor3D[] = [embed(weights, tokens, context)];
  for (const layer of layers(1, top))
    states.push(block(weights, layer, states[layer - 1] as tf.Tensor3D, bias, context));
  const last = states[top] as tf.Tensor3D;
  const gradient = tf.grad((x: tf.Tensor) => {
    let hidden = x as tf.Tensor3D;
    for (const layer of layers(top + 1, depth))
      hidden = block(weights, layer, hidden, bias, context);
    const rows = softmaxCrossEntropy(
      answer(model, forward, hidden, tokens.mask, depth),
      step.labels,
    );
    return tf.sum(rows);
  })(last);
  const scoreFrom = (layer: number) =>
    stopGradient(
      tf.abs(
        tf.sum(tf.mul(gradient, tf.sub(last, states[layer] as tf.Tensor3D)), 2),
      ) as tf.Tensor2D,
    );
  return [scoreFrom(first), scoreFrom(second)];
}

/**
 * Mean over all copies of (R - b) times the surprise, with the reward R = -loss - alpha * (kept share, mean of both
 * reductions) and the baseline b, a row's mean over its copies.
 * @param losses `[R]`
 */
export function reinforce(
  losses: tf.Tensor1D,
  { kept, surprise }: Pick<Sampled, "kept" | "surprise">,
  { alpha, copies }: Pick<TrBertOptions, "alpha" | "copies">,
  perRow: tf.Scalar,
): tf.Scalar {
  return tf.tidy(() => {
    const length = tf.mul(tf.add(kept[0], kept[1]), 0.5);
    const reward = tf.reshape(tf.neg(tf.add(losses, tf.mul(length, alpha))), [copies, -1]); // [K, B]
    const advantage = stopGradient(tf.sub(reward, tf.mean(reward, 0, true)));
    const weighted = tf.mul(advantage, tf.reshape(surprise, [copies, -1]));
    return tf.mul(tf.sum(weighted), tf.div(perRow, copies)) as tf.Scalar;
  });
}

function policyLoss(model: ModelPlan, step: TrainingStep, options: TrBertOptions): tf.Scalar {
  const forward = ownForward(model, step, false);
  const guide: Guide | undefined =
    options.guideRate === 0
      ? undefined
      : {
          scores: heuristic(model, step, forward),
          isGuided: tf.cast(tf.less(step.progress, options.guideRate), "float32") as tf.Scalar,
        };
  const sampled = sample(model, step, forward, options, guide);
  const labels = tf.tile(step.labels, [options.copies]);
  const losses = stopGradient(softmaxCrossEntropy(sampled.logits, labels));
  return reinforce(losses, sampled, options, step.perRow);
}

function jointLoss(model: ModelPlan, step: TrainingStep, options: TrBertOptions): tf.Scalar {
  const { copies, temperature } = options;
  const sampled = sample(model, step, ownForward(model, step, true), options, undefined);
  const teacher = tf.tile(tf.softmax(tf.div(step.side as tf.Tensor2D, temperature)), [copies, 1]); // [R, C]
  const student = tf.logSoftmax(tf.div(sampled.logits, temperature) as tf.Tensor2D);
  const losses = tf.neg(tf.sum(tf.mul(teacher, student), 1)) as tf.Tensor1D; // [R]
  const distillation = tf.mul(tf.sum(losses), tf.div(step.perRow, copies));
  return tf.add(
    distillation,
    reinforce(stopGradient(losses), sampled, options, step.perRow),
  ) as tf.Scalar;
}

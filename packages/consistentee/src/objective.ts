/**
 * @file The policy objective (Eq. 5): expected reward of the exit layer, in closed form and sampled.
 *
 * B = rows, K = sampled copies of a row, L = depth. `logits` `[B, L - 1]` belong to layers 1 to L - 1; at L the exit is
 * forced, so p_L = 1.
 */
import * as tf from "@tensorflow/tfjs";
import { detached } from "./detached.js";

export type Baseline = "group" | "leave-one-out" | "none";

/** Log-probability of exiting at each layer, `[B, L]`: ln p_t + sum over s < t of ln(1 - p_s). */
export function logExitProbabilities(logits: tf.Tensor2D): tf.Tensor2D {
  return tf.tidy(() => {
    // Softplus form: the logarithm of a sigmoid that underflows would be -Infinity, and its gradient NaN.
    const exit = tf.neg(tf.softplus(tf.neg(logits))) as tf.Tensor2D; // [B, L - 1], ln p
    const stay = tf.neg(tf.softplus(logits)) as tf.Tensor2D; // [B, L - 1], ln(1 - p)
    const depth = logits.shape[1] + 1;
    return tf.add(tf.matMul(exit, atSame(depth)), tf.matMul(stay, atLater(depth))); // [B, L]
  });
}

/** Closed-form objective of every row, `[B]`: sum over t of P(exit at t) R_t. */
export function exactObjective(logits: tf.Tensor2D, rewards: tf.Tensor2D): tf.Tensor1D {
  return tf.tidy(() => tf.sum(tf.mul(tf.exp(logExitProbabilities(logits)), rewards), 1));
}

/** Uniform numbers in [0, 1), each `[K, B, L - 1]`. */
export interface Draws {
  /** Compared with p: below it, the row exits. */
  readonly action: tf.Tensor3D;
  /** Below epsilon, the action is a coin toss instead. */
  readonly exploration: tf.Tensor3D;
}

export interface SampledOptions {
  /** Probability that an action is a coin toss, in [0, 1]. */
  readonly epsilon: number | tf.Scalar;
  /** What is subtracted from a copy's reward: the mean over its K copies, over the K - 1 others, or nothing. */
  readonly baseline: Baseline;
  /** Weights each copy by pi / behaviour; without it, epsilon > 0 biases the gradient. */
  readonly importance: boolean;
}

/**
 * REINFORCE surrogate of every row, `[B]`: its gradient with respect to `logits` estimates that of `exactObjective`.
 * Its value means nothing.
 */
export function sampledObjective(
  logits: tf.Tensor2D,
  rewards: tf.Tensor2D,
  draws: Draws,
  options: SampledOptions,
): tf.Tensor1D {
  return tf.tidy(() => {
    const copies = draws.action.shape[0];
    const logExit = logExitProbabilities(logits); // [B, L]
    const exits = detached(() => sampledExits(logits, draws, options.epsilon)); // [K, B, L]
    const logTrajectory = tf.sum(tf.mul(exits, logExit), 2); // [K, B]
    const weight = detached(() => {
      const advantage = advantages(tf.sum(tf.mul(exits, rewards), 2), options.baseline);
      if (!options.importance) return advantage;
      const behaviour = logBehaviour(logits, options.epsilon); // [B, L]
      const ratio = tf.exp(tf.sum(tf.mul(exits, tf.sub(logExit, behaviour)), 2));
      return tf.mul(advantage, ratio); // [K, B]
    });
    return tf.div(tf.sum(tf.mul(weight, logTrajectory), 0), copies) as tf.Tensor1D;
  });
}

/** Exit layer of every sampled copy, one-hot `[K, B, L]`. */
export function sampledExits(
  logits: tf.Tensor2D,
  draws: Draws,
  epsilon: number | tf.Scalar,
): tf.Tensor3D {
  return tf.tidy(() => {
    const follows = tf.cast(tf.less(draws.action, tf.sigmoid(logits)), "float32"); // [K, B, L - 1]
    const stop = explore(follows as tf.Tensor3D, draws.exploration, epsilon);
    const [K, B, layers] = stop.shape;
    const flat = firstExits(tf.reshape(stop, [K * B, layers]));
    return tf.reshape(flat, [K, B, layers + 1]);
  });
}

/** Exit layer under the rule of inference (p > 0.5), one-hot `[B, L]`, optionally with coin tosses. */
export function greedyExits(
  logits: tf.Tensor2D,
  exploring?: { readonly exploration: tf.Tensor2D; readonly epsilon: number | tf.Scalar },
): tf.Tensor2D {
  return tf.tidy(() => {
    const follows = tf.cast(tf.greater(logits, 0), "float32") as tf.Tensor2D; // [B, L - 1]
    const stop = exploring ? explore(follows, exploring.exploration, exploring.epsilon) : follows;
    return firstExits(stop); // [B, L]
  });
}

/** Replaces an action by a fair coin toss where its draw is below epsilon. */
function explore<TTensor extends tf.Tensor>(
  follows: TTensor,
  draw: TTensor,
  epsilon: number | tf.Scalar,
): TTensor {
  const tossed = tf.cast(tf.less(draw, epsilon), "float32");
  // Given that the draw is below epsilon, it is below epsilon / 2 half of the time.
  const exit = tf.cast(tf.less(draw, tf.mul(epsilon, 0.5)), "float32");
  return tf.add(exit, tf.mul(tf.sub(1, tossed), follows)) as TTensor;
}

/** From actions `[B, L - 1]` (1 = exit) to the layer of the first exit, one-hot `[B, L]`. */
function firstExits(stop: tf.Tensor2D): tf.Tensor2D {
  const depth = stop.shape[1] + 1;
  const before = tf.matMul(stop, atLater(depth)); // [B, L], exits taken below each layer
  const alive = tf.relu(tf.sub(1, before));
  const forced = tf.tensor1d(
    Array.from({ length: depth }, (_, index) => (index < depth - 1 ? 0 : 1)),
  );
  const here = tf.add(tf.matMul(stop, atSame(depth)), forced);
  return tf.mul(alive, here) as tf.Tensor2D;
}

/** Rewards `[K, B]` less the baseline. */
function advantages(reward: tf.Tensor, baseline: Baseline): tf.Tensor {
  const copies = reward.shape[0] as number;
  if (baseline === "none") return reward;
  const centred = tf.sub(reward, tf.div(tf.sum(reward, 0, true), copies));
  // R - (S - R) / (K - 1) = (R - S / K) K / (K - 1)
  return baseline === "group" ? centred : tf.mul(centred, copies / (copies - 1));
}

/** Log-probability of each exit under the policy mixed with coin tosses, `[B, L]`. */
function logBehaviour(logits: tf.Tensor2D, epsilon: number | tf.Scalar): tf.Tensor2D {
  const depth = logits.shape[1] + 1;
  const mixed = tf.add(tf.mul(tf.sub(1, epsilon), tf.sigmoid(logits)), tf.mul(epsilon, 0.5));
  // With epsilon = 0 a saturated policy gives 0; an action that improbable is never drawn.
  const exit = tf.clipByValue(mixed, 1e-7, 1 - 1e-7) as tf.Tensor2D;
  return tf.add(
    tf.matMul(tf.log(exit), atSame(depth)),
    tf.matMul(tf.log(tf.sub(1, exit)) as tf.Tensor2D, atLater(depth)),
  );
}

/** Maps layers 1 to L - 1 to themselves among 1 to L, `[L - 1, L]`; a product, since slices and pads trace badly. */
function atSame(depth: number): tf.Tensor2D {
  return selector(depth, (row, column) => row === column);
}

/** Adds every layer below t into t, `[L - 1, L]`. */
function atLater(depth: number): tf.Tensor2D {
  return selector(depth, (row, column) => row < column);
}

function selector(depth: number, isOne: (row: number, column: number) => boolean): tf.Tensor2D {
  const values = new Float32Array((depth - 1) * depth);
  for (let cell = 0; cell < values.length; cell += 1)
    values[cell] = isOne(Math.floor(cell / depth), cell % depth) ? 1 : 0;
  return tf.tensor2d(values, [depth - 1, depth]);
}

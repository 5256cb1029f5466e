/**
 * @file The iterative training of ConsistentEE (steps 1 to 5 of the paper) as a plan.
 *
 * Shapes: B = rows, K = sampled copies of a row, L = depth.
 */
import { uniform } from "@cee/engine";
import type {
  ExitRecord,
  ModelShape,
  PhasePlan,
  PhaseReport,
  TrainingPhase,
  TrainingStep,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { detached } from "./detached.js";
import { exitLosses, weightedExitLoss } from "./losses.js";
import { exactObjective, greedyExits, sampledObjective } from "./objective.js";
import type { ConsistentEEOptions, PhaseSettings } from "./options.js";
import { policyLogits } from "./policy.js";
import { policyReport } from "./policy-report.js";
import { recordedRewards, rewards } from "./reward.js";

/** Where in a step's random numbers each use draws from. */
const sites = { action: 1, exploration: 2, taskExploration: 3 } as const;

/** Step 1: backbone and heads on the weighted loss. Other methods may share this very training. */
export function initialisePhase(
  settings: PhaseSettings,
  trains: readonly string[] = ["backbone.**", "heads.**"],
): TrainingPhase {
  return {
    name: "initialise",
    trains,
    ...settings,
    losses: { wce: (step) => weightedExitLoss(exitLosses(step), step.perRow) },
  };
}

/**
 * Plans the whole training: initialisation, then rounds of memorized layers, policy step and task step until the
 * held-out objective gains less than `convergence`, or `maxRounds` is reached.
 */
export function* consistentEEPlan(
  shape: ModelShape,
  options: ConsistentEEOptions,
  /** What the task step trains. */
  taskTrains: readonly string[] = ["backbone.**", "heads.**"],
): PhasePlan {
  if (!options.initialised) yield initialisePhase(options.initialise);
  // With one layer every row exits there, and the task step would be the initialisation again.
  if (shape.depth === 1) return;
  let before: number | undefined;
  let round = 1;
  for (; round <= options.maxRounds; round += 1) {
    yield policyPhase(options, round);
    const report: PhaseReport = yield taskPhase(options, round, taskTrains);
    // Without held-out rows there is nothing to judge by: all rounds are run.
    const objective = report.measures.objective;
    if (objective !== undefined && before !== undefined && objective - before < options.convergence)
      break;
    before = objective;
  }
  if (options.finishWithPolicy) yield policyPhase(options, Math.min(round, options.maxRounds) + 1);
}

/** Steps 2 and 3: memorized layers, then the policy on recorded states; backbone and heads are frozen. */
export function policyPhase(options: ConsistentEEOptions, round: number): TrainingPhase {
  return {
    name: `policy-${round}`,
    trains: ["strategy.**"],
    source: "record",
    ...options.policy,
    losses: { policy: (step) => policyLoss(step, options) },
    // A layer's price is side data, not a constant: one compiled graph serves every alpha and both rewards.
    prepare: (record) => lossesAndPrices(record, options),
    measure: (record) => measure(record, options),
  };
}

/** Step 4: backbone and heads on the loss at the exit that the frozen policy chooses (Eq. 6). */
export function taskPhase(
  options: ConsistentEEOptions,
  round: number,
  trains: readonly string[] = ["backbone.**", "heads.**"],
): TrainingPhase {
  return {
    name: `task-${round}`,
    trains,
    ...options.task,
    losses: { task: (step) => taskLoss(step, options) },
    measure: (record) => measure(record, options),
  };
}

function policyLoss(step: TrainingStep, options: ConsistentEEOptions): tf.Scalar {
  const { side, perRow } = step;
  if (!side) throw new Error("internal: the policy phase has side data");
  const { depth } = step.shape;
  const [losses, prices] = tf.split(side, [depth, 1], 1) as [tf.Tensor2D, tf.Tensor2D];
  const reward = rewards(losses, tf.squeeze<tf.Tensor1D>(prices, [1])); // [B, L]
  const logits = policyLogits(step.params, pooledBelowLast(step)); // [B, L - 1]
  const objective =
    options.objective === "exact"
      ? exactObjective(logits, reward)
      : sampledObjective(logits, reward, draws(step, logits, options.samples), {
          epsilon: epsilonAt(step.step, options),
          baseline: options.baseline,
          importance: options.importance,
        }); // [B]
  return tf.neg(tf.mul(tf.sum(objective), perRow)) as tf.Scalar;
}

function draws(step: TrainingStep, logits: tf.Tensor2D, samples: number) {
  const [B, layers] = logits.shape;
  const draw = (site: number) =>
    uniform([samples, B, layers], { seed: step.seed, site }) as tf.Tensor3D;
  return { action: draw(sites.action), exploration: draw(sites.exploration) };
}

/** Exponential decay over the optimiser steps of a phase. */
export function epsilonAt(
  step: tf.Scalar,
  {
    epsilonStart,
    epsilonEnd,
    epsilonDecay,
  }: Pick<ConsistentEEOptions, "epsilonStart" | "epsilonEnd" | "epsilonDecay">,
): tf.Scalar {
  return tf.tidy(() => {
    const decay = tf.exp(tf.div(step, -epsilonDecay));
    return tf.add(tf.mul(decay, epsilonStart - epsilonEnd), epsilonEnd) as tf.Scalar;
  });
}

function taskLoss(step: TrainingStep, options: ConsistentEEOptions): tf.Scalar {
  const losses = exitLosses(step); // [B, L]
  const exits = detached(() => {
    const logits = policyLogits(step.params, pooledBelowLast(step)); // [B, L - 1]
    if (options.taskEpsilon === 0) return greedyExits(logits);
    const exploration = uniform(logits.shape, {
      seed: step.seed,
      site: sites.taskExploration,
    }) as tf.Tensor2D;
    return greedyExits(logits, { exploration, epsilon: options.taskEpsilon });
  });
  const atExit = tf.mul(tf.sum(tf.mul(exits, losses)), step.perRow) as tf.Scalar;
  if (options.wceWeight === 0) return atExit;
  return tf.add(atExit, tf.mul(weightedExitLoss(losses, step.perRow), options.wceWeight));
}

function pooledBelowLast({ exits, shape }: TrainingStep): tf.Tensor2D[] {
  return exits.slice(0, shape.depth - 1).map(({ pooled }) => pooled);
}

/** Side data of the policy step, `[N, L + 1]`: the loss at every exit, then the price of a layer. */
function lossesAndPrices(record: ExitRecord, options: ConsistentEEOptions) {
  const { rows, depth, losses, prices } = recordedRewards(record, options);
  const width = depth + 1;
  const values = new Float32Array(rows * width);
  for (let row = 0; row < rows; row += 1) {
    values.set(losses.subarray(row * depth, (row + 1) * depth), row * width);
    values[row * width + depth] = prices[row] as number;
  }
  return { width, values };
}

/** Nothing without held-out rows. */
function measure(
  record: ExitRecord,
  options: ConsistentEEOptions,
): Readonly<Record<string, number>> {
  return record.ids.length === 0 ? {} : { ...policyReport(record, options) };
}

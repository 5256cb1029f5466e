/** @file Options of ConsistentEE and its two presets. */
import * as v from "valibot";
import { ConsistentEEError } from "./errors.js";

const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const positive = v.pipe(v.number(), v.finite(), v.gtValue(0));
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
const notNegative = v.pipe(v.number(), v.finite(), v.minValue(0));

const phase = v.strictObject({
  epochs: v.optional(count),
  batchSize: v.optional(count),
  learningRate: v.optional(positive),
  /** Share of the steps with linear warm-up. */
  warmup: v.optional(share),
});

/** One training phase's settings. */
export interface PhaseSettings {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly warmup: number;
}

const given = v.strictObject({
  /** `paper`: published values, for BERT-base; `small`: for small, freshly initialised encoders. @default "small" */
  preset: v.optional(v.picklist(["paper", "small"]), "small"),
  /** Price of one layer in units of the loss; higher exits earlier, and needs training anew. @default by preset */
  alpha: v.optional(notNegative),
  /** `hardness` is Eq. 4, `vanilla` Eq. 3. @default "hardness" */
  reward: v.optional(v.picklist(["hardness", "vanilla"]), "hardness"),
  /** How the policy step obtains its gradient. @default by preset */
  objective: v.optional(v.picklist(["exact", "sampled"])),
  /** `K`, sampled copies of a row; 2 or more unless `baseline` is `none`. @default 8 */
  samples: v.optional(count, 8),
  /** Subtracted from a copy's reward. @default "group" */
  baseline: v.optional(v.picklist(["group", "leave-one-out", "none"]), "group"),
  /** Corrects the sampled gradient for epsilon by importance weights. @default by preset */
  importance: v.optional(v.boolean()),
  /** Probability that a sampled action is a coin toss at the first step of a policy phase. @default by preset */
  epsilonStart: v.optional(share),
  /** The same after many steps. @default by preset */
  epsilonEnd: v.optional(share),
  /** Optimiser steps in which epsilon comes nearer to its end by a factor e. @default 83 */
  // Deviates from the released code: it counts every layer of every batch, 1000 of which are about 83 batches.
  epsilonDecay: v.optional(positive, 83),
  /** Coin tosses in the task step, against heads that no row reaches any more. @default 0 */
  taskEpsilon: v.optional(share, 0),
  // Deviates from the paper: Eq. 6 has the loss at the chosen exit only.
  /** Weight of the weighted loss of all exits (Eq. 1) in the task step, against starving heads. @default 0 */
  wceWeight: v.optional(notNegative, 0),
  /** Width of the policy's inner layer. @default 32 */
  width: v.optional(count, 32),
  // Deviates from the paper: it always exits at p > 0.5.
  /** A row exits when its probability to exit is above this; lower exits earlier. @default 0.5 */
  threshold: v.optional(share, 0.5),
  /** Regression: largest absolute error that counts as correct in the memorized layer. @default 0.5 */
  tolerance: v.optional(notNegative, 0.5),
  /** Rounds of policy and task step at most. @default by preset */
  maxRounds: v.optional(count),
  /** Smallest gain of the held-out objective that is worth another round. @default 1e-3 */
  convergence: v.optional(notNegative, 1e-3),
  // Deviates from the paper: it ends with the task step.
  /** Trains the policy once more after the last task step, which has moved the states. @default by preset */
  finishWithPolicy: v.optional(v.boolean()),
  /** Leaves the initialisation out, because the model has had it. @default false */
  initialised: v.optional(v.boolean(), false),
  /** Step 1, everything on the weighted loss. */
  initialise: v.optional(phase, {}),
  /** Step 3, the policy. */
  policy: v.optional(phase, {}),
  /** Step 4, backbone and heads. */
  task: v.optional(phase, {}),
});

const paper = {
  // Deviates from the paper: it names no value. A comment in the released code notes this one for RTE.
  alpha: 0.035,
  objective: "sampled",
  importance: false,
  // Deviates from the released code: it runs with 0; these are the values its comments try.
  epsilonStart: 0.05,
  epsilonEnd: 0.005,
  maxRounds: 3,
  finishWithPolicy: false,
  initialise: { epochs: 5, batchSize: 16, learningRate: 1e-5, warmup: 0 },
  policy: { epochs: 2, batchSize: 32, learningRate: 3e-4, warmup: 0 },
  task: { epochs: 2, batchSize: 32, learningRate: 3e-5, warmup: 0 },
} as const;

const small = {
  alpha: 0.03,
  objective: "exact",
  importance: true,
  epsilonStart: 0.05,
  epsilonEnd: 0.005,
  maxRounds: 1,
  // A small encoder moves a lot in one task step: exits that were learned before it come too late and at the wrong rows.
  finishWithPolicy: true,
  initialise: { epochs: 10, batchSize: 32, learningRate: 1e-3, warmup: 0.1 },
  policy: { epochs: 10, batchSize: 256, learningRate: 3e-3, warmup: 0 },
  task: { epochs: 1, batchSize: 32, learningRate: 3e-4, warmup: 0 },
} as const;

/** What the presets say. */
export const consistentEEPresets = { paper, small } as const;

/** Fills what was left out from the preset. */
function resolve(options: v.InferOutput<typeof given>) {
  const preset = consistentEEPresets[options.preset];
  const settings = (name: "initialise" | "policy" | "task"): PhaseSettings => ({
    epochs: options[name].epochs ?? preset[name].epochs,
    batchSize: options[name].batchSize ?? preset[name].batchSize,
    learningRate: options[name].learningRate ?? preset[name].learningRate,
    warmup: options[name].warmup ?? preset[name].warmup,
  });
  return {
    ...options,
    alpha: options.alpha ?? preset.alpha,
    objective: options.objective ?? preset.objective,
    importance: options.importance ?? preset.importance,
    epsilonStart: options.epsilonStart ?? preset.epsilonStart,
    epsilonEnd: options.epsilonEnd ?? preset.epsilonEnd,
    maxRounds: options.maxRounds ?? preset.maxRounds,
    finishWithPolicy: options.finishWithPolicy ?? preset.finishWithPolicy,
    initialise: settings("initialise"),
    policy: settings("policy"),
    task: settings("task"),
  };
}

export const consistentEESchema = v.pipe(
  given,
  v.check(
    ({ samples, baseline }) => samples >= 2 || baseline === "none",
    "samples must be 2 or more for a baseline: the mean of one copy is the copy itself",
  ),
  v.transform(resolve),
);

/** What a caller may leave out. */
export type ConsistentEEInput = v.InferInput<typeof consistentEESchema>;
/** Every option with its value. */
export type ConsistentEEOptions = v.InferOutput<typeof consistentEESchema>;

/**
 * Validates options and fills in the preset.
 * @throws ConsistentEEError `BAD_OPTION` naming the option
 */
export function resolveOptions(options: ConsistentEEInput = {}): ConsistentEEOptions {
  const { success, output, issues } = v.safeParse(consistentEESchema, options);
  if (success) return output;
  const [issue] = issues;
  throw new ConsistentEEError(
    "BAD_OPTION",
    "ConsistentEE",
    `${v.getDotPath(issue) ?? "options"}: ${issue.message}. Correct it, or leave it out for the published value.`,
  );
}

/** @file The configuration of a pre-training run: a JSON file, checked before anything else happens. */
import { type BertConfig, parseBertConfig } from "../config.js";
import { BackboneError } from "../errors.js";
import type { PairTask } from "./pair-layout.js";

/** `trapezoid` holds the peak and falls at the end, so a run can be made longer or shorter while it is under way. */
export type Schedule = "linear" | "cosine" | "trapezoid";

/**
 * How a shallower folder's blocks become a deeper run's: `stack` repeats them, `pass` puts blocks on top that hand on what they
 * get, almost: fresh, with the last LayerNorm's scale and shift. A stack learns the language faster; what passes on is
 * fine-tuned as easily as the shallow model was.
 */
export type Growth = "stack" | "pass";

export interface PretrainSettings {
  readonly model: BertConfig;
  readonly seed: number;
  /** Characters that the vocabulary keeps. @default 300 */
  readonly alphabetSize: number;
  /** Sequence length of each step, in turn. @default [128] */
  readonly lengths: readonly number[];
  /** Tokens of one optimiser step. */
  readonly batchTokens: number;
  /** Tokens of one forward and backward pass; smaller than the batch, gradients are accumulated. @default batchTokens */
  readonly microTokens: number;
  readonly steps: number;
  /** @default 1 % of the steps */
  readonly warmupSteps: number;
  /** @default "linear" */
  readonly schedule: Schedule;
  /** Share of the steps over which `trapezoid` falls. @default 0.2 */
  readonly decayShare: number;
  readonly learningRate: number;
  /** @default 0.01 */
  readonly weightDecay: number;
  /** Dropout of this run; the model's own rates are for fine-tuning. @default 0, since a short run sees no text twice */
  readonly dropout: number;
  /** Second moment's decay; 0.98 follows small batches and short runs faster than 0.999. @default 0.98 */
  readonly beta2: number;
  /** @default 1 */
  readonly clipNorm: number;
  /** @default 0.15 */
  readonly maskShare: number;
  /** Share of the windows that become two segments. @default 0.5 */
  readonly pairShare: number;
  /** What the sentence-pair loss asks. @default "order" */
  readonly pairTask: PairTask;
  /** Of `words` pairs: the largest share of the first segment's words that come from the other place. @default 0 */
  readonly pairMix: number;
  /** Share of the sentence-pair loss in the whole; 0 leaves it out. @default 0 */
  readonly pairWeight: number;
  /** Exits, besides the last, that score each masked place. @default depth - 1 */
  readonly exitsPerPlace: number;
  /** For a run that starts from a shallower folder. @default "stack" */
  readonly growth: Growth;
  /** @default 5 */
  readonly checkpointMinutes: number;
  /** Steps between measurements on the held-out part. @default a twentieth of the steps */
  readonly evaluateEvery: number;
  /** @default 128 */
  readonly heldOutRows: number;
}

/** What may change between the parts of one run: it moves no batch and no mask. */
export const CHANGEABLE = [
  "steps",
  "warmupSteps",
  "schedule",
  "decayShare",
  "learningRate",
  "checkpointMinutes",
  "evaluateEvery",
  // Acts before the first step only.
  "growth",
] as const satisfies readonly (keyof PretrainSettings)[];

/**
 * Reads the content of a configuration file.
 * @throws BackboneError `BAD_CONFIG` naming the field, also for one that is not known.
 */
export function parsePretrainSettings(json: unknown, who: string): PretrainSettings {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw bad(who, `must hold a JSON object, got ${JSON.stringify(json)}.`);
  }
  const fields = { ...(json as Record<string, unknown>) };
  const take = (name: string): unknown => {
    const value = fields[name];
    delete fields[name];
    return value;
  };
  const model = parseBertConfig(take("model") ?? {}, `${who}: model`);
  const number = (
    name: string,
    fallback: number | undefined,
    low: number,
    high: number,
  ): number => {
    const value = take(name) ?? fallback;
    if (typeof value === "number" && value >= low && value <= high) return value;
    throw bad(
      who,
      `${name} must be a number from ${low} to ${high}, got ${JSON.stringify(value)}.`,
    );
  };
  const integer = (
    name: string,
    fallback: number | undefined,
    low: number,
    high = 2 ** 31,
  ): number => {
    const value = number(name, fallback, low, high);
    if (Number.isInteger(value)) return value;
    throw bad(who, `${name} must be a whole number, got ${value}.`);
  };
  const lengths = take("lengths") ?? [Math.min(128, model.maxPositions)];
  const isLength = (value: unknown) =>
    Number.isInteger(value) && (value as number) >= 8 && (value as number) <= model.maxPositions;
  if (!Array.isArray(lengths) || lengths.length === 0 || !lengths.every(isLength)) {
    throw bad(
      who,
      `lengths must list whole numbers from 8 to ${model.maxPositions}, the model's positions, got ${JSON.stringify(lengths)}.`,
    );
  }
  const schedule = take("schedule") ?? "linear";
  if (schedule !== "linear" && schedule !== "cosine" && schedule !== "trapezoid") {
    const got = JSON.stringify(schedule);
    throw bad(who, `schedule must be "linear", "cosine" or "trapezoid", got ${got}.`);
  }
  const growth = take("growth") ?? "stack";
  if (growth !== "stack" && growth !== "pass")
    throw bad(who, `growth must be "stack" or "pass", got ${JSON.stringify(growth)}.`);
  const pairTask = take("pairTask") ?? "order";
  if (pairTask !== "order" && pairTask !== "words")
    throw bad(who, `pairTask must be "order" or "words", got ${JSON.stringify(pairTask)}.`);
  const longest = Math.max(...(lengths as number[]));
  const batchTokens = integer("batchTokens", undefined, longest);
  const steps = integer("steps", undefined, 1);
  const settings: PretrainSettings = {
    model,
    lengths: lengths as number[],
    schedule,
    growth,
    pairTask,
    batchTokens,
    steps,
    seed: integer("seed", 0, 0),
    alphabetSize: integer("alphabetSize", 300, 1),
    microTokens: Math.min(batchTokens, integer("microTokens", batchTokens, longest)),
    warmupSteps: integer("warmupSteps", Math.floor(steps / 100), 0),
    decayShare: number("decayShare", 0.2, 0, 1),
    learningRate: number("learningRate", undefined, 1e-8, 1),
    weightDecay: number("weightDecay", 0.01, 0, 1),
    dropout: number("dropout", 0, 0, 0.9),
    beta2: number("beta2", 0.98, 0, 0.99999),
    clipNorm: number("clipNorm", 1, 1e-6, 1e6),
    maskShare: number("maskShare", 0.15, 0.01, 0.9),
    pairShare: number("pairShare", 0.5, 0, 1),
    pairWeight: number("pairWeight", 0, 0, 0.9),
    pairMix: number("pairMix", 0, 0, 0.5),
    exitsPerPlace: integer("exitsPerPlace", model.depth - 1, 0, model.depth - 1),
    checkpointMinutes: number("checkpointMinutes", 5, 0, 1e5),
    evaluateEvery: integer("evaluateEvery", Math.max(1, Math.floor(steps / 20)), 1),
    heldOutRows: integer("heldOutRows", 128, 1, 100_000),
  };
  const unknown = Object.keys(fields);
  if (unknown.length > 0) {
    const known = ["model", ...Object.keys(settings).filter((name) => name !== "model")];
    throw bad(who, `must not have ${unknown.join(", ")}. Known fields are ${known.join(", ")}.`);
  }
  return settings;
}

/** The factor of the peak learning rate at `step`, the number of updates done before it. */
export function scheduleFactor(settings: PretrainSettings, step: number): number {
  const { steps, schedule, decayShare } = settings;
  const warmup = Math.min(settings.warmupSteps, steps);
  if (step < warmup) return (step + 1) / (warmup + 1);
  const left = Math.max(0, steps - step);
  if (schedule === "trapezoid") return Math.min(1, left / Math.max(1, decayShare * steps));
  const share = left / Math.max(1, steps - warmup);
  return schedule === "linear" ? share : (1 - Math.cos(Math.PI * share)) / 2;
}

function bad(who: string, message: string): BackboneError {
  return new BackboneError("BAD_CONFIG", who, message);
}

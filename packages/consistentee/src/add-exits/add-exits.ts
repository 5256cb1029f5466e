/** @file Gives a fine-tuned checkpoint exits afterwards: the encoder stays frozen, and runs over the rows once per phase. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import {
  EXITS_DESCRIPTION,
  type ExitEncoder,
  type FitProgress,
  fit,
  loadExitEncoder,
  openEncoder,
  type TrainingRow,
} from "@cee/backbone";
import { type ResolveModelOptions, resolveModel } from "@cee/backbone/hub";
import type { Engine } from "@cee/engine";
import {
  checkHost,
  type ExitHead,
  type ExitStrategy,
  entropy,
  type HostParams,
  type ModelShape,
  type PhasePlan,
  toObserver,
  withOptions,
} from "@cee/exit-policies";
import { ConsistentEEError } from "../errors.js";
import { type HeldOutRow, prepareHeldOut, recordHeldOut } from "../held-out.js";
import type { EarlyExitParts } from "../model-folder.js";
import type { ConsistentEEOptions, PhaseSettings } from "../options.js";
import { policyPhase } from "../phases.js";
import { openEngine, type RunnerOptions } from "../serve/open-runner.js";
import { headsPhase } from "./heads-phase.js";

export interface AddExitsOptions extends RunnerOptions {
  /**
   * What the exits learn from: labelled texts, or texts without labels, which then learn full depth's answers. The rows of
   * the fine-tuning will do.
   */
  readonly rows: readonly HeldOutRow[];
  /** Rows for what the strategy calibrates, such as temperatures; not for `selectThreshold`. @default none */
  readonly calibration?: readonly HeldOutRow[];
  /**
   * `highway` has a pooler of its own at every layer, `linear` shares the checkpoint's.
   * @default "highway"
   */
  readonly head?: "highway" | "linear" | ExitHead;
  /** How rows leave. @default entropy() */
  readonly strategy?: ExitStrategy;
  /** Record phases that train a strategy's own parameters. @default ConsistentEE's policy step, for that strategy */
  readonly plan?: (shape: ModelShape) => PhasePlan;
  /** Weight of full depth's answers against the labels. @default 0.5 with labels, 1 without */
  readonly distill?: number;
  /** @default 10 epochs, batches of 32, rate 1e-3 with warm-up over 0.1 */
  readonly training?: Partial<PhaseSettings>;
  /** @default 0 */
  readonly seed?: number;
  /** Tokens, special ones included; longer texts are truncated. @default the positions that the model has */
  readonly maxLength?: number;
  /** Folder for a checkpoint, so that an interrupted run goes on, and for recorded states that exceed memory. */
  readonly out?: string;
  readonly onProgress?: (progress: AddExitsProgress) => void;
  /** Stops after the step in progress. */
  readonly signal?: AbortSignal;
  /** How a model that is not a folder is downloaded. */
  readonly hub?: ResolveModelOptions;
}

export type AddExitsProgress =
  | { readonly stage: "recording"; readonly rows: number; readonly total: number }
  | ({ readonly stage: "training" } & FitProgress);

/**
 * Trains exits for a BERT-family sequence classifier in Hugging Face layout (a folder, a hub id, or one that was loaded).
 * Its weights stay as they are and its classifier is the last exit: at full depth it answers as before. The result goes to
 * `EarlyExitModel.fromParts` and `saveEarlyExitModel`.
 * @throws ConsistentEEError `NO_CLASSIFIER`, `NO_TOKENIZER`, `NOT_TRAINABLE`, `BAD_INPUT`, `BAD_OPTION`, `MISSING_LABEL`; what
 * loading and `fit` throw
 */
export async function addExits(
  model: string | ExitEncoder,
  options: AddExitsOptions,
): Promise<EarlyExitParts> {
  const { strategy = entropy(), seed = 0, training = {} } = options;
  const encoder = typeof model === "string" ? await load(model, options) : model;
  const { shape, tokenizer, config } = encoder;
  const who = typeof model === "string" ? model : "addExits";
  if (!encoder.trainedHeads.includes(shape.depth))
    throw new ConsistentEEError(
      "NO_CLASSIFIER",
      who,
      `must be a fine-tuned sequence classifier (pooler, classifier.weight and classifier.bias that fit the head), got a model whose last head has initial values${encoder.notes.length > 0 ? ` (${encoder.notes.join("; ")})` : ""}. Fine-tune it first.`,
    );
  if (!tokenizer)
    throw new ConsistentEEError(
      "NO_TOKENIZER",
      who,
      "the model must have a tokenizer to read texts, got none. Add its tokenizer.json or vocab.txt to the folder.",
    );
  checkHost(strategy, shape);
  const { maxLength = config.maxPositions } = options;
  const reading = { tokenizer, maxLength, tooLong: "truncate" } as const;
  const rows = trainingRows(encoder, options.rows, reading);
  const isLabelled = options.rows.every(({ label }) => label !== undefined);
  const distill = options.distill ?? (isLabelled ? 0.5 : 1);
  checkDistill(distill, isLabelled);
  const plan = planOf(strategy, encoder, options, {
    isLabelled,
    heads: {
      epochs: training.epochs ?? 10,
      batchSize: training.batchSize ?? 32,
      learningRate: training.learningRate ?? 1e-3,
      warmup: training.warmup ?? 0.1,
    },
    distill,
  });
  const own: HostParams = strategy.definition.params?.(shape, strategy.options, seed) ?? {};
  const engine = await openEngine(options);
  try {
    const { onProgress, signal, out } = options;
    const { params, reports, trained } = await fit({
      engine,
      model: encoder,
      params: { ...encoder.params, ...withPrefix(own) },
      plan,
      observer: toObserver(strategy, own),
      train: rows,
      dev: [],
      seed,
      trained: { heads: [shape.depth], strategy: false },
      identity: { addExits: 1, distill, strategy: strategy.name, options: strategy.options },
      ...(out !== undefined && { out }),
      ...(signal !== undefined && { signal }),
      ...(onProgress && {
        onProgress: (progress) => onProgress({ stage: "training", ...progress }),
        onRecording: (done, total) => onProgress({ stage: "recording", rows: done, total }),
      }),
    });
    const parts = {
      encoder: {
        ...encoder,
        params: Object.fromEntries(
          Object.entries(params).filter(([path]) => !path.startsWith("strategy.")),
        ),
        trainedHeads: trained.heads,
      },
      params: Object.fromEntries(
        Object.keys(own).map((name) => [name, params[`strategy.${name}`] as HostParams[string]]),
      ),
      reports,
      seed,
    };
    return { ...parts, strategy: await calibrated(engine, strategy, parts, options, reading) };
  } finally {
    await engine.dispose();
  }
}

async function load(folderOrId: string, { head, seed = 0, hub }: AddExitsOptions) {
  const folder = await resolveModel(folderOrId, hub);
  const hasExits = await stat(join(folder, EXITS_DESCRIPTION)).then(
    () => true,
    () => false,
  );
  // A folder with exits names its own head.
  const wanted = head ?? (hasExits ? undefined : "highway");
  return loadExitEncoder(folder, { seed, ...(wanted !== undefined && { head: wanted }) });
}

function trainingRows(
  { labels, shape }: ExitEncoder,
  rows: readonly HeldOutRow[],
  reading: Parameters<typeof prepareHeldOut>[3],
): TrainingRow[] {
  if (rows.length === 0)
    throw new ConsistentEEError(
      "BAD_INPUT",
      "addExits",
      "needs rows to learn from, got none. Give the texts of the fine-tuning, with or without labels.",
    );
  const isLabelled = rows[0]?.label !== undefined;
  const odd = rows.findIndex(({ label }) => (label !== undefined) !== isLabelled);
  if (odd >= 0)
    throw new ConsistentEEError(
      "BAD_INPUT",
      `row ${odd}`,
      `must have ${isLabelled ? "a label, like the rows before it" : "no label, like the rows before it"}. Label all rows or none.`,
    );
  const prepared = prepareHeldOut(rows, labels, shape.classes, reading);
  return prepared.rows.map(({ ids, types }, index) => ({
    id: `row ${index}`,
    ids,
    types,
    // Without labels no loss reads it.
    label: isLabelled ? (prepared.labels[index] as number) : 0,
  }));
}

function checkDistill(distill: number, isLabelled: boolean): void {
  if (!(distill >= 0 && distill <= 1))
    throw new ConsistentEEError(
      "BAD_OPTION",
      "distill",
      `must be a share from 0 to 1, got ${distill}.`,
    );
  if (!isLabelled && distill < 1)
    throw new ConsistentEEError(
      "MISSING_LABEL",
      "addExits",
      `rows need labels where distill is below 1, got ${distill} and rows without. Label them, or leave distill out.`,
    );
}

function planOf(
  strategy: ExitStrategy,
  { shape }: ExitEncoder,
  { plan }: AddExitsOptions,
  {
    isLabelled,
    heads,
    distill,
  }: { readonly isLabelled: boolean; readonly heads: PhaseSettings; readonly distill: number },
): () => PhasePlan {
  const hasParams = strategy.definition.params !== undefined;
  const isOwn = strategy.name === "consistentee";
  if (hasParams && !plan && !isOwn)
    throw new ConsistentEEError(
      "NOT_TRAINABLE",
      strategy.name,
      "has parameters of its own, and its usual training changes the encoder. Give a plan of record phases that train strategy.** only.",
    );
  if (hasParams && !plan && !isLabelled)
    throw new ConsistentEEError(
      "MISSING_LABEL",
      strategy.name,
      "learns its policy from the labels, got rows without. Label the rows, or choose a strategy without parameters.",
    );
  return function* () {
    if (shape.depth > 1) yield headsPhase(shape.depth, distill, heads);
    if (plan) yield* plan(shape);
    else if (hasParams && shape.depth > 1)
      yield policyPhase(strategy.options as unknown as ConsistentEEOptions, 1);
  };
}

function withPrefix(params: HostParams): HostParams {
  return Object.fromEntries(
    Object.entries(params).map(([name, tensor]) => [`strategy.${name}`, tensor]),
  );
}

/** The strategy with the options that it calibrates, where there are rows for that. */
async function calibrated(
  engine: Engine,
  strategy: ExitStrategy,
  { encoder, params }: Pick<EarlyExitParts, "encoder" | "params">,
  { calibration }: AddExitsOptions,
  reading: Parameters<typeof prepareHeldOut>[3],
): Promise<ExitStrategy> {
  const { calibrate } = strategy.definition;
  if (!calibrate || !calibration) return strategy;
  const runner = await openEncoder(engine, encoder, encoder.params, toObserver(strategy, params));
  try {
    const { labels, shape } = encoder;
    const rows = prepareHeldOut(calibration, labels, shape.classes, reading);
    const { padId } = reading.tokenizer;
    const { record } = await recordHeldOut(runner, rows, { maxBatch: 32, padId });
    return withOptions(strategy, calibrate(record, strategy.options));
  } finally {
    await runner.dispose();
  }
}

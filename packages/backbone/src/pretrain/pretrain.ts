/**
 * @file Pre-training from text files to a folder of weights, with checkpoints.
 *
 * A run that is killed and started again ends with the same weights, bit for bit, as one that was not: everything random
 * is a function of the seed and the step, and the state is one file that is replaced in one step.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createRng, type Engine } from "@cee/engine";
import { BackboneError } from "../errors.js";
import { exists, readJson, reason } from "../files.js";
import { countWords, trainWordPiece, writeWordPiece } from "../wordpiece-trainer.js";
import { type Corpus, openCorpus } from "./corpus.js";
import { exportPretrained, initFromFolder, readPieces } from "./folder.js";
import { feedMlm, initPretraining } from "./mlm.js";
import { createMlmBatcher, type MlmBatch, type MlmBatcher } from "./mlm-batch.js";
import { createPretrainProgram, type PretrainProgram } from "./program.js";
import { type PretrainSettings, parsePretrainSettings, scheduleFactor } from "./settings.js";
import {
  assertSameRun,
  clearTemporaryFiles,
  type Evaluation,
  fingerprintOf,
  loadState,
  type PretrainProgress,
  saveState,
} from "./state.js";

/** Where a run stands, after each step. */
export interface PretrainReport {
  readonly step: number;
  readonly steps: number;
  /** Mean over exits, of the last steps. */
  readonly loss: number;
  /** Norm of the last step's gradient. */
  readonly norm: number;
  readonly learningRate: number;
  readonly tokensPerSecond: number;
  /** At the present speed; the time limit is not counted in. */
  readonly secondsLeft: number;
}

export interface PretrainOptions {
  readonly engine: Engine;
  /** Text files, or folders of them. */
  readonly corpus: readonly string[];
  /** A configuration file, or its content. */
  readonly config: string | object;
  /** Receives the vocabulary, the state, and at the end the weights. Running again with the same folder goes on. */
  readonly out: string;
  /** A pre-trained folder to start from instead of fresh weights; its vocabulary is used. */
  readonly init?: string | undefined;
  /** Where the tokenised corpus is kept. @default `<out>/cache` */
  readonly cache?: string | undefined;
  /** Stops after so many minutes, with a checkpoint and the weights so far. */
  readonly minutes?: number | undefined;
  /** Stops after the step in progress, with a checkpoint. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((report: PretrainReport) => void) | undefined;
  readonly onEvaluation?: ((evaluation: Evaluation) => void) | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

export interface PretrainResult {
  readonly progress: PretrainProgress;
  /** False when a time limit or a signal ended the run before its last step. */
  readonly done: boolean;
}

/**
 * Pre-trains an encoder, or goes on with it.
 * @throws BackboneError `BAD_CONFIG`, `MISSING_FILE`, `EMPTY_CORPUS`, `NOT_UTF8`, `ENDLESS_LINE`, `BAD_VOCABULARY`,
 * `CHECKPOINT_MISMATCH`, `NAN_LOSS` or `WRITE_FAILED`. Whatever happens, the last checkpoint stays as it was.
 */
export async function pretrain(options: PretrainOptions): Promise<PretrainResult> {
  const { out, log } = options;
  const who = typeof options.config === "string" ? options.config : "pretrain";
  const json = typeof options.config === "string" ? await readJson(who) : options.config;
  const settings = parsePretrainSettings(json, who);
  await mkdir(out, { recursive: true }).catch((cause: unknown) => {
    throw new BackboneError("WRITE_FAILED", out, `cannot be made: ${reason(cause)}.`, { cause });
  });
  clearTemporaryFiles(out);
  const saved = loadState(out, settings.model);
  const pieces = await findPieces(options, settings);
  const longest = Math.ceil((Math.max(...settings.lengths) * 4) / 3) + 1;
  const cache = options.cache ?? join(out, "cache");
  const corpus = await openCorpus({ paths: options.corpus, pieces, cache, longest, log });
  try {
    log?.(
      `corpus: ${corpus.tokens} tokens in ${corpus.documents} documents, ${corpus.size("held-out")} held out`,
    );
    const fingerprint = fingerprintOf(settings, corpus.key);
    if (saved) assertSameRun(out, saved, fingerprint);
    const start = saved ?? {
      params: options.init
        ? await initFromFolder(options.init, settings.model, settings.seed, settings.growth)
        : initPretraining(settings.model, settings.seed),
    };
    const progress = saved?.progress ?? {
      fingerprint,
      step: 0,
      rows: 0,
      tokens: 0,
      seconds: 0,
      evaluations: [],
    };
    const program = createPretrainProgram(options.engine, settings, start);
    try {
      const result = await train(options, settings, corpus, pieces, program, progress);
      await exportPretrained({ from: out, to: out, config: settings.model });
      return result;
    } finally {
      await program.dispose();
    }
  } finally {
    corpus.close();
  }
}

/** The vocabulary of the run's folder, else of the folder it starts from, else one learned from the corpus. */
async function findPieces(
  { out, init, corpus, log }: PretrainOptions,
  { model, alphabetSize }: PretrainSettings,
): Promise<string[]> {
  let pieces: string[];
  if (await exists(join(out, "vocab.txt"))) pieces = await readPieces(out);
  else if (init !== undefined) pieces = await readPieces(init);
  else {
    log?.("learning the vocabulary");
    const counts = await countWords(corpus);
    pieces = trainWordPiece(counts, { vocabularySize: model.vocabSize, alphabetSize });
  }
  if (pieces.length > model.vocabSize) {
    throw new BackboneError(
      "BAD_CONFIG",
      "pretrain",
      `model.vocab_size must be at least ${pieces.length}, the pieces of the vocabulary, got ${model.vocabSize}.`,
    );
  }
  await writeWordPiece(out, pieces);
  return pieces;
}

async function train(
  options: PretrainOptions,
  settings: PretrainSettings,
  corpus: Corpus,
  pieces: readonly string[],
  program: PretrainProgram,
  before: PretrainProgress,
): Promise<PretrainResult> {
  const { out, onProgress, onEvaluation, signal } = options;
  const batcher = createMlmBatcher(corpus, pieces, settings);
  const started = Date.now();
  const deadline = started + (options.minutes ?? Number.POSITIVE_INFINITY) * 60_000;
  const checkpointMs = settings.checkpointMinutes * 60_000;
  let progress = before;
  let savedAt = started;
  let meanLoss = Number.NaN;
  const elapsed = () => before.seconds + (Date.now() - started) / 1000;
  const save = () => {
    saveState(out, { progress: { ...progress, seconds: elapsed() }, ...program.state });
    savedAt = Date.now();
  };
  const evaluate = async () => {
    if (progress.evaluations.at(-1)?.step === progress.step) return;
    const result = await measure(program, batcher, settings, progress.step);
    progress = { ...progress, evaluations: [...progress.evaluations, result] };
    onEvaluation?.(result);
  };

  while (progress.step < settings.steps && !signal?.aborted && Date.now() < deadline) {
    const { step } = progress;
    const { batches, rows, tokens } = stepBatches(batcher, settings, step, progress.rows);
    const learningRate = settings.learningRate * scheduleFactor(settings, step);
    const draws = createRng(settings.seed).fork(`exits/${step}`);
    const places = sum(batches, ({ positions }) => positions.length);
    const pairs = sum(batches, ({ pairRows }) => pairRows.length);
    const plan = {
      depth: settings.model.depth,
      exitsPerPlace: settings.exitsPerPlace,
      pairWeight: settings.pairWeight,
      places,
      pairs,
    };
    const feeds = batches.map((batch) => feedMlm(batch, plan, (below) => draws.int(below)));
    const seed = [settings.seed | 0, step];
    const { loss, norm } = await program.step(feeds, { learningRate, step: step + 1, seed });
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      throw new BackboneError(
        "NAN_LOSS",
        "pretrain",
        `the loss must stay finite, got ${loss} with a gradient of norm ${norm} at step ${step + 1}. ` +
          `Lower learningRate (${settings.learningRate}) or raise warmupSteps; the last checkpoint is intact.`,
      );
    }
    program.accept();
    progress = {
      ...progress,
      step: step + 1,
      rows: progress.rows + rows,
      tokens: progress.tokens + tokens,
    };
    meanLoss = Number.isNaN(meanLoss) ? loss : 0.95 * meanLoss + 0.05 * loss;
    const seconds = (Date.now() - started) / 1000;
    const stepsHere = progress.step - before.step;
    onProgress?.({
      step: progress.step,
      steps: settings.steps,
      loss: meanLoss,
      norm,
      learningRate,
      tokensPerSecond: (progress.tokens - before.tokens) / seconds,
      secondsLeft: ((settings.steps - progress.step) * seconds) / stepsHere,
    });
    if (progress.step % settings.evaluateEvery === 0) await evaluate();
    if (Date.now() - savedAt >= checkpointMs) save();
  }
  if (progress.step > 0) await evaluate();
  save();
  return { progress, done: progress.step >= settings.steps };
}

/** The micro-batches of a step; all rows of a step have one length. */
function stepBatches(
  batcher: MlmBatcher,
  settings: PretrainSettings,
  step: number,
  firstRow: number,
): { batches: MlmBatch[]; rows: number; tokens: number } {
  const length = settings.lengths[step % settings.lengths.length] as number;
  const rows = Math.floor(settings.batchTokens / length);
  const perMicro = Math.floor(settings.microTokens / length);
  const batches: MlmBatch[] = [];
  for (let done = 0; done < rows; done += perMicro) {
    batches.push(batcher.batch(firstRow + done, Math.min(perMicro, rows - done), length));
  }
  return { batches, rows, tokens: rows * length };
}

/** Rows of one evaluation pass: every exit scores every place, so the logits are large. */
const EVALUATION_ROWS = 16;

/** Mean losses on the held-out rows by exit; the same rows and masks every time. */
async function measure(
  program: PretrainProgram,
  batcher: MlmBatcher,
  settings: PretrainSettings,
  step: number,
): Promise<Evaluation> {
  const { depth } = settings.model;
  const length = Math.max(...settings.lengths);
  const tokens = new Float64Array(depth);
  const pairs = new Float64Array(depth);
  let places = 0;
  let pairRows = 0;
  const all = batcher.heldOut(settings.heldOutRows, length);
  for (const batch of splitRows(all, EVALUATION_ROWS)) {
    const plan = { depth, exitsPerPlace: depth - 1, pairWeight: 0, places: 1, pairs: 0 };
    const feed = feedMlm(batch, plan, () => 0);
    const losses = await program.evaluate(feed);
    const layerOf = (scored: number) => scored % depth;
    (feed.scored.data as Int32Array).forEach((scored, index) => {
      tokens[layerOf(scored)] =
        (tokens[layerOf(scored)] as number) + (losses.tokens[index] as number);
    });
    places += batch.positions.length;
    if (batch.pairRows.length > 0) {
      (feed.pairScored.data as Int32Array).forEach((scored, index) => {
        pairs[layerOf(scored)] =
          (pairs[layerOf(scored)] as number) + (losses.pairs[index] as number);
      });
      pairRows += batch.pairRows.length;
    }
  }
  return {
    step,
    tokens: Array.from(tokens, (total) => total / places),
    pairs:
      settings.pairWeight > 0 && pairRows > 0 ? Array.from(pairs, (total) => total / pairRows) : [],
  };
}

function splitRows(batch: MlmBatch, size: number): MlmBatch[] {
  const { length } = batch;
  const parts: MlmBatch[] = [];
  for (let first = 0; first < batch.rows; first += size) {
    const end = Math.min(first + size, batch.rows);
    const inside = (value: number, unit: number) => value >= first * unit && value < end * unit;
    const pick = (values: Int32Array, by: Int32Array, unit: number) =>
      values.filter((_, index) => inside(by[index] as number, unit));
    parts.push({
      rows: end - first,
      length,
      ids: batch.ids.slice(first * length, end * length),
      types: batch.types.slice(first * length, end * length),
      positions: pick(batch.positions, batch.positions, length).map((at) => at - first * length),
      targets: pick(batch.targets, batch.positions, length),
      pairRows: pick(batch.pairRows, batch.pairRows, 1).map((row) => row - first),
      pairTargets: pick(batch.pairTargets, batch.pairRows, 1),
    });
  }
  return parts;
}

function sum(batches: readonly MlmBatch[], size: (batch: MlmBatch) => number): number {
  return batches.reduce((total, batch) => total + size(batch), 0);
}

/**
 * @file The one trainer: executes the phases of any method, with progress, and resumes where it was stopped.
 *
 * A run that is killed and started again ends with the same weights, bit for bit, as one that was not: everything
 * random is a function of the seed, the phase, the epoch and the step, and a checkpoint replaces the one before in one step.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { createRng, type Engine, type HostParams } from "@cee/engine";
import type {
  ExitRecord,
  Observer,
  PhasePlan,
  PhaseReport,
  TrainedParts,
  TrainingPhase,
} from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import type { TokenRow } from "../runner/batch.js";
import type { RecordedSignal } from "../runner/open.js";
import type { ModelPlan } from "../runner/signals.js";
import { planEpoch } from "./batches.js";
import {
  type Checkpoint,
  clearLeftovers,
  loadCheckpoint,
  type Position,
  type Progress,
  saveCheckpoint,
} from "./checkpoint.js";
import { encoderSubject } from "./encoder-subject.js";
import {
  assertFits,
  assertSameRun,
  checkFitOptions,
  fingerprintOf,
  otherRun,
  settingsOf,
} from "./fit-checks.js";
import { createBuffers, diverged, type Feed, optimiserStep } from "./optimiser-step.js";
import { copyParams, selectParams, strategyOf } from "./params.js";
import { pathMatcher } from "./paths.js";
import { checkPhase, judge, refuseUntrainable, refuseWithoutRows, sideOf } from "./phase-check.js";
import { createPhaseProgram, isOfHead } from "./phase-program.js";
import { disposeStates, type Recording } from "./recording.js";
import type { Recorder, TrainingSubject } from "./subject.js";
import { textRows } from "./text-rows.js";
import { trainedParts } from "./trained-parts.js";

/** A tokenised row with its class index or regression target. */
export interface TrainingRow extends TokenRow {
  readonly label: number;
}

/** Where a run stands, after each optimiser step. */
export interface FitProgress {
  readonly phase: string;
  readonly epoch: number;
  readonly epochs: number;
  /** Optimiser steps done in this phase. */
  readonly step: number;
  readonly steps: number;
  /** Mean loss of the epoch so far. */
  readonly loss: number;
}

export interface FitOptions extends LoopOptions<TrainingRow> {
  readonly model: ModelPlan;
}

/** What the trainer needs for any kind of model. */
export interface LoopOptions<TText> {
  readonly engine: Engine;
  /** All parameters: `backbone.*`, `heads.*`, `strategy.*`. Not changed; what is trained comes back in new arrays. */
  readonly params: HostParams;
  /** Starts the plan afresh; called once per run. */
  readonly plan: () => PhasePlan;
  /** What the strategy observes, for `prepare`, `score` and `measure`; by default nothing but the logits. */
  readonly observer?: Omit<Observer, "params">;
  readonly train: readonly TText[];
  readonly dev: readonly TText[];
  readonly seed: number;
  /** Texts per forward and backward pass; larger batches are accumulated. @default the phase's batch size */
  readonly microBatch?: number;
  /** Texts per recording pass. @default 64 */
  readonly recordBatch?: number;
  /** Recorded signals up to this size in bytes, each, stay in memory; larger ones go to files in `out`. @default 512 MiB */
  readonly recordMemory?: number;
  /** What of `params` was trained before. @default nothing */
  readonly trained?: TrainedParts;
  /** Folder of the checkpoint; without it nothing is written and nothing resumes. */
  readonly out?: string;
  /** Seconds between checkpoints; 0 writes one after every step. @default 60 */
  readonly checkpointSeconds?: number;
  /** What else makes this run different from another; a checkpoint with a different value is refused. */
  readonly identity?: Readonly<Record<string, unknown>>;
  readonly onProgress?: (progress: FitProgress) => void;
  /** While rows run through the frozen model, for phases and selections that read a record. */
  readonly onRecording?: (texts: number, total: number) => void;
  /** Looks at the training rows now and then, dropout off; changes nothing about the weights. */
  readonly watch?: FitWatch;
  readonly log?: (line: string) => void;
  /** Stops after the step in progress, with a checkpoint. */
  readonly signal?: AbortSignal;
}

/** Evaluations of the training rows while a phase of source `data` runs. */
export interface FitWatch {
  /** Evaluations of a phase, at equal distances in steps, the last one at its end. */
  readonly evaluations: number;
  /** Gets every exit's answers. A run that was killed calls again, with equal records, from its last checkpoint on. */
  seen(record: ExitRecord, progress: FitProgress): void | Promise<void>;
}

export interface FitResult {
  readonly params: HostParams;
  readonly reports: readonly PhaseReport[];
  /** What hosts ask for, before this run and in it together. */
  readonly trained: FitTrained;
}

/** Parts that gradients have reached: what a loss never read was not trained, whatever its phase allowed. */
export interface FitTrained extends TrainedParts {
  /** Parameters that this run's gradients have reached, sorted. */
  readonly paths: readonly string[];
}

/**
 * Runs a plan to its end.
 * @throws BackboneError `NAN_LOSS` when a loss, gradient or weight is not finite, `CHECKPOINT_MISMATCH` when the folder
 * holds another run, `BAD_CHECKPOINT` when its checkpoint is damaged, `BAD_PHASE`, `BAD_INPUT`, `WRITE_FAILED`, `ABORTED`
 */
export async function fit({ model, ...options }: FitOptions): Promise<FitResult> {
  return fitSubject(encoderSubject(model), options);
}

/** {@link fit} for whatever a model's texts are. */
export async function fitSubject<TText>(
  subject: TrainingSubject<TText>,
  options: LoopOptions<TText>,
): Promise<FitResult> {
  const { out } = options;
  checkFitOptions(subject, options);
  const fingerprint = fingerprintOf(subject, options);
  const checkpoint = out === undefined ? undefined : resumeFrom(out, options, fingerprint);

  const plan = options.plan();
  let next = plan.next();
  const reports: PhaseReport[] = [];
  for (const report of checkpoint?.progress.reports ?? []) {
    if (next.done || next.value.name !== report.phase)
      throw otherRun(
        out as string,
        `it has finished the phase "${report.phase}", the plan ${next.done ? "has ended" : `continues with "${next.value.name}"`}`,
      );
    reports.push(report);
    next = plan.next(report);
  }
  const { phase = null, done = false } = checkpoint?.progress ?? {};
  const expected = done ? undefined : (phase ?? (next.done ? undefined : next.value.name));
  if (checkpoint && expected !== (next.done ? undefined : next.value.name))
    throw otherRun(
      out as string,
      `it ${done ? "is finished" : `stands in the phase "${phase}"`}, the plan ${next.done ? "has ended" : `continues with "${next.value.name}"`}`,
    );

  const run = createRun(subject, options, fingerprint, reports, checkpoint);
  try {
    let resume = phase === null ? undefined : checkpoint;
    while (!next.done) {
      const report = await run.phase(next.value, resume);
      resume = undefined;
      reports.push(report);
      next = plan.next(report);
      run.save(next.done ?? false);
    }
    if (!checkpoint && reports.length === 0) run.save(true);
    return run.result();
  } finally {
    await run.dispose();
  }
}

function resumeFrom(
  out: string,
  { params }: Pick<FitOptions, "params">,
  fingerprint: string,
): Checkpoint | undefined {
  clearLeftovers(out);
  rmSync(statesFolder(out), { recursive: true, force: true });
  const checkpoint = loadCheckpoint(out, params);
  if (checkpoint) assertSameRun(out, checkpoint.progress.fingerprint, fingerprint);
  return checkpoint;
}

function statesFolder(out: string): string {
  return join(out, "recorded-states");
}

const START: Position = {
  epoch: 0,
  stepInEpoch: 0,
  step: 0,
  lossSum: 0,
  lossSteps: 0,
  bestScore: null,
};

/** The state of a run between and within phases. */
function createRun<TText>(
  subject: TrainingSubject<TText>,
  options: LoopOptions<TText>,
  fingerprint: string,
  reports: readonly PhaseReport[],
  checkpoint: Checkpoint | undefined,
) {
  const { engine, out } = options;
  const { shape } = subject;
  let params: HostParams = checkpoint?.params ?? options.params;
  const trained = new Set(checkpoint?.progress.trained);
  const recorders = new Map<string, Recorder<TText>>();

  const observer: Observer = {
    name: options.observer?.name ?? "none",
    needs: options.observer?.needs ?? [],
    params: strategyOf(params),
    observe: options.observer?.observe ?? ((now) => (now as { logits: never }).logits),
  };

  const record = (
    texts: readonly TText[],
    signals: readonly RecordedSignal[] = [],
  ): Promise<Recording> => {
    const key = signals.join("+");
    let recorder = recorders.get(key);
    if (!recorder) {
      recorder = subject.recorder(engine, params, observer, signals);
      recorders.set(key, recorder);
    }
    return recorder.run(params, texts, {
      batchSize: options.recordBatch ?? 64,
      folder: out && statesFolder(out),
      memoryLimit: options.recordMemory,
      log: options.log,
      onProgress: options.onRecording,
    });
  };

  const write = (
    progress: Position & Pick<Progress, "phase" | "settings" | "done">,
    rest: Partial<Checkpoint> = {},
  ) => {
    if (out === undefined) return;
    saveCheckpoint(out, {
      progress: { fingerprint, reports, trained: [...trained].sort(), ...progress },
      params,
      moments: rest.moments ?? { m: {}, v: {} },
      best: rest.best ?? {},
      side: rest.side,
    });
  };

  return {
    save: (done: boolean) => write({ ...START, phase: null, settings: null, done }),
    result: (): FitResult => ({
      params,
      reports,
      trained: trainedParts(subject, options, trained),
    }),
    async dispose() {
      for (const recorder of recorders.values()) await recorder.dispose();
      if (out !== undefined) rmSync(statesFolder(out), { recursive: true, force: true });
    },

    async phase(phase: TrainingPhase, resume: Checkpoint | undefined): Promise<PhaseReport> {
      checkPhase(
        phase,
        reports.map((report) => report.phase),
        subject.head,
      );
      const { train, dev } = options;
      refuseWithoutRows(phase, train.length, dev.length);
      const matches = pathMatcher(phase.trains);
      const own = selectParams(params, matches);
      refuseUntrainable(phase, own);
      const fromRecord = phase.source === "record";
      const texts = textRows(subject, train);
      const rows = texts.labels.length;
      const lengths = fromRecord ? new Float64Array(rows) : texts.lengths;
      const stepsPerEpoch = Math.ceil(lengths.length / phase.batchSize);
      if (resume)
        assertFits(out as string, phase, resume, Object.keys(own), {
          batched: lengths.length,
          rows,
        });
      const total = stepsPerEpoch * phase.epochs;
      const settings = settingsOf(phase);
      const buffers = createBuffers(own, resume?.moments);
      let best: HostParams = resume?.best ?? {};
      let position: Position = resume?.progress ? positionOf(resume.progress) : START;
      let saved = Date.now();

      const recording =
        fromRecord || (phase.prepare && !resume?.side)
          ? await record(train, fromRecord ? recordedSignals(subject, observer, own) : [])
          : undefined;
      const states = recording?.states ?? {};
      let program: Feed["program"] | undefined;
      try {
        const side = resume?.side ?? sideOf(phase, recording?.record);
        const frozen = selectParams(params, (path) => !matches(path));
        program = createPhaseProgram(engine, subject, phase, own, frozen, {
          sideWidth: side?.shape[1],
          recorded: Object.fromEntries(
            Object.entries(states).map(([name, { width }]) => [name, width / shape.depth]),
          ),
        });
        const feed: Feed = {
          phase,
          index: reports.length,
          program,
          frozen,
          texts,
          states,
          side,
          depth: shape.depth,
          total,
          seed: options.seed,
          microBatch: options.microBatch,
        };
        /** Makes the weights of the moment those of the run. */
        const settle = () => {
          const broken = notFinite(buffers.current.trained);
          if (broken !== undefined)
            throw diverged(
              phase,
              `the parameter ${broken} is not finite after the update`,
              { step: position.step - 1, epoch: position.epoch },
              total,
            );
          params = { ...params, ...buffers.current.trained };
        };
        const checkpointNow = () => {
          settle();
          const { m, v } = buffers.current;
          write(
            { ...position, phase: phase.name, settings, done: false },
            { moments: { m, v }, best, side },
          );
          saved = Date.now();
        };
        const everyMs = (options.checkpointSeconds ?? 60) * 1000;
        for (; position.epoch < phase.epochs; position = nextEpoch(position, phase.epochs)) {
          const batches = planEpoch(
            lengths,
            phase.batchSize,
            createRng(options.seed).fork(`${phase.name}/${position.epoch}`),
            fromRecord ? 1 : undefined,
          );
          for (const batch of batches.slice(position.stepInEpoch)) {
            const loss = await optimiserStep(feed, buffers, batch, position);
            position = {
              ...position,
              stepInEpoch: position.stepInEpoch + 1,
              step: position.step + 1,
              lossSum: position.lossSum + loss,
              lossSteps: position.lossSteps + 1,
            };
            const progress: FitProgress = {
              phase: phase.name,
              epoch: position.epoch + 1,
              epochs: phase.epochs,
              step: position.step,
              steps: total,
              loss: position.lossSum / position.lossSteps,
            };
            options.onProgress?.(progress);
            if (options.watch && !fromRecord && isWatched(options.watch, progress)) {
              settle();
              await options.watch.seen((await record(train)).record, progress);
            }
            const isAborted = options.signal?.aborted === true;
            if (isAborted || (out !== undefined && Date.now() - saved >= everyMs)) checkpointNow();
            if (isAborted)
              throw new BackboneError(
                "ABORTED",
                phase.name,
                `training was stopped after step ${position.step} of ${total}. ${out === undefined ? "Nothing was saved: give an output folder to be able to go on." : "Run again to go on."}`,
              );
          }
          settle();
          if (phase.select === "best") {
            const score = await judge(phase, "score", (await record(dev)).record);
            // A score that is no number, such as a correlation with constant answers, is no better than any.
            if (
              Number.isFinite(score) &&
              score > (position.bestScore ?? Number.NEGATIVE_INFINITY)
            ) {
              best = copyParams(buffers.current.trained);
              position = { ...position, bestScore: score };
            }
          }
        }
        params = { ...params, ...copyParams(buffers.current.trained), ...best };
        for (const [path, { data }] of Object.entries(buffers.current.m))
          if (data.some((value) => value !== 0)) trained.add(path);
        const measures =
          phase.measure && dev.length > 0
            ? judge(phase, "measure", (await record(dev)).record)
            : {};
        return {
          phase: phase.name,
          steps: position.step,
          loss: position.lossSum / position.lossSteps,
          measures,
        };
      } finally {
        disposeStates(states);
        await program?.dispose();
      }
    },
  };
}

function isWatched({ evaluations }: FitWatch, { step, steps }: FitProgress): boolean {
  // The step that crosses the next mark: as many marks as evaluations, whatever the number of steps.
  const marks = (at: number) => Math.floor((at * evaluations) / steps);
  return marks(step) > marks(step - 1);
}

/** The last epoch keeps its losses, for the report. */
function nextEpoch(position: Position, epochs: number): Position {
  const next = { ...position, epoch: position.epoch + 1, stepInEpoch: 0 };
  return next.epoch === epochs ? next : { ...next, lossSum: 0, lossSteps: 0 };
}

function positionOf({
  epoch,
  stepInEpoch,
  step,
  lossSum,
  lossSteps,
  bestScore,
}: Position): Position {
  return { epoch, stepInEpoch, step, lossSum, lossSteps, bestScore };
}

/** What a record phase may read; heads that are trained make everything anew from the states. */
function recordedSignals(
  subject: Pick<TrainingSubject<never>, "recorded">,
  observer: Observer,
  trained: HostParams,
): readonly RecordedSignal[] {
  if (Object.keys(trained).some(isOfHead)) return ["hidden"];
  return subject.recorded(observer.needs.filter((name) => name !== "logits" && name !== "probs"));
}

/** The path of a parameter that holds NaN or infinity. */
function notFinite(params: HostParams): string | undefined {
  for (const [path, { data }] of Object.entries(params))
    for (let index = 0; index < data.length; index += 1)
      if (!Number.isFinite(data[index] as number)) return path;
  return undefined;
}

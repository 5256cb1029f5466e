/**
 * @file The one trainer: executes the phases of any method, with progress, and resumes where it was stopped.
 *
 * A run that is killed and started again ends with the same weights, bit for bit, as one that was not: everything
 * random is a function of the seed, the phase, the epoch and the step, and a checkpoint replaces the one before in one step.
 */
import { createHash } from "node:crypto";
import {
  createRng,
  type Engine,
  type HostParams,
  type HostTensor,
  type HostTree,
} from "@cee/engine";
import type {
  ExitRecord,
  Observer,
  PhasePlan,
  PhaseReport,
  TrainingPhase,
} from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { batchInputs, type TokenRow, toBatch } from "../runner/batch.js";
import { compileFull, type FullProgram } from "../runner/open.js";
import type { ModelPlan } from "../runner/signals.js";
import { planEpoch } from "./batches.js";
import { clearLeftovers, loadCheckpoint, type Progress, saveCheckpoint } from "./checkpoint.js";
import { pathMatcher } from "./paths.js";
import { createPhaseProgram, type PhaseProgram, type RecordedSignal } from "./phase-program.js";
import { type Recording, recordRows } from "./recording.js";

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

export interface FitOptions {
  readonly engine: Engine;
  readonly model: ModelPlan;
  /** All parameters: `backbone.*`, `heads.*`, `strategy.*`. Not changed; the result holds new arrays. */
  readonly params: HostParams;
  /** Starts the plan afresh; called once per run. */
  readonly plan: () => PhasePlan;
  /** What the strategy observes, for `prepare`, `score` and `measure`; by default nothing but the logits. */
  readonly observer?: Omit<Observer, "params">;
  readonly train: readonly TrainingRow[];
  readonly dev: readonly TrainingRow[];
  readonly seed: number;
  /** Rows per forward and backward pass; larger batches are accumulated. @default the phase's batch size */
  readonly microBatch?: number;
  /** Rows per recording pass. @default 64 */
  readonly recordBatch?: number;
  /** Folder of the checkpoint; without it nothing is written and nothing resumes. */
  readonly out?: string;
  /** Seconds between checkpoints; 0 writes one after every step. @default 60 */
  readonly checkpointSeconds?: number;
  /** What else makes this run different from another; a checkpoint with a different value is refused. */
  readonly identity?: Readonly<Record<string, unknown>>;
  readonly onProgress?: (progress: FitProgress) => void;
  readonly log?: (line: string) => void;
  /** Stops after the step in progress, with a checkpoint. */
  readonly signal?: AbortSignal;
}

export interface FitResult {
  readonly params: HostParams;
  readonly reports: readonly PhaseReport[];
}

/**
 * Runs a plan to its end.
 * @throws BackboneError `NAN_LOSS` when a loss or gradient is not finite, `CHECKPOINT_MISMATCH` when the folder holds another run.
 */
export async function fit(options: FitOptions): Promise<FitResult> {
  const { out } = options;
  const fingerprint = fingerprintOf(options);
  if (out !== undefined) clearLeftovers(out);
  const checkpoint = out === undefined ? undefined : loadCheckpoint(out);
  if (checkpoint && out !== undefined)
    assertSameRun(out, checkpoint.progress.fingerprint, fingerprint);
  const reports: PhaseReport[] = [...(checkpoint?.progress.reports ?? [])];
  if (checkpoint?.progress.done) return { params: checkpoint.params, reports };

  const plan = options.plan();
  let next = plan.next();
  for (const report of reports) next = plan.next(report);
  const run = createRun(options, fingerprint, reports, checkpoint?.params ?? options.params);
  try {
    let resumeFrom = checkpoint?.progress.step ? checkpoint : undefined;
    while (!next.done) {
      const report = await run.phase(next.value, resumeFrom);
      resumeFrom = undefined;
      reports.push(report);
      next = plan.next(report);
      run.save(next.done ?? false);
    }
    // A plan without a phase, or one whose last report ended it on resume, is finished as well.
    run.save(true);
    return { params: run.params(), reports };
  } finally {
    await run.dispose();
  }
}

type Loaded = NonNullable<ReturnType<typeof loadCheckpoint>>;

const idle = {
  epoch: 0,
  stepInEpoch: 0,
  step: 0,
  lossSum: 0,
  lossSteps: 0,
  bestScore: null,
} as const;

/** The state of a run between and within phases. */
function createRun(
  options: FitOptions,
  fingerprint: string,
  reports: readonly PhaseReport[],
  start: HostParams,
) {
  const { engine, model, out } = options;
  const padId = model.config.padTokenId;
  const recordBatch = options.recordBatch ?? 64;
  let params: HostParams = start;
  const programs = new Map<string, FullProgram>();

  const observer: Observer = {
    name: options.observer?.name ?? "none",
    needs: options.observer?.needs ?? [],
    params: strategyOf(start),
    observe: options.observer?.observe ?? ((now) => (now as { logits: never }).logits),
  };

  const record = (
    rows: readonly TrainingRow[],
    signals: readonly RecordedSignal[] = [],
    folder?: string,
  ): Promise<Recording> => {
    const key = signals.join("+");
    let program = programs.get(key);
    if (!program) {
      program = compileFull(engine, model, params, observer, signals);
      programs.set(key, program);
    }
    return recordRows(program, {
      shape: model.shape,
      params,
      rows,
      batchSize: recordBatch,
      padId,
      signals,
      folder,
      log: options.log,
    });
  };

  const write = (
    progress: Omit<Progress, "fingerprint" | "reports" | "phase">,
    rest: Partial<Loaded> = {},
  ) => {
    if (out === undefined) return;
    saveCheckpoint(out, {
      progress: { fingerprint, reports, phase: reports.length, ...progress },
      params,
      moments: rest.moments ?? { m: {}, v: {} },
      best: rest.best ?? {},
      side: rest.side,
    });
  };

  return {
    params: () => params,
    save: (done: boolean) => write({ ...idle, done }),
    async dispose() {
      for (const program of programs.values()) await program.dispose();
    },

    async phase(phase: TrainingPhase, resume: Loaded | undefined): Promise<PhaseReport> {
      checkPhase(phase);
      const matches = pathMatcher(phase.trains);
      const trainedPaths = Object.keys(params).filter(matches);
      if (trainedPaths.length === 0)
        throw new BackboneError(
          "BAD_PHASE",
          phase.name,
          `trains ${JSON.stringify(phase.trains)} names no parameter of this model. Parameters start with backbone., heads.<layer>. or strategy.`,
        );
      const frozen = select(params, (path) => !matches(path));
      const fromRecord = phase.source === "record";
      const recorded: readonly RecordedSignal[] = fromRecord
        ? observer.needs.filter(
            (name): name is RecordedSignal => name !== "logits" && name !== "probs",
          )
        : [];
      const needsRecord = fromRecord || (phase.prepare !== undefined && !resume?.side);
      const recording = needsRecord
        ? await record(options.train, recorded, out && `${out}/states`)
        : undefined;
      const side = resume?.side ?? sideOf(phase, recording?.record);
      const buffers = createBuffers(
        select(params, matches),
        resume && Object.keys(resume.moments.m).length > 0 ? resume.moments : undefined,
      );
      const program = createPhaseProgram(engine, model, phase, buffers.current.trained, frozen, {
        sideWidth: side?.shape[1],
        recorded,
      });
      let best: HostParams = resume?.best ?? {};
      let position = resume ? pickPosition(resume.progress) : { ...idle };
      let lastLoss = Number.NaN;
      const rows = options.train;
      const lengths = fromRecord
        ? new Float64Array(rows.length)
        : rows.map((row) => row.ids.length);
      const stepsPerEpoch = Math.ceil(rows.length / phase.batchSize);
      const total = stepsPerEpoch * phase.epochs;
      const feed = {
        phase,
        recording,
        side,
        rows,
        recorded,
        total,
        padId,
        reportsBefore: reports.length,
      };
      const everyMs = (options.checkpointSeconds ?? 60) * 1000;
      let saved = Date.now();

      const current = () => ({ ...params, ...buffers.current.trained });
      const checkpoint = () => {
        params = current();
        write(
          { ...position, done: false },
          {
            moments: { m: buffers.current.m, v: buffers.current.v },
            best,
            ...(side ? { side } : {}),
          },
        );
        saved = Date.now();
      };

      try {
        while (position.epoch < phase.epochs) {
          const epoch = position.epoch;
          const batches = planEpoch(
            lengths,
            phase.batchSize,
            createRng(options.seed).fork(`${phase.name}/${epoch}`),
            fromRecord ? 1 : undefined,
          );
          for (const batch of batches.slice(position.stepInEpoch)) {
            const loss = await optimiserStep(
              options,
              program,
              buffers,
              frozen,
              feed,
              batch,
              position,
            );
            position = {
              ...position,
              stepInEpoch: position.stepInEpoch + 1,
              step: position.step + 1,
              lossSum: position.lossSum + loss,
              lossSteps: position.lossSteps + 1,
            };
            options.onProgress?.({
              phase: phase.name,
              epoch: epoch + 1,
              epochs: phase.epochs,
              step: position.step,
              steps: total,
              loss: position.lossSum / position.lossSteps,
            });
            if (options.signal?.aborted) {
              checkpoint();
              throw new BackboneError(
                "ABORTED",
                phase.name,
                "training was stopped. Run again to go on.",
              );
            }
            if (out !== undefined && Date.now() - saved >= everyMs) checkpoint();
          }
          lastLoss = position.lossSum / position.lossSteps;
          params = current();
          if (phase.select === "best") {
            const score = (phase.score as NonNullable<typeof phase.score>)(
              (await record(options.dev)).record,
            );
            if (position.bestScore === null || score > position.bestScore) {
              best = copyParams(buffers.current.trained);
              position = { ...position, bestScore: score };
            }
          }
          const last = epoch + 1 === phase.epochs;
          position = {
            ...position,
            epoch: epoch + 1,
            stepInEpoch: 0,
            lossSum: last ? position.lossSum : 0,
            lossSteps: last ? position.lossSteps : 0,
          };
        }
        if (Number.isNaN(lastLoss)) lastLoss = position.lossSum / position.lossSteps;
        params = {
          ...params,
          ...(phase.select === "best" ? best : copyParams(buffers.current.trained)),
        };
        const measures = phase.measure?.((await record(options.dev)).record) ?? {};
        return { phase: phase.name, steps: position.step, loss: lastLoss, measures };
      } finally {
        for (const store of Object.values(recording?.states ?? {})) store?.dispose();
        await program.dispose();
      }
    },
  };
}

interface Feed {
  readonly phase: TrainingPhase;
  readonly recording: Recording | undefined;
  readonly side: HostTensor | undefined;
  readonly rows: readonly TrainingRow[];
  readonly recorded: readonly RecordedSignal[];
  readonly total: number;
  readonly padId: number;
  readonly reportsBefore: number;
}

/** One optimiser step, in one program where the batch fits and accumulated where it does not. */
async function optimiserStep(
  options: FitOptions,
  program: PhaseProgram,
  buffers: Buffers,
  frozen: HostParams,
  feed: Feed,
  batch: readonly number[],
  position: { readonly step: number; readonly stepInEpoch: number },
): Promise<number> {
  const { phase, total } = feed;
  const name = phase.pick
    ? phase.pick(position.step, position.stepInEpoch)
    : (Object.keys(phase.losses)[0] as string);
  const scalars = scalarTree({
    learningRate: learningRateAt(phase, position.step, total),
    adamStep: position.step + 1,
    perRow: 1 / batch.length,
    progress: position.step / total,
    step: position.step,
  });
  const micro = Math.min(options.microBatch ?? batch.length, batch.length);
  let loss = 0;
  let norm = 0;
  if (micro === batch.length) {
    const result = await program.step(name).run<StepOutput>(
      {
        ...buffers.current,
        frozen,
        ...batchTree(feed, batch),
        scalars,
        seed: seedAt(options.seed, feed.reportsBefore, position.step, 0),
      },
      { into: { ...buffers.spare, loss: buffers.loss, norm: buffers.norm } },
    );
    loss = result.loss.data[0] as number;
    norm = result.norm.data[0] as number;
  } else {
    let gradients: HostParams = zerosLike(buffers.current.trained);
    for (let at = 0; at < batch.length; at += micro) {
      const part = batch.slice(at, at + micro);
      const result = await program.accumulate(name).run<AccumulateOutput>({
        trained: buffers.current.trained,
        frozen,
        gradients,
        ...batchTree(feed, part),
        scalars,
        seed: seedAt(options.seed, feed.reportsBefore, position.step, at / micro),
      });
      gradients = result.gradients;
      loss += result.loss.data[0] as number;
    }
    const result = await program
      .apply()
      .run<StepOutput>(
        { ...buffers.current, gradients, scalars },
        { into: { ...buffers.spare, norm: buffers.norm } },
      );
    norm = result.norm.data[0] as number;
  }
  if (!Number.isFinite(loss) || !Number.isFinite(norm))
    throw new BackboneError(
      "NAN_LOSS",
      phase.name,
      `the ${Number.isFinite(loss) ? "gradient norm" : `loss "${name}"`} is ${Number.isFinite(loss) ? norm : loss} at step ${position.step + 1} of ${total}. Lower the learning rate (now ${phase.learningRate}) or look for rows without a label; the last checkpoint is intact.`,
    );
  buffers.swap();
  return loss;
}

type StepOutput = {
  readonly [key: string]: HostTree;
  readonly loss: HostTensor;
  readonly norm: HostTensor;
};
type AccumulateOutput = {
  readonly [key: string]: HostTree;
  readonly gradients: HostParams;
  readonly loss: HostTensor;
};

/** What the batch feeds: tokens, or recorded signals. */
function batchTree(feed: Feed, batch: readonly number[]): Record<string, HostTree> {
  const { rows, side, recording, recorded, padId } = feed;
  const labels = Float32Array.from(batch, (row) => (rows[row] as TrainingRow).label);
  const tree: Record<string, HostTree> = {
    labels: { dtype: "float32", shape: [batch.length], data: labels },
  };
  if (side) {
    const width = side.shape[1] as number;
    tree.side = {
      dtype: "float32",
      shape: [batch.length, width],
      data: gatherRows(side.data as Float32Array, width, batch),
    };
  }
  if (feed.phase.source !== "record") {
    tree.batch = batchInputs(
      toBatch(
        batch.map((row) => rows[row] as TrainingRow),
        { padId, multiple: 8 },
      ),
    ) as Record<string, HostTensor>;
    return tree;
  }
  const { record, states } = recording as Recording;
  const { depth, classes, hidden } = record.shape;
  const inputs: Record<string, HostTensor> = {
    logits: {
      dtype: "float32",
      shape: [batch.length, depth, classes],
      data: gatherRows(record.logits, depth * classes, batch),
    },
  };
  for (const name of recorded)
    inputs[name] = {
      dtype: "float32",
      shape: [batch.length, depth, hidden],
      data: (states[name] as { gather(rows: readonly number[]): Float32Array }).gather(batch),
    };
  tree.batch = inputs;
  return tree;
}

function gatherRows(source: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const result = new Float32Array(rows.length * width);
  rows.forEach((row, index) => {
    result.set(source.subarray(row * width, (row + 1) * width), index * width);
  });
  return result;
}

/** Two sets of arrays that a step reads from and writes to in turn. */
interface Buffers {
  current: ParamSet;
  spare: ParamSet;
  readonly loss: HostTensor;
  readonly norm: HostTensor;
  swap(): void;
}
type ParamSet = { readonly trained: HostParams; readonly m: HostParams; readonly v: HostParams };

function createBuffers(
  trained: HostParams,
  moments: { readonly m: HostParams; readonly v: HostParams } | undefined,
): Buffers {
  const scalarOf = (): HostTensor => ({ dtype: "float32", shape: [], data: new Float32Array(1) });
  return {
    current: {
      trained: copyParams(trained),
      m: moments ? copyParams(moments.m) : zerosLike(trained),
      v: moments ? copyParams(moments.v) : zerosLike(trained),
    },
    spare: { trained: zerosLike(trained), m: zerosLike(trained), v: zerosLike(trained) },
    loss: scalarOf(),
    norm: scalarOf(),
    swap() {
      [this.current, this.spare] = [this.spare, this.current];
    },
  };
}

function copyParams(params: HostParams): HostParams {
  return mapParams(params, (tensor) => ({ ...tensor, data: tensor.data.slice() }));
}

function zerosLike(params: HostParams): HostParams {
  return mapParams(params, (tensor) => ({ ...tensor, data: new Float32Array(tensor.data.length) }));
}

function mapParams(params: HostParams, change: (tensor: HostTensor) => HostTensor): HostParams {
  return Object.fromEntries(Object.entries(params).map(([path, tensor]) => [path, change(tensor)]));
}

function select(params: HostParams, wanted: (path: string) => boolean): HostParams {
  return Object.fromEntries(Object.entries(params).filter(([path]) => wanted(path)));
}

function strategyOf(params: HostParams): HostParams {
  return Object.fromEntries(
    Object.entries(params)
      .filter(([path]) => path.startsWith("strategy."))
      .map(([path, tensor]) => [path.slice("strategy.".length), tensor]),
  );
}

function pickPosition(progress: Progress) {
  const { epoch, stepInEpoch, step, lossSum, lossSteps, bestScore } = progress;
  return { epoch, stepInEpoch, step, lossSum, lossSteps, bestScore };
}

function sideOf(phase: TrainingPhase, record: ExitRecord | undefined): HostTensor | undefined {
  if (!phase.prepare || !record) return undefined;
  const { width, values } = phase.prepare(record);
  const rows = record.ids.length;
  if (values.length !== rows * width)
    throw new BackboneError(
      "BAD_PHASE",
      phase.name,
      `prepare() must return ${rows} x ${width} values, got ${values.length}. Return one row of values per record row.`,
    );
  return { dtype: "float32", shape: [rows, width], data: values };
}

function checkPhase(phase: TrainingPhase): void {
  const complain = (what: string) => {
    throw new BackboneError("BAD_PHASE", phase.name, what);
  };
  if (phase.select === "best" && !phase.score)
    complain('select "best" needs score(). Add it, or select "last".');
  if (Object.keys(phase.losses).length === 0) complain("the phase has no loss. Add one.");
  if (Object.keys(phase.losses).length > 1 && !phase.pick && !phase.combine)
    complain("several losses need pick() or combine(). Add one of them.");
  if (phase.source === "record" && phase.trains.some((path) => !path.startsWith("strategy.")))
    complain(
      `a record phase may train strategy.** only, got ${JSON.stringify(phase.trains)}. Use source "data" to train the encoder or the heads.`,
    );
  for (const [name, value] of Object.entries({ epochs: phase.epochs, batchSize: phase.batchSize }))
    if (!Number.isInteger(value) || value < 1)
      complain(`${name} must be an integer >= 1, got ${value}. Correct the preset or the option.`);
}

/** Linear warm-up, then linear decay to zero or a constant rate. */
function learningRateAt(phase: TrainingPhase, step: number, total: number): number {
  const warmup = Math.round((phase.warmup ?? 0) * total);
  if (step < warmup) return (phase.learningRate * (step + 1)) / warmup;
  if (phase.schedule === "constant") return phase.learningRate;
  return phase.learningRate * ((total - step) / Math.max(1, total - warmup));
}

function scalarTree(values: Record<string, number>): Record<string, HostTensor> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      { dtype: "float32", shape: [], data: new Float32Array([value]) },
    ]),
  );
}

/** A fresh pair of words for every step and micro-batch. */
function seedAt(seed: number, phase: number, step: number, part: number): HostTensor {
  const rng = createRng(seed).fork(`dropout/${phase}/${step}/${part}`);
  const word = () => rng.int(2 ** 31 - 1);
  return { dtype: "int32", shape: [2], data: new Int32Array([word(), word()]) };
}

/** Named parts, so that a refusal can say what differs. */
function fingerprintOf(options: FitOptions): string {
  const { model, params, train, dev, seed, identity, microBatch } = options;
  return JSON.stringify({
    model: digest([model.shape, model.head.name, model.config]),
    parameters: digest(
      Object.entries(params).map(([path, { shape, data }]) => [path, shape, digestBytes(data)]),
    ),
    "training rows": digest(train.map((row) => [row.id, row.label, [...row.ids]])),
    "held-out rows": digest(dev.map((row) => [row.id, row.label, [...row.ids]])),
    seed,
    "micro batch": microBatch ?? null,
    options: identity ?? null,
  });
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);
}

function digestBytes(data: HostTensor["data"]): string {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}

function assertSameRun(folder: string, found: string, expected: string): void {
  if (found === expected) return;
  const a = JSON.parse(found) as Record<string, unknown>;
  const b = JSON.parse(expected) as Record<string, unknown>;
  const differ = Object.keys(b).filter((key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]));
  throw new BackboneError(
    "CHECKPOINT_MISMATCH",
    folder,
    `the checkpoint belongs to another run: ${differ.join(", ")} differ. Use another output folder, or delete this one to start over.`,
  );
}

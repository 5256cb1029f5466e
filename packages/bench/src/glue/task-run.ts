/** @file One task with one seed: all methods in turn, each cell on disk before the next one starts. */
import { createHash } from "node:crypto";
import path from "node:path";
import type { ExitEncoder, ModelPlan, TrainingRow } from "@cee/backbone";
import type { Engine } from "@cee/engine";
import type { DataRow, LoadedTask } from "../data/task.js";
import { BenchError } from "../errors.js";
import { full } from "../methods/full.js";
import type { CurvePoint, Method, Workbench } from "../methods/method.js";
import { createWorkbench, type OpenWorkbench } from "../methods/workbench.js";
import type { Failure, LeftOut, ResultRow } from "../results.js";
import type { CellAnswers } from "./answers.js";
import { prepareBackbone } from "./backbone.js";
import { type CellFolder, type CellIdentity, type CellName, validateRows } from "./cells.js";
import type { ChosenMethods } from "./choose-methods.js";
import { type PlannedTraining, planTrainings, rowsOf, stepsOf } from "./estimate.js";
import { type Evaluation, evaluate } from "./evaluate.js";
import type { GlueOptions } from "./options.js";
import { prepareRows } from "./prepare.js";
import type { ProgressLine } from "./progress.js";
import type { RunFolder } from "./run-folder.js";
import { checkStop, isStop } from "./stop.js";
import {
  hasSubmissions,
  type SubmissionOptions,
  type TestSplit,
  writeSubmissions,
} from "./submission.js";
import { machineOf, versionsOf } from "./versions.js";

export type Exclusively = <T>(run: () => Promise<T>) => Promise<T>;

/** What all tasks of a run share. */
export interface Run {
  readonly options: GlueOptions;
  readonly backbone: string;
  /** Factor on the small preset's learning rates. */
  readonly rate: number;
  readonly maxLength: number;
  readonly chosen: ChosenMethods;
  readonly engine: Engine;
  readonly progress: ProgressLine;
  readonly signal: AbortSignal | undefined;
  /** Runs something while no other worker does. */
  readonly exclusively: Exclusively;
  /** Told each method that is about to be trained or run. */
  readonly onMethod: (name: string) => void;
  /** Methods that an earlier process did not survive, and what to say of each. */
  readonly deadly: Readonly<Record<string, string>>;
  /** Processes that share the tasks and seeds. */
  readonly workers: number;
  /** Finished cells that are kept beyond the run folder. */
  readonly cells: CellFolder | undefined;
}

/** What the cells of a run add up to. */
export interface Collected {
  readonly rows: ResultRow[];
  readonly failures: Failure[];
  readonly leftOut: LeftOut[];
  /** Row by row, of the cells whose answers the run folder holds. */
  readonly answers: AnsweredCell[];
  /** Names of the cells that `--cells` had. */
  readonly taken: CellName[];
  /** What the run's companion returned, task by task. */
  readonly beside: unknown[];
}

export interface AnsweredCell extends CellName, CellAnswers {}

/** Nothing yet. */
export function emptyCollection(): Collected {
  return { rows: [], failures: [], leftOut: [], answers: [], taken: [], beside: [] };
}

/** A split that is reported, and what evaluates on it. */
interface Split {
  readonly name: string;
  readonly rows: readonly DataRow[];
  readonly encoded: readonly TrainingRow[];
  readonly bench: OpenWorkbench;
}

export interface PreparedRun {
  readonly task: LoadedTask;
  readonly seed: number;
  readonly encoder: ExitEncoder;
  readonly model: ModelPlan;
  readonly bench: OpenWorkbench;
  readonly splits: readonly Split[];
  /** Unlabelled; empty unless asked for. */
  readonly tests: readonly TestSplit[];
  /** Digests of the rows as tokens and of the weights before training. */
  readonly identity: { readonly data: string; readonly weights: string };
  readonly trainings: readonly PlannedTraining[];
  dispose(): Promise<void>;
}

/** Makes the encoder and the token rows of a task, and plans its trainings. */
export async function prepareRun(run: Run, task: LoadedTask, seed: number): Promise<PreparedRun> {
  const { options, backbone, maxLength, rate, engine, progress, signal, chosen } = run;
  const name = task.task.name;
  progress.update(`${name} · preparing`);
  const encoder = await prepareBackbone({
    spec: backbone,
    task,
    seed,
    maxLength,
    hubUrl: options.hubUrl,
    head: chosen.head,
    progress,
    signal,
  });
  const rows = prepareRows(task, encoder, { seed, maxLength });
  const limit = Math.min(maxLength, encoder.config.maxPositions);
  if (rows.truncated > 0.01 && seed === options.seeds[0])
    progress.print(
      `${name}: ${Math.round(rows.truncated * 100)} % of the dev rows were cut to ${limit} tokens.`,
    );
  const model = { config: encoder.config, shape: encoder.shape, head: encoder.head };
  const identity = {
    data: rowsDigest([rows.train, rows.validation, rows.dev, rows.devMismatched ?? []]),
    weights: digest([encoder.config, weightsDigest(encoder)]),
  };
  const trainedOn = digest([identity, options.preset, options.epochs ?? null, rate]);
  const unitsByPhase = new Map<string, number>();
  const open = (dev: readonly TrainingRow[]) =>
    createWorkbench({
      engine,
      model,
      params: encoder.params,
      taskName: name,
      seed,
      preset: options.preset,
      epochs: options.epochs,
      rate,
      train: rows.train,
      validation: rows.validation,
      dev,
      identity: { data: trainedOn },
      out: options.out,
      progress,
      ...(signal === undefined ? {} : { signal }),
      unitsPerStep: (phase) => unitsByPhase.get(phase) ?? 0,
    });
  const bench = open(rows.dev);
  const splits: Split[] = [{ name: "dev", rows: task.splits.dev, encoded: rows.dev, bench }];
  if (task.splits.devMismatched && rows.devMismatched)
    splits.push({
      name: "dev-mismatched",
      rows: task.splits.devMismatched,
      encoded: rows.devMismatched,
      // The same trained models, asked about other rows.
      bench: { ...open(rows.devMismatched), fit: bench.fit },
    });
  const tests = (["test", "testMismatched"] as const).flatMap((split): TestSplit[] => {
    const [raw, encoded] = [task.splits[split], rows[split]];
    return raw && encoded ? [{ name: split, rows: raw, encoded }] : [];
  });
  const trainings = planTrainings(chosen.methods, bench);
  const weight = unitsPerRow(task);
  for (const { phases } of trainings)
    for (const phase of phases) {
      const steps = stepsOf([phase], rows.train.length);
      unitsByPhase.set(phase.name, (rowsOf(phase, rows.train.length) * weight) / steps);
    }
  return {
    task,
    seed,
    encoder,
    model,
    bench,
    splits,
    tests,
    identity,
    trainings,
    async dispose() {
      for (const split of splits) await split.bench.dispose();
    },
  };
}

/** Longer rows take longer; known before anything is tokenised. */
export function unitsPerRow({ splits }: LoadedTask): number {
  const characters = splits.train.reduce(
    (sum, { text, pair }) => sum + text.length + (pair?.length ?? 0),
    0,
  );
  return characters / Math.max(1, splits.train.length);
}

/** The work of all trainings of a task, in the unit of the progress line. */
export function unitsOf(prepared: PreparedRun): number {
  return unitsPerRow(prepared.task) * prepared.trainings.reduce((sum, { rows }) => sum + rows, 0);
}

/** Runs every method; `before` is the work that earlier tasks and seeds took. */
export async function runTask(
  run: Run,
  prepared: PreparedRun,
  folder: RunFolder,
  collected: Collected,
  before: number,
): Promise<void> {
  const { options, progress, chosen, signal } = run;
  const { task, seed, bench, trainings } = prepared;
  const weight = unitsPerRow(task);
  const references = new Map<Split, CurvePoint>();
  const finished: Method[] = [];
  let fullFailed: string | undefined;
  for (const method of chosen.methods) {
    checkStop(signal);
    const name = { task: task.task.name, method: method.name, seed };
    const died = run.deadly[method.name];
    const reason = method.unsupported(bench.task);
    if (reason !== undefined) {
      progress.print(`${name.task}: ${reason}; left out.`);
      collected.leftOut.push({ ...name, reason });
      continue;
    }
    const identity = cellIdentity(run, prepared, method);
    const submission = submissionOptions(run, prepared, name);
    const own = options.resume ? folder.cells.read(name, identity) : undefined;
    const kept = own ?? run.cells?.read(name, identity);
    // Test rows are answered while the models are open: a cell without those answers has to run.
    const wanted = new Set(kept?.map((row) => row.operatingPoint).filter((at) => at !== "curve"));
    const cell = kept && hasSubmissions([...wanted], submission) ? kept : undefined;
    try {
      if (cell) {
        collected.rows.push(...cell);
        const answers = options.resume ? folder.answers.read(name, identity) : undefined;
        if (answers) collected.answers.push({ ...name, ...answers });
        if (!own) {
          collected.taken.push(name);
          progress.print(
            `${name.task} · ${name.method} · seed ${seed}: taken from ${run.cells?.folder}`,
          );
        }
      } else {
        if (died !== undefined) throw new Error(died);
        run.onMethod(method.name);
        // Nothing can be measured against a full-depth model that did not train.
        if (fullFailed !== undefined)
          throw new BenchError("TRAINING_FAILED", full.name, `failed before (${fullFailed}).`);
        const found: Evaluation[] = [];
        for (const split of prepared.splits)
          found.push(await runCell(run, prepared, method, split, references));
        const reference = references.get(prepared.splits[0] as Split);
        const points = method === full ? { full: reference } : { ...found[0]?.picks };
        if (!(await writeSubmissions(points, submission)))
          progress.print(
            `${name.task} · ${name.method}: is no model that answers test rows; left out of submissions.`,
          );
        const rows = found.flatMap((evaluation) => evaluation.rows);
        validateRows(rows, `${name.task} ${name.method}`);
        const answers = {
          splits: found.map((evaluation) => evaluation.answers),
          inputs: found.flatMap(({ inputs }) => inputs),
        };
        await folder.answers.write(name, identity, answers);
        await folder.cells.write(name, identity, rows);
        await run.cells?.write(name, identity, rows, provenanceOf(run));
        collected.rows.push(...rows);
        collected.answers.push({ ...name, ...answers });
      }
    } catch (cause) {
      if (isStop(cause) || endsRun(cause)) throw cause;
      const message = cause instanceof Error ? cause.message : String(cause);
      collected.failures.push({ ...name, message });
      if (message !== died)
        progress.print(`${name.task} · ${name.method} · seed ${seed} failed: ${message}`);
      if (process.env.CEE_DEBUG) progress.print(String((cause as Error)?.stack));
      if (method === full) fullFailed = message;
    }
    finished.push(method);
    const behind = trainings.filter(({ methods }) => methods.some((m) => finished.includes(m)));
    progress.settle(before + weight * behind.reduce((sum, { rows }) => sum + rows, 0));
  }
}

async function runCell(
  { options, progress, signal, exclusively }: Run,
  { task, seed, bench, encoder }: PreparedRun,
  method: Method,
  split: Split,
  references: Map<Split, CurvePoint>,
): Promise<Evaluation> {
  let reference = references.get(split);
  if (!reference) {
    reference = (await full.run(split.bench))[0] as CurvePoint;
    references.set(split, reference);
  }
  const points = method === full ? [reference] : await method.run(split.bench);
  checkStop(signal);
  const where = `${task.task.name} · ${method.name}`;
  progress.update(`${where} · timing`);
  const ill = points.reduce((sum, point) => sum + point.nonFinite, 0);
  if (ill > 0) progress.print(`${where}: ${ill} observations were not finite and let no row exit.`);
  return evaluate({
    task: task.task,
    method,
    seed,
    depth: bench.shape.depth,
    split: split.name,
    dev: split.rows,
    encoded: split.encoded,
    padId: encoder.config.padTokenId,
    full: reference,
    points,
    strips: split.name === "dev" && seed === options.seeds[0],
    texts: options.texts,
    signal,
    exclusively,
  });
}

function submissionOptions(
  { options, progress, signal }: Run,
  { task, tests, encoder }: PreparedRun,
  cell: CellName,
): SubmissionOptions {
  if (tests.length > 0) progress.update(`${cell.task} · ${cell.method} · test rows`);
  return {
    out: options.out,
    cell,
    task: task.task,
    tests,
    padId: encoder.config.padTokenId,
    signal,
  };
}

/** A cell is done again when its data, its trainings or the code of its strategy changed. */
function cellIdentity(
  { options, backbone, maxLength, rate, chosen }: Run,
  { identity, bench }: PreparedRun,
  method: Method,
): CellIdentity {
  return {
    ...identity,
    // A folder by its own name: where it lies changes nothing, and its weights are in here too.
    backbone: backbone.startsWith("fresh:") ? backbone : path.basename(backbone),
    preset: options.preset,
    epochs: options.epochs ?? null,
    rate,
    "max-length": maxLength,
    trainings: digest(identities(method, bench)),
    strategy: chosen.sources[method.name] ?? null,
  };
}

function provenanceOf({ options, engine }: Run) {
  return { command: options.command, versions: versionsOf(engine), machine: machineOf(engine) };
}

function identities(method: Method, bench: Workbench): unknown {
  try {
    return method.trainings(bench).map((spec) => [spec.parent?.identity ?? null, spec.identity]);
  } catch {
    return null;
  }
}

/** What no other cell would survive either, or what asks for a person: a full disk, another run's checkpoints. */
function endsRun(cause: unknown): boolean {
  const { code } = (cause ?? {}) as { code?: unknown };
  return ["WRITE_FAILED", "NO_SPACE", "ENOSPC", "CHECKPOINT_MISMATCH", "RUN_MISMATCH"].includes(
    String(code),
  );
}

/** What the weights are. */
export function weightsDigest({ params }: ExitEncoder): string {
  const hash = createHash("sha256");
  for (const [name, { shape, data }] of Object.entries(params)) {
    hash.update(`${name} ${shape.join("x")}\n`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest("hex").slice(0, 16);
}

/** What the token rows are. */
export function rowsDigest(splits: readonly (readonly TrainingRow[])[]): string {
  const hash = createHash("sha256");
  for (const [index, split] of splits.entries())
    for (const { id, label, ids, types } of split)
      hash.update(`${JSON.stringify([index, id, label, [...ids], [...(types ?? [])]])}\n`);
  return hash.digest("hex").slice(0, 16);
}

/** What a JSON value is. */
export function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);
}

/** @file `bench glue`: trains and compares methods on every task, and leaves a table, a report and `results.json`. */
import { availableParallelism } from "node:os";
import { createEngine } from "@cee/engine";
import type { LoadedTask } from "../data/task.js";
import { BenchError } from "../errors.js";
import type { Failure } from "../results.js";
import { rateFactor } from "./backbone.js";
import { CELL_VERSION, openCells } from "./cells.js";
import { type ChosenMethods, chooseMethods } from "./choose-methods.js";
import { type Companion, type CompanionHooks, runBeside } from "./companion.js";
import { measureRow, stepsOf } from "./estimate.js";
import { type LoadedData, loadTasks } from "./load.js";
import { type GlueOptions, MINI } from "./options.js";
import { type GlueOutcome, resultsOf, writeOutput } from "./output.js";
import { createProgressLine, duration, type ProgressLine } from "./progress.js";
import { openRunFolder, type RunFolder, type RunSettings } from "./run-folder.js";
import { checkStop } from "./stop.js";
import {
  type Collected,
  type Exclusively,
  emptyCollection,
  type PreparedRun,
  prepareRun,
  type Run,
  runTask,
  unitsOf,
  unitsPerRow,
} from "./task-run.js";
import { runInWorkers } from "./workers.js";

export interface GlueHooks {
  /** @default a line on standard error */
  readonly progress?: ProgressLine;
  /** Stops after the step in progress, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Once, with what is about to run. */
  readonly onStart?: (run: Run, data: LoadedData) => void;
  /** What else is done with each task and seed. */
  readonly companion?: Companion;
  /** Runs something while no other worker does. @default at once */
  readonly exclusively?: Exclusively;
  /** Plugins have been tried before. @default false */
  readonly isVetted?: boolean;
  /** Told each method that is about to be trained or run. */
  readonly onMethod?: (name: string) => void;
  /** Methods to leave out as failed, and what to say of each. @default none */
  readonly deadly?: Readonly<Record<string, string>>;
}

const DEFAULTS = {
  embedded: { backbone: "fresh:12x64", maxLength: 64 },
  // Every task, and often every method: half the layers keep that under a quarter of an hour.
  everyTask: { backbone: "fresh:6x64", maxLength: 64 },
  real: { backbone: MINI, maxLength: 128 },
} as const;

/**
 * Runs the whole benchmark. Each finished cell is on disk before the next one starts, so that a run can be stopped
 * at any moment and gone on with; a cell that fails leaves the others alone.
 * @throws BenchError `STOPPED` when the signal asked for it; what loading data, backbone and strategies gives
 */
export async function runGlue(options: GlueOptions, hooks: GlueHooks = {}): Promise<GlueOutcome> {
  return withRun(options, hooks, async (run, data) => {
    const { progress, engine } = run;
    checkSupport(run.chosen, data.tasks);
    const beside = run.workers > 1 ? `; ${run.workers} workers side by side` : "";
    progress.print(`Runtime: ${engine.description}${beside}`);
    progress.print(
      `Backbone: ${run.backbone}; preset ${options.preset}; seeds ${options.seeds.join(", ")}`,
    );
    if (options.dryRun) return dryRun(run, data);
    hooks.onStart?.(run, data);
    return runAll(run, data, hooks);
  });
}

/** What a worker runs: one task with one seed, in a run folder that is there. */
export async function runPair(
  options: GlueOptions,
  seed: number,
  hooks: Omit<GlueHooks, "companion">,
  companion?: CompanionHooks,
): Promise<Collected> {
  return withRun(options, hooks, async (run, data) => {
    const collected = emptyCollection();
    const prepared = await prepareRun(run, data.tasks[0] as LoadedTask, seed);
    try {
      const { progress } = run;
      const log = (line: string) => progress.print(line);
      const folder = await openRunFolder(options.out, settingsOf(run, data), { resume: true, log });
      progress.plan(unitsOf(prepared));
      await runBeside(companion, prepared, collected, run, () =>
        runTask(run, prepared, folder, collected, 0),
      );
    } finally {
      await prepared.dispose();
    }
    return collected;
  });
}

async function withRun<T>(
  options: GlueOptions,
  hooks: GlueHooks,
  use: (run: Run, data: LoadedData) => Promise<T>,
): Promise<T> {
  const { progress = createProgressLine(), signal, exclusively = (run) => run() } = hooks;
  const embedded = options.allTasks === true ? "everyTask" : "embedded";
  const defaults = DEFAULTS[options.data === "embedded" ? embedded : "real"];
  if (options.strategies.length > 0) progress.update("trying the plugins");
  const chosen = await chooseMethods(options, { signal, isVetted: hooks.isVetted === true });
  for (const { problem } of chosen.refused) progress.print(`${problem} It is left out.`);
  const data = await loadTasks(options, progress);
  const { runtime } = options;
  const { workers, threads } = shareOut(options, pairsOf(data, options).length);
  const engine = await createEngine({
    threads,
    ...(runtime === undefined ? {} : { runtime }),
  });
  const run: Run = {
    options,
    backbone: options.backbone ?? defaults.backbone,
    maxLength: options.maxLength ?? defaults.maxLength,
    rate: options.rate ?? rateFactor(options.backbone ?? defaults.backbone),
    chosen,
    engine,
    progress,
    signal,
    exclusively,
    onMethod: hooks.onMethod ?? (() => undefined),
    deadly: hooks.deadly ?? {},
    workers,
    cells: options.cells === undefined ? undefined : openCells(options.cells),
  };
  try {
    return await use(run, data);
  } finally {
    progress.stop();
    await engine.dispose();
  }
}

async function runAll(run: Run, data: LoadedData, hooks: GlueHooks): Promise<GlueOutcome> {
  const { options, progress, workers } = run;
  const pairs = pairsOf(data, options);
  // Before the folder is touched: a backbone that can't be used should not move an older run aside.
  // A worker says once more what there is to say about the rows.
  const quiet = { ...progress, print: () => undefined };
  const first = await prepareRun(
    workers > 1 ? { ...run, progress: quiet } : run,
    data.tasks[0] as LoadedTask,
    options.seeds[0] as number,
  );
  let folder: RunFolder;
  try {
    folder = await openRunFolder(options.out, settingsOf(run, data), {
      resume: options.resume,
      log: (line) => progress.print(line),
    });
  } catch (cause) {
    await first.dispose();
    throw cause;
  }
  const collected =
    workers > 1
      ? await sideBySide(run, pairs, first, hooks.companion?.module)
      : await oneAfterAnother(run, pairs, folder, first, hooks.companion?.hooks);
  collected.failures.unshift(...refusals(run, pairs));
  progress.stop();
  return writeOutput(run, data, collected);
}

interface TaskSeed {
  readonly task: LoadedTask;
  readonly seed: number;
}

function pairsOf({ tasks }: LoadedData, { seeds }: GlueOptions): TaskSeed[] {
  return tasks.flatMap((task) => seeds.map((seed) => ({ task, seed })));
}

/** A plugin that can't take part has failed everywhere. */
function refusals({ chosen }: Run, pairs: readonly TaskSeed[]): Failure[] {
  return pairs.flatMap(({ task, seed }) =>
    chosen.refused.map(({ name, problem }) => ({
      task: task.task.name,
      method: name,
      seed,
      message: problem,
    })),
  );
}

/** In this process. */
async function oneAfterAnother(
  run: Run,
  pairs: readonly TaskSeed[],
  folder: RunFolder,
  first: PreparedRun,
  companion: CompanionHooks | undefined,
): Promise<Collected> {
  const { progress, signal } = run;
  const collected = emptyCollection();
  let next: PreparedRun | undefined = first;
  try {
    // What the tasks to come will take is known when they are prepared; until then, as much per row as the first.
    const perSize = unitsOf(next) / sizeOf(next.task);
    const guesses = pairs.map(({ task }) => perSize * sizeOf(task));
    progress.plan(guesses.reduce((sum, units) => sum + units, 0));
    let before = 0;
    for (const [index, { task, seed }] of pairs.entries()) {
      checkStop(signal);
      next ??= await prepareRun(run, task, seed);
      const units = unitsOf(next);
      progress.plan(units - (guesses[index] as number));
      const started = performance.now();
      const prepared = next;
      await runBeside(companion, prepared, collected, run, () =>
        runTask(run, prepared, folder, collected, before),
      );
      before += units;
      progress.settle(before);
      await next.dispose();
      next = undefined;
      const seconds = (performance.now() - started) / 1000;
      progress.print(
        `${task.task.name} · seed ${seed} done in ${duration(seconds)} (${index + 1} of ${pairs.length})`,
      );
    }
  } finally {
    await next?.dispose();
  }
  return collected;
}

/** In processes of their own, which find everything prepared. */
async function sideBySide(
  { options, progress, signal, chosen, workers, engine }: Run,
  pairs: readonly TaskSeed[],
  first: PreparedRun,
  companion: string | undefined,
): Promise<Collected> {
  await first.dispose();
  const refused = new Set(chosen.refused.map(({ specifier }) => specifier));
  const strategies = options.strategies.filter((specifier) => !refused.has(specifier));
  const found = await runInWorkers({
    options: { ...options, strategies },
    pairs: pairs.map(({ task, seed }) => ({ task: task.task.name, seed, size: sizeOf(task) })),
    methods: chosen.methods.map(({ name }) => name),
    workers,
    threads: engine.threads,
    companion,
    progress,
    signal,
    onDone: ({ task, seed }, finished) =>
      progress.print(`${task} · seed ${seed} done (${finished} of ${pairs.length})`),
  });
  const collected = emptyCollection();
  for (const { rows, failures, leftOut, answers, taken, beside } of found) {
    collected.rows.push(...rows);
    collected.failures.push(...failures);
    collected.leftOut.push(...leftOut);
    collected.answers.push(...answers);
    collected.taken.push(...taken);
    collected.beside.push(...beside);
  }
  return collected;
}

/** How many processes share the pairs, and how many threads each has. */
function shareOut({ data, workers, threads }: GlueOptions, pairs: number) {
  const processors = availableParallelism();
  // A larger encoder keeps several threads busy by itself, and takes gigabytes.
  const wanted =
    workers ?? (data === "embedded" ? Math.max(1, Math.floor(processors / (threads ?? 1))) : 1);
  const count = Math.min(wanted, pairs);
  return { workers: count, threads: threads ?? Math.max(1, Math.floor(processors / count)) };
}

/** Characters to train on. */
function sizeOf(task: LoadedTask): number {
  return Math.max(1, unitsPerRow(task) * task.splits.train.length);
}

function settingsOf(
  { options, backbone, maxLength, rate }: Run,
  { source }: LoadedData,
): RunSettings {
  const { preset, epochs, limit, devLimit, head } = options;
  return {
    version: CELL_VERSION,
    data: source,
    backbone,
    preset,
    epochs: epochs ?? null,
    rate,
    limit: limit ?? null,
    "dev-limit": devLimit ?? null,
    "max-length": maxLength,
    ...(head === undefined ? {} : { head }),
  };
}

/** A method that was asked for by name and can do none of the tasks is an error, not a gap. */
function checkSupport({ methods, named }: ChosenMethods, tasks: readonly LoadedTask[]): void {
  for (const method of methods) {
    if (!named.has(method.name)) continue;
    const reasons = tasks.map(({ task }) =>
      method.unsupported(task.regression ? "regression" : "classification"),
    );
    if (!reasons.every((reason) => reason !== undefined)) continue;
    const names = tasks.map(({ task }) => task.name).join(", ");
    throw new BenchError(
      "UNKNOWN_METHOD",
      "--methods",
      `${method.name} can't run on ${names}: ${reasons[0]}. Leave it out or choose other --tasks.`,
    );
  }
}

/** Lists every training with its predicted time instead of running it. */
async function dryRun(run: Run, data: LoadedData): Promise<GlueOutcome> {
  const { options, engine } = run;
  const lines = [
    "| task | training | phases | steps | predicted |",
    "| --- | --- | --- | ---: | ---: |",
  ];
  let total = 0;
  for (const task of data.tasks) {
    checkStop(run.signal);
    const prepared = await prepareRun(run, task, options.seeds[0] as number);
    const { model, encoder, bench, trainings } = prepared;
    try {
      const secondsPerRow = await measureRow(engine, model, encoder.params, bench);
      for (const { spec, phases, rows } of trainings) {
        const seconds = rows * secondsPerRow;
        total += seconds;
        const names = phases.map((phase) => phase.name).join(", ") || "unknown";
        lines.push(
          `| ${task.task.name} | ${spec.label} | ${names} | ${stepsOf(phases, bench.train.length)} | ${duration(seconds)} |`,
        );
      }
    } finally {
      await prepared.dispose();
    }
  }
  const seeds = options.seeds.length;
  const beside = run.workers > 1 ? `, ${run.workers} workers side by side` : "";
  lines.push(
    "",
    `Predicted training time: ${duration((total * seeds) / run.workers)} (${seeds} seed${seeds === 1 ? "" : "s"}${beside}), from a step measured just now; recording and timing come on top. Nothing was written.`,
  );
  const nothing = emptyCollection();
  return {
    results: resultsOf(run, data, nothing),
    table: lines.join("\n"),
    failures: [],
    files: [],
    beside: [],
  };
}

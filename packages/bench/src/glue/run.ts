/** @file `bench glue`: trains and compares methods on every task, and leaves a table, a report and `results.json`. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import path from "node:path";
import { createEngine, type Engine, type EngineOptions } from "@cee/engine";
import type { LoadedTask } from "../data/task.js";
import { BenchError } from "../errors.js";
import { full } from "../methods/full.js";
import type { CurvePoint, Method } from "../methods/method.js";
import { methods as builtIn } from "../methods/registry.js";
import { createWorkbench } from "../methods/workbench.js";
import { writeReport } from "../report/report.js";
import { type ResultRow, type Results, writeFileWhole, writeResults } from "../results.js";
import { toMarkdown } from "../table/table.js";
import { tableThree } from "../table/table-three.js";
import { prepareBackbone } from "./backbone.js";
import { measureRow, phasesOf, rowsOf, trainingsOf } from "./estimate.js";
import { evaluate } from "./evaluate.js";
import { loadTasks } from "./load.js";
import { chooseNames, type GlueOptions } from "./options.js";
import { prepareRows } from "./prepare.js";
import { createProgressLine, duration, type ProgressLine } from "./progress.js";

export interface GlueOutcome {
  readonly results: Results;
  /** The table as Markdown. */
  readonly table: string;
  readonly failures: readonly Failure[];
}

/** A cell of the table that could not be filled. */
export interface Failure {
  readonly task: string;
  readonly method: string;
  readonly seed: number;
  readonly message: string;
}

const DEFAULT_BACKBONE = { embedded: "fresh:12x64", real: "fresh:12x128" } as const;
const DEFAULT_LENGTH = { embedded: 64, real: 128 } as const;

/** Runs the whole benchmark. Each finished cell is on disk before the next one starts. */
export async function runGlue(
  options: GlueOptions,
  progress: ProgressLine = createProgressLine(),
): Promise<GlueOutcome> {
  const isEmbedded = options.data === "embedded";
  const backbone = options.backbone ?? DEFAULT_BACKBONE[isEmbedded ? "embedded" : "real"];
  const maxLength = options.maxLength ?? DEFAULT_LENGTH[isEmbedded ? "embedded" : "real"];
  const methods = chooseMethods(options);
  const cacheDir = path.join(".cache", "hub");
  const data = await loadTasks(options, cacheDir, (line) => progress.print(line));
  if (!options.dryRun) prepareFolder(options, progress);
  const engine = await createEngine({
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.runtime === undefined
      ? {}
      : { runtime: options.runtime as NonNullable<EngineOptions["runtime"]> }),
  });
  progress.print(`Runtime: ${engine.description}`);
  progress.print(
    `Backbone: ${backbone}; preset ${options.preset}; seeds ${options.seeds.join(", ")}`,
  );
  const run: Run = { options, backbone, maxLength, methods, engine, progress, cacheDir };
  try {
    if (options.dryRun) return await dryRun(run, data.tasks);
    const rows: ResultRow[] = [];
    const failures: Failure[] = [];
    for (const task of data.tasks)
      for (const seed of options.seeds) await runTask(run, task, seed, rows, failures);
    progress.stop();
    const results = resultsOf(run, data.source, rows, data.tasks);
    await writeResults(path.join(options.out, "results.json"), results);
    await writeReport(results, path.join(options.out, "report.html"));
    const table = tableOf(results, methods);
    await writeFileWhole(path.join(options.out, "table.md"), `${table}\n`);
    return { results, table, failures };
  } finally {
    progress.stop();
    await engine.dispose();
  }
}

interface Run {
  readonly options: GlueOptions;
  readonly backbone: string;
  readonly maxLength: number;
  readonly methods: readonly Method[];
  readonly engine: Engine;
  readonly progress: ProgressLine;
  readonly cacheDir: string;
}

function chooseMethods({ methods }: GlueOptions): readonly Method[] {
  const names = chooseNames(
    methods,
    builtIn.map((method) => method.name),
    "UNKNOWN_METHOD",
    "--methods",
  );
  // The full-depth model is what every other one is measured against.
  return builtIn.filter((method) => method === full || names.includes(method.name));
}

/** Keeps what an earlier run left, unless it is to be resumed. */
function prepareFolder({ out, resume }: GlueOptions, progress: ProgressLine): void {
  if (resume || !existsSync(out) || readdirSync(out).length === 0) return;
  const isFinished = existsSync(path.join(out, "results.json"));
  const isRun =
    isFinished || existsSync(path.join(out, "trainings")) || existsSync(path.join(out, "cells"));
  if (!isRun)
    throw new BenchError(
      "RUN_MISMATCH",
      "--out",
      `${out} holds something else than a run of this benchmark. Name another folder.`,
    );
  const kept = `${out}.previous`;
  rmSync(kept, { recursive: true, force: true });
  renameSync(out, kept);
  progress.print(
    isFinished
      ? `The last results are kept in ${kept}.`
      : `An unfinished run is kept in ${kept}; --resume would have gone on with it.`,
  );
}

/** One task and seed: all methods, each cell saved when it is done. */
async function runTask(
  run: Run,
  task: LoadedTask,
  seed: number,
  rows: ResultRow[],
  failures: Failure[],
): Promise<void> {
  const { options, progress, methods } = run;
  const prepared = await prepare(run, task, seed);
  const { bench, encoded, identity } = prepared;
  try {
    const done = new Map<Method, ResultRow[]>();
    if (options.resume)
      for (const method of methods) {
        const cell = readCell(cellFile(options.out, task, method, seed), identity);
        if (cell) done.set(method, cell);
      }
    const open = methods.filter((method) => !done.has(method));
    for (const spec of trainingsOf(open, bench))
      for (const phase of phasesOf(spec)) progress.plan(rowsOf(phase, bench.train.length));
    let reference: CurvePoint | undefined;
    for (const method of methods) {
      const cell = done.get(method);
      if (cell) {
        rows.push(...cell);
        continue;
      }
      const reason = method.unsupported(bench.task);
      if (reason) {
        progress.print(`${task.task.name}: ${reason}; left out.`);
        continue;
      }
      try {
        reference ??= (await full.run(bench))[0] as CurvePoint;
        const points = method === full ? [reference] : await method.run(bench);
        const made = await evaluate({
          task: task.task,
          method,
          seed,
          depth: bench.shape.depth,
          dev: task.splits.dev,
          encoded,
          padId: prepared.padId,
          full: reference,
          points,
        });
        await writeFileWhole(
          cellFile(options.out, task, method, seed),
          `${JSON.stringify({ identity, rows: made })}\n`,
        );
        rows.push(...made);
        const ill = points.reduce((sum, point) => sum + point.nonFinite, 0);
        if (ill > 0)
          progress.print(
            `${task.task.name} · ${method.name}: ${ill} observations were not finite and let no row exit.`,
          );
      } catch (cause) {
        const message = cause instanceof Error ? cause.message : String(cause);
        failures.push({ task: task.task.name, method: method.name, seed, message });
        progress.print(`${task.task.name} · ${method.name} · seed ${seed} failed: ${message}`);
        // Nothing can be measured against a full-depth model that did not train.
        if (method === full) break;
      }
    }
  } finally {
    await bench.dispose();
  }
}

async function prepare(run: Run, task: LoadedTask, seed: number) {
  const { options, backbone, maxLength, engine, progress, cacheDir } = run;
  const encoder = await prepareBackbone({
    spec: backbone,
    task,
    seed,
    maxLength,
    hubUrl: options.hubUrl,
    cacheDir,
    log: (line) => progress.print(line),
  });
  const rows = prepareRows(task, encoder, { seed, maxLength });
  if (rows.truncated > 0.01)
    progress.print(
      `${task.task.name}: ${Math.round(rows.truncated * 100)} % of the dev rows were cut to ${Math.min(maxLength, encoder.config.maxPositions)} tokens.`,
    );
  const model = { config: encoder.config, shape: encoder.shape, head: encoder.head };
  const identity = digest({
    backbone,
    config: encoder.config,
    maxLength,
    preset: options.preset,
    epochs: options.epochs ?? null,
    train: rows.train.map((row) => [row.id, row.label, [...row.ids]]),
    validation: rows.validation.map((row) => [row.id, row.label]),
    dev: rows.dev.map((row) => [row.id, row.label, [...row.ids]]),
  });
  const unitsByPhase = new Map<string, number>();
  const bench = createWorkbench({
    engine,
    model,
    params: encoder.params,
    taskName: task.task.name,
    seed,
    preset: options.preset,
    epochs: options.epochs,
    train: rows.train,
    validation: rows.validation,
    dev: rows.dev,
    identity: { data: identity },
    out: options.out,
    progress,
    unitsPerStep: (phase) => unitsByPhase.get(phase) ?? 32,
  });
  for (const method of run.methods)
    if (!method.unsupported(bench.task))
      for (const spec of method.trainings(bench))
        for (const phase of phasesOf(spec)) {
          const steps = Math.ceil(rows.train.length / phase.batchSize) * phase.epochs;
          unitsByPhase.set(phase.name, rowsOf(phase, rows.train.length) / steps);
        }
  return { bench, encoder, model, encoded: rows.dev, padId: encoder.config.padTokenId, identity };
}

function cellFile(out: string, task: LoadedTask, method: Method, seed: number): string {
  return path.join(out, "cells", `${task.task.name}.${method.name}.${seed}.json`);
}

/** A finished cell; one of other data or options counts as not done. */
function readCell(file: string, identity: string): ResultRow[] | undefined {
  if (!existsSync(file)) return undefined;
  try {
    const cell = JSON.parse(readFileSync(file, "utf8")) as { identity: string; rows: ResultRow[] };
    if (cell.identity === identity) return cell.rows;
  } catch (cause) {
    throw new BenchError(
      "BAD_RESULTS",
      file,
      `is damaged (${(cause as Error).message}). Delete it; its cell will run again.`,
      { cause },
    );
  }
  throw new BenchError(
    "RUN_MISMATCH",
    file,
    "belongs to a run with other data, backbone or options. Resume with the same command, or choose another --out.",
  );
}

/** Lists every training with its predicted time instead of running it. */
async function dryRun(run: Run, tasks: readonly LoadedTask[]): Promise<GlueOutcome> {
  const lines = [
    "| task | training | phases | steps | predicted |",
    "| --- | --- | --- | ---: | ---: |",
  ];
  let total = 0;
  for (const task of tasks) {
    const { bench, model, encoder } = await prepare(run, task, run.options.seeds[0] as number);
    const secondsPerRow = await measureRow(run.engine, model, encoder.params, bench);
    for (const spec of trainingsOf(run.methods, bench)) {
      const phases = phasesOf(spec);
      const steps = phases.reduce(
        (sum, phase) => sum + Math.ceil(bench.train.length / phase.batchSize) * phase.epochs,
        0,
      );
      const seconds =
        phases.reduce((sum, phase) => sum + rowsOf(phase, bench.train.length), 0) * secondsPerRow;
      total += seconds;
      lines.push(
        `| ${task.task.name} | ${spec.label} | ${phases.map((phase) => phase.name).join(", ")} | ${steps} | ${duration(seconds)} |`,
      );
    }
    await bench.dispose();
  }
  const seeds = run.options.seeds.length;
  lines.push(
    "",
    `Predicted training time: ${duration(total * seeds)} (${seeds} seed${seeds === 1 ? "" : "s"}), from a step measured just now; recording and timing come on top. Nothing was written.`,
  );
  return { results: resultsOf(run, "embedded", [], tasks), table: lines.join("\n"), failures: [] };
}

function resultsOf(
  run: Run,
  source: Results["data"]["source"],
  rows: readonly ResultRow[],
  tasks: readonly LoadedTask[],
): Results {
  const { options, backbone, engine } = run;
  return {
    schema: 1,
    command: options.command,
    preset: options.preset,
    backbone,
    data: {
      source,
      tasks: Object.fromEntries(
        tasks.map(({ task, splits }) => [
          task.name,
          { train: splits.train.length, dev: splits.dev.length },
        ]),
      ),
    },
    rows,
    versions: { node: process.versions.node, runtime: engine.runtime },
    machine: {
      processor: cpus()[0]?.model ?? "unknown",
      processors: availableParallelism(),
      threads: engine.threads,
    },
  };
}

function tableOf(results: Results, methods: readonly Method[]): string {
  return toMarkdown(tableThree(results.rows, { methods: methods.map((method) => method.name) }));
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);
}

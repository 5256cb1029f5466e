/** @file What a run leaves: `results.json`, the report and the table, made from finished cells. */
import path from "node:path";
import { writePresentation } from "../export/presentation.js";
import { compareAll } from "../protocol/comparisons.js";
import { matchedFields } from "../protocol/matched.js";
import { type Comparison, type Failure, type Results, writeResults } from "../results.js";
import { describeData, type LoadedData } from "./load.js";
import { type GlueOptions, maskDataFolder } from "./options.js";
import type { Collected, Run } from "./task-run.js";
import { machineOf, versionsOf } from "./versions.js";

/** What a benchmark of methods leaves. */
export interface BenchOutcome {
  readonly results: Results;
  /** The table as Markdown. */
  readonly table: string;
  readonly failures: readonly Failure[];
  /** What was written. */
  readonly files: readonly string[];
}

export interface GlueOutcome extends BenchOutcome {
  /** What the run's companion returned, task by task. */
  readonly beside: readonly unknown[];
}

/** Writes everything whole or not at all. @throws BenchError `WRITE_FAILED` */
export async function writeOutput(
  run: Run,
  data: LoadedData,
  collected: Collected,
): Promise<GlueOutcome> {
  const { out } = run.options;
  const results = resultsOf(run, data, collected);
  const resultsFile = path.join(out, "results.json");
  await writeResults(resultsFile, results);
  const { table, files, notes } = await writePresentation(out, results);
  for (const note of notes) run.progress.print(note);
  const { failures, beside } = collected;
  return { results, table, failures, files: [resultsFile, ...files], beside };
}

export function resultsOf(run: Run, data: LoadedData, collected: Collected): Results {
  const { options, backbone, chosen, engine, maxLength } = run;
  const { failures, leftOut, taken } = collected;
  const inputs = collected.answers.flatMap((cell) => cell.inputs);
  return {
    schema: 1,
    command: options.command,
    preset: options.preset,
    backbone,
    ...(options.head === undefined ? {} : { head: options.head }),
    data: {
      source: data.source,
      ...(data.source === "folder" ? { folder: maskFolder(options) } : {}),
      maxLength,
      tasks: Object.fromEntries(data.tasks.map((task) => [task.task.name, describeData(task)])),
    },
    rows: collected.rows,
    titles: {
      tasks: Object.fromEntries(data.tasks.map(({ task }) => [task.name, task.title])),
      methods: Object.fromEntries(chosen.methods.map(({ name, title }) => [name, title])),
    },
    versions: versionsOf(engine),
    machine: machineOf(engine),
    ...(failures.length > 0 ? { failures } : {}),
    ...(leftOut.length > 0 ? { leftOut } : {}),
    comparisons: comparisonsOf(run, data, collected),
    matched: matchedFields(collected.rows),
    ...(inputs.length > 0 ? { inputs } : {}),
    ...(taken.length > 0 ? { taken } : {}),
  };
}

/** Every pair of methods whose answers are at hand, per task, seed, split and operating point. */
function comparisonsOf(
  { options, chosen }: Run,
  { tasks }: LoadedData,
  { answers }: Collected,
): Comparison[] {
  const order = chosen.methods.map(({ name }) => name);
  const found: Comparison[] = [];
  for (const { task } of tasks)
    for (const seed of options.seeds) {
      const cells = answers
        .filter((cell) => cell.task === task.name && cell.seed === seed)
        .sort((a, b) => order.indexOf(a.method) - order.indexOf(b.method));
      for (const split of new Set(cells.flatMap((cell) => cell.splits.map((one) => one.split))))
        for (const operatingPoint of ["no-loss", "one-percent"] as const) {
          const known = cells.flatMap(({ method, splits }) => {
            const own = splits.find((one) => one.split === split);
            const point = own?.points[operatingPoint];
            return own && point ? [{ method, labels: own.labels, ...point }] : [];
          });
          const labels = known[0]?.labels;
          if (!labels) continue;
          const where = { task: task.name, split, seed, operatingPoint, metric: task.metric };
          found.push(...compareAll(known, { ...where, labels }));
        }
    }
  return found;
}

function maskFolder({ data }: GlueOptions): string {
  return maskDataFolder(data, process.env.CEE_DATA_DIR);
}

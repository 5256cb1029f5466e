/** @file What a run leaves: `results.json`, the report and the table, made from finished cells. */
import path from "node:path";
import type { LoadedTask } from "../data/task.js";
import { compareAll } from "../protocol/comparisons.js";
import { matchedFields } from "../protocol/matched.js";
import { writeReport } from "../report/report.js";
import {
  type Comparison,
  type Failure,
  type Results,
  writeFileWhole,
  writeResults,
} from "../results.js";
import { statisticsTables } from "../table/statistics-tables.js";
import { toMarkdown } from "../table/table.js";
import { tableThree } from "../table/table-three.js";
import { describeData, type LoadedData } from "./load.js";
import { type GlueOptions, maskDataFolder } from "./options.js";
import type { Collected, Run } from "./task-run.js";
import { machineOf, versionsOf } from "./versions.js";

export interface GlueOutcome {
  readonly results: Results;
  /** The table as Markdown. */
  readonly table: string;
  readonly failures: readonly Failure[];
  /** What was written. */
  readonly files: readonly string[];
}

/** Writes everything whole or not at all. @throws BenchError `WRITE_FAILED` */
export async function writeOutput(
  run: Run,
  data: LoadedData,
  collected: Collected,
): Promise<GlueOutcome> {
  const { out } = run.options;
  const results = resultsOf(run, data, collected);
  const names = ["results.json", "report.html", "table.md", "statistics.md"];
  const files = names.map((name) => path.join(out, name));
  const [resultsFile, reportFile, tableFile, statisticsFile] = files as [
    string,
    string,
    string,
    string,
  ];
  const table = tableOf(run, data.tasks, results);
  await writeResults(resultsFile, results);
  await writeReport(results, reportFile, titlesOf(run, data.tasks));
  await writeFileWhole(tableFile, `${table}\n`);
  const statistics = statisticsTables(results, titlesOf(run, data.tasks));
  await writeFileWhole(statisticsFile, `${statistics.map(toMarkdown).join("\n")}`);
  return { results, table, failures: collected.failures, files };
}

export function resultsOf(run: Run, data: LoadedData, collected: Collected): Results {
  const { options, backbone, engine, maxLength } = run;
  const { failures, leftOut, taken } = collected;
  const inputs = collected.answers.flatMap((cell) => cell.inputs);
  return {
    schema: 1,
    command: options.command,
    preset: options.preset,
    backbone,
    data: {
      source: data.source,
      ...(data.source === "folder" ? { folder: maskFolder(options) } : {}),
      maxLength,
      tasks: Object.fromEntries(data.tasks.map((task) => [task.task.name, describeData(task)])),
    },
    rows: collected.rows,
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

function titlesOf({ chosen }: Run, tasks: readonly LoadedTask[]) {
  return {
    methods: chosen.methods.map((method) => method.name),
    tasks: tasks.map(({ task }) => task.name),
    methodTitles: Object.fromEntries(chosen.methods.map(({ name, title }) => [name, title])),
    taskTitles: Object.fromEntries(tasks.map(({ task }) => [task.name, task.title])),
  };
}

function tableOf(run: Run, tasks: readonly LoadedTask[], results: Results): string {
  const titles = titlesOf(run, tasks);
  const { failures = [], leftOut = [] } = results;
  // A method that has no row at all is not a row of dashes but a line below.
  const methods = titles.methods.filter((name) => results.rows.some((row) => row.method === name));
  const notes = [
    ...failures.map(
      ({ task, method, seed, message }) => `FAILED ${task}, ${method}, seed ${seed}: ${message}`,
    ),
    ...[...new Set(leftOut.map(({ task, reason }) => `${task}: ${reason}.`))],
  ];
  const parts: string[] = [];
  for (const split of ["dev", "dev-mismatched"]) {
    const present = tasks.filter(({ task }) =>
      results.rows.some((row) => row.task === task.name && row.split === split),
    );
    if (present.length === 0) continue;
    const table = tableThree(results.rows, {
      ...titles,
      methods,
      tasks: present.map(({ task }) => task.name),
      split,
    });
    parts.push(`${split === "dev" ? "" : `Split ${split}:\n\n`}${toMarkdown(table).trimEnd()}`);
  }
  return [...parts, ...(notes.length > 0 ? [notes.join("\n")] : [])].join("\n\n");
}

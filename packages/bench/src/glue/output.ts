/** @file What a run leaves: `results.json`, the report and the table, made from finished cells. */
import path from "node:path";
import type { LoadedTask } from "../data/task.js";
import { writeReport } from "../report/report.js";
import { type Failure, type Results, writeFileWhole, writeResults } from "../results.js";
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
  const files = ["results.json", "report.html", "table.md"].map((name) => path.join(out, name));
  const [resultsFile, reportFile, tableFile] = files as [string, string, string];
  const table = tableOf(run, data.tasks, results);
  await writeResults(resultsFile, results);
  await writeReport(results, reportFile, titlesOf(run, data.tasks));
  await writeFileWhole(tableFile, `${table}\n`);
  return { results, table, failures: collected.failures, files };
}

export function resultsOf(run: Run, data: LoadedData, collected: Collected): Results {
  const { options, backbone, engine, maxLength } = run;
  const { failures, leftOut } = collected;
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
  };
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

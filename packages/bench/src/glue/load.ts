/** @file The tasks of a run, from wherever the command line says, and what identifies their rows. */
import { createHash } from "node:crypto";
import { defaultEmbeddedTaskNames, embeddedTaskNames, loadEmbeddedTask } from "../data/embedded.js";
import { describeProblems, listGlueTasks, loadGlueTask } from "../data/glue.js";
import { glueTaskNames } from "../data/glue-tasks.js";
import { loadHubTask } from "../data/hub.js";
import type { DataRow, LoadedTask } from "../data/task.js";
import { BenchError } from "../errors.js";
import { chooseNames, fold, type GlueOptions } from "./options.js";
import type { ProgressLine } from "./progress.js";

export interface LoadedData {
  readonly source: "embedded" | "folder" | "hub";
  readonly tasks: readonly LoadedTask[];
}

/**
 * Loads every task that was asked for.
 * @throws BenchError `UNKNOWN_TASK`, `MISSING_FILE`, `BAD_INPUT` and what loading a task gives
 */
export async function loadTasks(
  options: Pick<
    GlueOptions,
    "data" | "tasks" | "allTasks" | "limit" | "devLimit" | "hubUrl" | "split"
  >,
  progress: ProgressLine,
): Promise<LoadedData> {
  const { data, tasks, limit, devLimit, hubUrl } = options;
  const limits = {
    limit: { train: limit, dev: devLimit },
    seed: 0,
    test: options.split === "test",
  };
  if (data === "embedded") {
    const all = options.allTasks === true ? embeddedTaskNames : defaultEmbeddedTaskNames;
    const wanted = tasks.length === 0 ? all : tasks;
    const names = chooseNames(wanted, embeddedTaskNames, "UNKNOWN_TASK", "--tasks", (name) =>
      glueTaskNames.some((glue) => fold(glue) === fold(name))
        ? "It is a GLUE task: give the folder of its files with --data, or --data hub."
        : "",
    );
    return { source: "embedded", tasks: names.map((name) => loadEmbeddedTask(name, limits)) };
  }
  // Without --tasks, a folder says itself what it holds; a task that was named and is missing is an error.
  const present = data === "hub" || tasks.length > 0 ? glueTaskNames : await listGlueTasks(data);
  const names = chooseNames(tasks, present, "UNKNOWN_TASK", "--tasks", (name) =>
    embeddedTaskNames.includes(name) ? "It is an embedded task: leave --data out." : "",
  );
  if (names.length === 0)
    throw new BenchError(
      "MISSING_FILE",
      data,
      "holds no GLUE task. Expected folders such as RTE or SST-2 with train.tsv and dev.tsv.",
    );
  const loaded: LoadedTask[] = [];
  for (const name of names) {
    progress.update(`loading ${name}`);
    const task =
      data === "hub"
        ? await loadHubTask(name, {
            ...limits,
            hubUrl,
            onProgress: ({ file, received, total }) =>
              progress.update(`downloading ${file}, ${megabytes(received)} of ${megabytes(total)}`),
          })
        : await loadGlueTask(data, name, limits);
    for (const problems of task.problems) progress.print(describeProblems(problems));
    checkRowCounts(task);
    loaded.push(task);
  }
  return { source: data === "hub" ? "hub" : "folder", tasks: loaded };
}

const LEAST_ROWS = 2;

function checkRowCounts({ task, splits }: LoadedTask): void {
  for (const split of ["train", "dev"] as const)
    if (splits[split].length < LEAST_ROWS)
      throw new BenchError(
        "BAD_INPUT",
        task.name,
        `expected at least ${LEAST_ROWS} usable rows in its ${split} file, found ${splits[split].length}.`,
      );
}

/** What `results.json` says of a task's data: counts, and a hash over the labelled rows that were used. */
export function describeData({ splits, problems }: LoadedTask): Record<string, unknown> {
  const counts = Object.fromEntries(
    Object.entries(splits).map(([name, rows]) => [name, (rows as readonly DataRow[]).length]),
  );
  return {
    ...counts,
    malformed: problems.reduce((sum, { count }) => sum + count, 0),
    sha256: hashRows(splits),
  };
}

function hashRows(splits: LoadedTask["splits"]): string {
  const hash = createHash("sha256");
  for (const [name, rows] of Object.entries(splits).filter(([split]) => !split.startsWith("test")))
    for (const { id, text, pair, label } of rows as readonly DataRow[])
      hash.update(`${JSON.stringify([name, id, text, pair ?? null, label])}\n`);
  return hash.digest("hex");
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

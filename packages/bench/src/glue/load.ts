/** @file The tasks of a run, from wherever the command line says. */
import { embeddedTaskNames, loadEmbeddedTask } from "../data/embedded.js";
import { describeProblems, listGlueTasks, loadGlueTask } from "../data/glue.js";
import { glueTaskNames } from "../data/glue-tasks.js";
import { loadHubTask } from "../data/hub.js";
import type { LoadedTask } from "../data/task.js";
import { BenchError } from "../errors.js";
import { chooseNames, type GlueOptions } from "./options.js";

export interface LoadedData {
  readonly source: "embedded" | "folder" | "hub";
  readonly tasks: readonly LoadedTask[];
}

/** Loads every task that was asked for. */
export async function loadTasks(
  options: GlueOptions,
  cacheDir: string,
  log: (line: string) => void,
): Promise<LoadedData> {
  const { data, tasks, limit, devLimit, hubUrl } = options;
  const limits = { limit: { train: limit, dev: devLimit }, seed: 0 };
  if (data === "embedded") {
    const names = chooseNames(tasks, embeddedTaskNames, "UNKNOWN_TASK", "--tasks");
    return { source: "embedded", tasks: names.map((name) => loadEmbeddedTask(name, limits)) };
  }
  // Without --tasks, a folder says itself what it holds; a task that was named and is missing is an error.
  const present = data === "hub" || tasks.length > 0 ? glueTaskNames : await listGlueTasks(data);
  const names = chooseNames(tasks, present, "UNKNOWN_TASK", "--tasks");
  if (names.length === 0)
    throw new BenchError(
      "MISSING_FILE",
      data,
      `holds no GLUE task. Expected folders such as RTE or SST-2 with train.tsv and dev.tsv.`,
    );
  const loaded: LoadedTask[] = [];
  for (const name of names) {
    const task =
      data === "hub"
        ? await loadHubTask(name, {
            ...limits,
            cacheDir,
            ...(hubUrl === undefined ? {} : { hubUrl }),
          })
        : await loadGlueTask(data, name, limits);
    for (const problems of task.problems) log(describeProblems(problems));
    loaded.push(task);
  }
  return { source: data === "hub" ? "hub" : "folder", tasks: loaded };
}

/** @file Loads GLUE tasks from a folder of the official TSV files. Columns are found by their header. */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { BenchError } from "../errors.js";
import { foldTaskName, type GlueTask, glueTask, glueTasks } from "./glue-tasks.js";
import { takeRows } from "./subset.js";
import type { DataRow, FileProblems, LoadedTask, LoadOptions, SplitName, TestRow } from "./task.js";
import { readTsv, type TsvFile } from "./tsv.js";

const PROBLEMS_SHOWN = 5;

/**
 * Loads one task; its folder is found without regard to case and dashes (`SST-2`, `sst2`).
 * @throws BenchError `UNKNOWN_TASK`, `MISSING_FILE`, `BAD_FILE`, `BAD_COLUMN` or `BAD_LABEL`
 */
export async function loadGlueTask(
  folder: string,
  name: string,
  options: LoadOptions = {},
): Promise<LoadedTask> {
  const task = glueTask(name);
  const taskFolder = await findTaskFolder(folder, task);
  const problems: FileProblems[] = [];
  const load = async (split: SplitName, fileName: string, limit: number | undefined) => {
    const tsv = await readTsv(path.join(taskFolder, fileName));
    const { rows, malformed } = toRows(tsv, task, split);
    if (malformed.length > 0) {
      const examples = malformed.slice(0, PROBLEMS_SHOWN);
      problems.push({ file: tsv.file, count: malformed.length, examples });
    }
    return takeRows(rows, limit, options.seed ?? 0, `${task.name}/${split}`);
  };
  const { train, dev, devMismatched } = task.files;
  const splits = {
    train: await load("train", train, options.limit?.train),
    dev: await load("dev", dev, options.limit?.dev),
    ...(options.test ? await loadTest(taskFolder, task, problems) : {}),
  };
  if (devMismatched !== undefined && (await readdir(taskFolder)).includes(devMismatched)) {
    const rows = await load("devMismatched", devMismatched, options.limit?.dev);
    return { task, splits: { ...splits, devMismatched: rows }, problems };
  }
  return { task, splits, problems };
}

/** Every row of the test files, as the server wants an answer to each: an empty sentence is no reason to leave one out. */
async function loadTest(
  folder: string,
  task: GlueTask,
  problems: FileProblems[],
): Promise<Pick<LoadedTask["splits"], "test" | "testMismatched">> {
  const load = async (split: "test" | "testMismatched", fileName: string): Promise<TestRow[]> => {
    const tsv = await readTsv(path.join(folder, fileName));
    if (tsv.malformed.length > 0)
      problems.push({
        file: tsv.file,
        count: tsv.malformed.length,
        examples: tsv.malformed.slice(0, PROBLEMS_SHOWN),
      });
    const text = findColumn(tsv, task.columns.text, task);
    const pair = task.columns.pair ? findColumn(tsv, task.columns.pair, task) : undefined;
    const index = columnOf(tsv, task.columns.index);
    return tsv.rows.map(({ line, fields }, row) => ({
      id: `${split}#${line}`,
      text: fields[text]!.trim(),
      ...(pair === undefined ? {} : { pair: fields[pair]!.trim() }),
      label: Number.NaN,
      index: index === undefined ? String(row) : fields[index]!.trim(),
    }));
  };
  const { test, testMismatched } = task.files;
  return {
    test: await load("test", test),
    ...(testMismatched === undefined
      ? {}
      : { testMismatched: await load("testMismatched", testMismatched) }),
  };
}

/** The tasks that a folder holds, in the order of {@link glueTaskNames}. */
export async function listGlueTasks(folder: string): Promise<string[]> {
  const names = new Set((await readFolder(folder)).map(foldTaskName));
  return glueTasks.filter((task) => names.has(foldTaskName(task.name))).map((task) => task.name);
}

/** One line for a person about the rows that were left out. */
export function describeProblems(problems: FileProblems): string {
  const shown = problems.examples.map(({ line, problem }) => `line ${line}: ${problem}`).join("; ");
  const more = problems.count > problems.examples.length ? "; …" : "";
  const rows = problems.count === 1 ? "1 malformed row" : `${problems.count} malformed rows`;
  return `${problems.file}: left out ${rows} (${shown}${more})`;
}

async function readFolder(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter((entry) => !entry.isFile()).map((entry) => entry.name);
  } catch (cause) {
    const message =
      "the data folder can't be read. Give a folder that holds one folder per task, such as RTE and SST-2.";
    throw new BenchError("MISSING_FILE", folder, message, { cause });
  }
}

async function findTaskFolder(folder: string, task: GlueTask): Promise<string> {
  const folders = await readFolder(folder);
  const wanted = foldTaskName(task.name);
  const found = folders.filter((name) => foldTaskName(name) === wanted);
  if (found.length === 1) return path.join(folder, found[0]!);
  if (found.length > 1) {
    const message = `expected one folder for task ${task.name}, found ${found.join(" and ")}. Keep one.`;
    throw new BenchError("BAD_FILE", folder, message);
  }
  throw new BenchError(
    "MISSING_FILE",
    folder,
    `expected a folder ${task.title} for task ${task.name}, found ${folders.sort().join(", ") || "no folder"}.`,
  );
}

function toRows(
  tsv: TsvFile,
  task: GlueTask,
  split: SplitName,
): { rows: DataRow[]; malformed: { line: number; problem: string }[] } {
  const text = findColumn(tsv, task.columns.text, task);
  const pair = task.columns.pair ? findColumn(tsv, task.columns.pair, task) : undefined;
  const label = findColumn(tsv, task.columns.label, task);
  const index = columnOf(tsv, task.columns.index);

  const rows: DataRow[] = [];
  const malformed = [...tsv.malformed];
  for (const { line, fields } of tsv.rows) {
    const first = fields[text]!.trim();
    const second = pair === undefined ? undefined : fields[pair]!.trim();
    const written = fields[label]!.trim();
    if (first === "" || second === "") {
      malformed.push({ line, problem: "an empty sentence" });
      continue;
    }
    if (written === "-" && !task.regression) {
      malformed.push({ line, problem: "no label that annotators agreed on" });
      continue;
    }
    const parsed = parseLabel(written, task);
    if (parsed === undefined) {
      const expected = task.regression
        ? `a number from ${task.range![0]} to ${task.range![1]}`
        : `one of ${task.fileLabels.join(", ")}`;
      throw new BenchError(
        "BAD_LABEL",
        tsv.file,
        `line ${line}, column ${tsv.header[label]}: expected ${expected}, found "${written.slice(0, 40)}".`,
      );
    }
    const key = index === undefined ? "" : `:${fields[index]!.trim()}`;
    const id = `${split}${key}#${line}`;
    rows.push({
      id,
      text: first,
      ...(second === undefined ? {} : { pair: second }),
      label: parsed,
    });
  }
  malformed.sort((a, b) => a.line - b.line);
  return { rows, malformed };
}

function parseLabel(written: string, task: GlueTask): number | undefined {
  if (!task.regression) {
    const index = task.fileLabels.indexOf(written);
    return index < 0 ? undefined : index;
  }
  const value = written === "" ? Number.NaN : Number(written);
  const [low, high] = task.range!;
  return value >= low && value <= high ? value : undefined;
}

function columnOf(tsv: TsvFile, names: readonly string[]): number | undefined {
  const header = tsv.header.map((name) => name.toLowerCase());
  for (const name of names) {
    const index = header.indexOf(name.toLowerCase());
    if (index >= 0) return index;
  }
  return undefined;
}

function findColumn(tsv: TsvFile, names: readonly string[], task: GlueTask): number {
  const index = columnOf(tsv, names);
  if (index !== undefined) return index;
  throw new BenchError(
    "BAD_COLUMN",
    tsv.file,
    `line 1: expected a column ${names.join(" or ")} for task ${task.name}, found ${tsv.header
      .map((name) => `"${name.slice(0, 40)}"`)
      .join(", ")
      .slice(0, 400)}.`,
  );
}

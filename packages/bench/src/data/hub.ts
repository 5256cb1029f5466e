/** @file Loads GLUE tasks from the parquet files of the `nyu-mll/glue` data set on the Hugging Face hub. */
import { parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { BenchError } from "../errors.js";
import { type GlueTask, glueTask } from "./glue-tasks.js";
import { type HubFile, type HubFilesOptions, type HubFolder, openHubFolder } from "./hub-files.js";
import { openParquet } from "./parquet.js";
import { takeRows } from "./subset.js";
import type { DataRow, FileProblems, LoadedTask, LoadOptions, SplitName, TestRow } from "./task.js";

export interface HubOptions extends LoadOptions, HubFilesOptions {
  /** @default "nyu-mll/glue" */
  readonly repo?: string | undefined;
}

const PROBLEMS_SHOWN = 5;

/**
 * Loads one task from the hub; what was downloaded before is taken from the cache.
 * @throws BenchError `UNKNOWN_TASK`, `DOWNLOAD_FAILED`, `MISSING_FILE`, `BAD_FILE`, `BAD_COLUMN` or `BAD_LABEL`
 */
export async function loadHubTask(name: string, options: HubOptions = {}): Promise<LoadedTask> {
  const task = glueTask(name);
  const { config, splits } = task.hub;
  const repo = options.repo ?? "nyu-mll/glue";
  const folder = await openHubFolder(repo, config, options);
  const problems: FileProblems[] = [];
  const load = async (split: SplitName, hubSplit: string, limit: number | undefined) => {
    const rows: DataRow[] = [];
    for (const shard of findShards(folder, `${repo}/${config}`, config, hubSplit)) {
      const file = await folder.get(shard);
      const found = await readShard(file, task, split, rows.length);
      if (found.problems.count > 0) problems.push(found.problems);
      rows.push(...found.rows);
    }
    return takeRows(rows, limit, options.seed ?? 0, `${task.name}/${split}`);
  };
  const loadTest = async (split: SplitName, hubSplit: string): Promise<TestRow[]> => {
    const rows: TestRow[] = [];
    for (const shard of findShards(folder, `${repo}/${config}`, config, hubSplit))
      rows.push(...(await readTestShard(await folder.get(shard), task, split, rows.length)));
    return rows;
  };
  const loaded = {
    train: await load("train", splits.train, options.limit?.train),
    dev: await load("dev", splits.dev, options.limit?.dev),
    ...(options.test
      ? {
          test: await loadTest("test", splits.test),
          ...(splits.testMismatched === undefined
            ? {}
            : { testMismatched: await loadTest("testMismatched", splits.testMismatched) }),
        }
      : {}),
  };
  if (splits.devMismatched === undefined) return { task, splits: loaded, problems };
  const devMismatched = await load("devMismatched", splits.devMismatched, options.limit?.dev);
  return { task, splits: { ...loaded, devMismatched }, problems };
}

/** The files of one split in order: `<config>/<split>-00000-of-00002.parquet`, … */
function findShards(folder: HubFolder, who: string, config: string, split: string): HubFile[] {
  const shards = new Map<number, HubFile>();
  let expected = 0;
  for (const file of folder.files) {
    const match = /^([\w-]+)\/(\w+)-(\d{5})-of-(\d{5})\.parquet$/.exec(file.path);
    if (!match || match[1] !== config || match[2] !== split) continue;
    shards.set(Number(match[3]), file);
    expected = Number(match[4]);
  }
  const ordered = Array.from({ length: expected }, (_, index) => shards.get(index));
  if (expected > 0 && shards.size === expected && ordered.every((file) => file !== undefined)) {
    return ordered;
  }
  const found = folder.files.map((file) => file.path).join(", ") || "no file";
  throw new BenchError(
    "MISSING_FILE",
    who,
    `expected ${config}/${split}-00000-of-0000N.parquet, complete, found ${found.slice(0, 300)}.`,
  );
}

async function readShard(
  file: string,
  task: GlueTask,
  split: SplitName,
  before: number,
): Promise<{ rows: DataRow[]; problems: FileProblems }> {
  const { text, pair } = task.hub;
  const wanted = [text, ...(pair === undefined ? [] : [pair]), "label"];
  const table = await readTable(file, wanted);
  const rows: DataRow[] = [];
  const examples: { line: number; problem: string }[] = [];
  let count = 0;
  for (const [at, record] of table.entries()) {
    const line = before + at + 1;
    const leaveOut = (problem: string) => {
      count++;
      if (examples.length < PROBLEMS_SHOWN) examples.push({ line, problem });
    };
    const first = record[text];
    const second = pair === undefined ? undefined : record[pair];
    if (typeof first !== "string" || (pair !== undefined && typeof second !== "string")) {
      const message = `row ${line}: expected text in ${wanted.slice(0, -1).join(" and ")}, found ${typeof first}.`;
      throw new BenchError("BAD_FILE", file, message);
    }
    if (first.trim() === "" || (typeof second === "string" && second.trim() === "")) {
      leaveOut("an empty sentence");
      continue;
    }
    const label = typeof record.label === "bigint" ? Number(record.label) : record.label;
    // The hub marks hidden labels, as in test splits, by -1.
    if (label === -1) {
      leaveOut("no label");
      continue;
    }
    checkLabel(label, task, file, line);
    const index = record.idx === undefined || record.idx === null ? "" : `:${record.idx}`;
    rows.push({
      id: `${split}${index}#${line}`,
      text: first.trim(),
      ...(typeof second === "string" ? { pair: second.trim() } : {}),
      label,
    });
  }
  return { rows, problems: { file, count, examples } };
}

/** Every row of a test file: the server wants an answer to each. */
async function readTestShard(
  file: string,
  task: GlueTask,
  split: SplitName,
  before: number,
): Promise<TestRow[]> {
  const { text, pair } = task.hub;
  const table = await readTable(file, [text, ...(pair === undefined ? [] : [pair])]);
  return table.map((record, at) => ({
    id: `${split}#${before + at + 1}`,
    text: String(record[text] ?? "").trim(),
    ...(pair === undefined ? {} : { pair: String(record[pair] ?? "").trim() }),
    label: Number.NaN,
    index: String(record.idx ?? before + at),
  }));
}

function checkLabel(
  label: unknown,
  task: GlueTask,
  file: string,
  line: number,
): asserts label is number {
  const isRight = task.regression
    ? typeof label === "number" && label >= task.range![0] && label <= task.range![1]
    : Number.isInteger(label) && (label as number) >= 0 && (label as number) < task.labels.length;
  if (isRight) return;
  const expected = task.regression
    ? `a number from ${task.range![0]} to ${task.range![1]}`
    : `a class from 0 to ${task.labels.length - 1}`;
  throw new BenchError(
    "BAD_LABEL",
    file,
    `row ${line}, column label: expected ${expected}, found ${String(label)}.`,
  );
}

async function readTable(
  file: string,
  wanted: readonly string[],
): Promise<Record<string, unknown>[]> {
  const { buffer, columns, damaged } = await openParquet(file);
  for (const name of wanted) {
    if (columns.includes(name)) continue;
    const message = `expected a column ${name}, found ${columns.join(", ")}.`;
    throw new BenchError("BAD_COLUMN", file, message);
  }
  const read = columns.includes("idx") ? [...wanted, "idx"] : [...wanted];
  try {
    return await parquetReadObjects({ file: buffer, columns: read, compressors });
  } catch (cause) {
    throw damaged(cause);
  }
}

/** @file A task made of a user's own table: which columns hold texts and labels, and which classes there are. */
import path from "node:path";
import { BenchError, suggestNames } from "../errors.js";
import { shuffledIndices, takeRows } from "./subset.js";
import { readTable, type TableFile, type TableRow } from "./table-file.js";
import type { DataRow, FileProblems, LoadedTask, TaskDefinition } from "./task.js";

/** Columns by what they hold; what is not given is looked for. */
export interface OwnColumns {
  readonly text?: string | undefined;
  readonly pair?: string | undefined;
  readonly label?: string | undefined;
}

/** What the labels are: names in class order, or numbers. */
export type LabelKind = { readonly labels: readonly string[] } | { readonly regression: true };

export interface OwnTaskOptions {
  readonly file: string;
  /** Rows to judge by. @default a tenth of the training rows, drawn by the seed */
  readonly devFile?: string | undefined;
  readonly columns?: OwnColumns;
  /** @default the distinct labels of the training rows, sorted */
  readonly labels?: readonly string[] | undefined;
  readonly regression?: boolean;
  readonly limit?: number | undefined;
  readonly devLimit?: number | undefined;
  readonly seed: number;
}

export interface OwnRows {
  readonly rows: readonly DataRow[];
  readonly columns: OwnColumns;
  readonly problems: FileProblems | undefined;
}

const usual = {
  text: ["text", "sentence", "sentence1", "premise", "question1", "question", "review", "content"],
  pair: ["pair", "sentence2", "hypothesis", "question2", "answer"],
  label: ["label", "labels", "class", "category", "target", "score", "gold_label"],
} as const;

/** Fewer leave nothing to train on, to decide by and to judge by. */
const LEAST_ROWS = 20;
const LARGEST_DEV = 1000;
/** More classes than this among a share of the rows are numbers or names rather than classes. */
const MOST_CLASSES = 1000;
/** A file with more bad rows than this share is taken for a file of another kind. */
const MAX_MALFORMED_SHARE = 0.1;
const PROBLEMS_SHOWN = 5;

/** Reads the training rows, and the rows to judge by. @throws BenchError `MISSING_FILE`, `BAD_FILE`, `BAD_COLUMN`, `BAD_LABEL`, `BAD_OPTION` */
export async function loadOwnTask({
  file,
  devFile,
  columns: wanted = {},
  labels,
  regression = false,
  limit,
  devLimit,
  seed,
}: OwnTaskOptions): Promise<LoadedTask> {
  const table = await readTable(file);
  const columns = findColumns(table, wanted);
  const kind: LabelKind = regression
    ? { regression }
    : { labels: labels ?? classesOf(table, columns.label as string) };
  const own = toRows(table, columns, kind, "train");
  const dev = devFile === undefined ? undefined : await loadOwnRows(devFile, columns, kind, "dev");
  const { train, held } = dev ? { train: own.rows, held: dev.rows } : holdOut(own.rows, seed);
  if (train.length < LEAST_ROWS)
    throw new BenchError(
      "BAD_FILE",
      file,
      `expected at least ${LEAST_ROWS} rows to train on, found ${train.length}. Give it more rows.`,
    );
  return {
    task: definitionOf(path.basename(file), columns, kind),
    splits: {
      train: takeRows(train, limit, seed, "train"),
      dev: takeRows(held, devLimit, seed, "dev"),
    },
    problems: [own.problems, dev?.problems].filter((one) => one !== undefined),
  };
}

/** Reads labelled rows of a kind that is known. @throws BenchError as {@link loadOwnTask} */
export async function loadOwnRows(
  file: string,
  columns: OwnColumns,
  kind: LabelKind,
  split = "rows",
): Promise<OwnRows> {
  const table = await readTable(file);
  return toRows(table, findColumns(table, columns), kind, split);
}

export function definitionOf(title: string, { pair }: OwnColumns, kind: LabelKind): TaskDefinition {
  const isRegression = "regression" in kind;
  const isBinary = !isRegression && kind.labels.length === 2;
  return {
    name: "own",
    title,
    pair: pair !== undefined,
    regression: isRegression,
    labels: isRegression ? [] : kind.labels,
    metric: isRegression ? "spearman" : "accuracy",
    metrics: isRegression
      ? ["spearman", "pearson"]
      : ["accuracy", "balanced-accuracy", ...(isBinary ? (["f1", "mcc"] as const) : [])],
  };
}

function findColumns({ file, columns }: TableFile, wanted: OwnColumns): OwnColumns {
  const find = (part: keyof typeof usual, isNeeded: boolean): string | undefined => {
    const asked = wanted[part];
    if (asked !== undefined) {
      const found = columns.find((name) => same(name, asked));
      if (found !== undefined) return found;
      throw new BenchError(
        "BAD_COLUMN",
        `--${part}`,
        `${file} has no column "${asked}". ${suggestNames(asked, columns)}`,
      );
    }
    const found = usual[part]
      .map((usualName) => columns.find((name) => same(name, usualName)))
      .find((name) => name !== undefined);
    if (found !== undefined || !isNeeded) return found;
    throw new BenchError(
      "BAD_COLUMN",
      file,
      `expected a column called ${usual[part].slice(0, -1).join(", ")} or ${usual[part].at(-1)}, found ${columns.join(", ")}. Name it with --${part}.`,
    );
  };
  return { text: find("text", true), pair: find("pair", false), label: find("label", true) };
}

const same = (a: string, b: string) => a.toLowerCase() === b.toLowerCase();

/** The distinct labels: numbers in their order, names in that of their letters. */
function classesOf({ file, rows }: TableFile, column: string): readonly string[] {
  const found = new Set<string>();
  for (const { values } of rows) {
    const label = labelText(values[column]);
    if (label !== undefined) found.add(label);
  }
  const classes = [...found];
  if (classes.length < 2)
    throw new BenchError(
      "BAD_LABEL",
      file,
      `expected at least two classes in column "${column}", found ${classes.length === 0 ? "none" : `only "${classes[0]}"`}. Is it the right column (--label)?`,
    );
  if (classes.length > MOST_CLASSES || (classes.length > 20 && classes.length > rows.length / 2))
    throw new BenchError(
      "BAD_LABEL",
      file,
      `column "${column}" holds ${classes.length} distinct values in ${rows.length} rows, such as "${classes[0]}". Numbers to predict need --regression; otherwise name the column of the classes with --label.`,
    );
  const areNumbers = classes.every((label) => Number.isFinite(Number(label)));
  return classes.sort(areNumbers ? (a, b) => Number(a) - Number(b) : undefined);
}

function labelText(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  const text = String(value).trim();
  return text === "" ? undefined : text;
}

function toRows(
  { file, rows, malformed }: TableFile,
  columns: OwnColumns,
  kind: LabelKind,
  split: string,
): OwnRows {
  const good: DataRow[] = [];
  const bad: { line: number; problem: string }[] = [...malformed];
  for (const row of rows) {
    const read = readRow(row, columns, kind, split);
    if (typeof read === "string") bad.push({ line: row.line, problem: read });
    else good.push(read);
  }
  bad.sort((a, b) => a.line - b.line);
  const first = bad[0];
  if (first && bad.length > MAX_MALFORMED_SHARE * (good.length + bad.length))
    throw new BenchError(
      "BAD_FILE",
      file,
      `${bad.length} of ${good.length + bad.length} rows can't be used, the first at line ${first.line}: ${first.problem}.`,
    );
  return {
    rows: good,
    columns,
    problems: first && {
      file,
      count: bad.length,
      examples: bad.slice(0, PROBLEMS_SHOWN),
    },
  };
}

/** The row, or what is wrong with it. */
function readRow(
  { line, values }: TableRow,
  columns: OwnColumns,
  kind: LabelKind,
  split: string,
): DataRow | string {
  const texts: string[] = [];
  for (const column of [columns.text as string, ...(columns.pair ? [columns.pair] : [])]) {
    const value = values[column];
    if (typeof value !== "string") return `"${column}" holds ${typeof value}, not text`;
    if (value.trim() === "") return `"${column}" is empty`;
    texts.push(value);
  }
  const [text, pair] = texts as [string, string | undefined];
  const given = labelText(values[columns.label as string]);
  if (given === undefined) return `"${columns.label}" is empty`;
  const label = "regression" in kind ? Number(given) : kind.labels.indexOf(given);
  if ("regression" in kind ? !Number.isFinite(label) : label < 0)
    return "regression" in kind
      ? `the label "${given}" is no number`
      : `the label "${given}" is none of ${kind.labels.slice(0, 10).join(", ")}`;
  return { id: `${split}-${line}`, text, ...(pair === undefined ? {} : { pair }), label };
}

/** A tenth for judging, drawn by the seed. */
function holdOut(rows: readonly DataRow[], seed: number) {
  const count = Math.min(LARGEST_DEV, Math.max(1, Math.floor(rows.length / 10)));
  const held = new Set(shuffledIndices(rows.length, seed, "dev").slice(0, count));
  return {
    train: rows.filter((_, index) => !held.has(index)),
    held: rows.filter((_, index) => held.has(index)),
  };
}

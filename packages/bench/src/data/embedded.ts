/**
 * @file The embedded default: small tasks in GLUE's shape, made by a seeded generator, so that the benchmark runs
 * without a download. Rows are of three kinds of hardness in stated shares; each row's `hardness` says which.
 */
import { createRng, type Rng } from "@cee/engine";
import { BenchError, suggestNames } from "../errors.js";
import * as makers from "./embedded-sentences.js";
import { shuffledIndices, takeRows } from "./subset.js";
import {
  type DataRow,
  type Hardness,
  hardnessLevels,
  type LoadedTask,
  type LoadOptions,
  type TaskDefinition,
  type TestRow,
} from "./task.js";

export interface EmbeddedTask extends TaskDefinition {
  /** The GLUE task whose kind it mirrors. */
  readonly mirrors: string;
  /** How often each class occurs, in parts; for a regression, each target from 0 to 5. */
  readonly balance: readonly number[];
}

export interface EmbeddedOptions extends LoadOptions {
  /** @default 1200 */
  readonly trainRows?: number;
  /** @default 400 */
  readonly devRows?: number;
  /** Of the test split, where it is asked for. @default 200 */
  readonly testRows?: number;
}

/** The share of rows of each hardness. */
export const hardnessShares: Readonly<Record<Hardness, number>> = {
  word: 0.5,
  phrase: 0.3,
  whole: 0.2,
};

const accuracy = { metric: "accuracy", metrics: ["accuracy", "balanced-accuracy"] } as const;

export const embeddedTasks: readonly EmbeddedTask[] = [
  {
    name: "sentiment",
    title: "sentiment",
    mirrors: "sst-2",
    pair: false,
    regression: false,
    labels: ["negative", "positive"],
    balance: [1, 1],
    ...accuracy,
  },
  {
    name: "paraphrase",
    title: "paraphrase",
    mirrors: "mrpc",
    pair: true,
    regression: false,
    labels: ["not_equivalent", "equivalent"],
    balance: [1, 2],
    metric: "f1",
    metrics: ["f1", "accuracy", "balanced-accuracy"],
  },
  {
    name: "entail",
    title: "entail",
    mirrors: "rte",
    pair: true,
    regression: false,
    labels: ["entailment", "not_entailment"],
    balance: [1, 1],
    ...accuracy,
  },
  {
    name: "answer",
    title: "answer",
    mirrors: "qnli",
    pair: true,
    regression: false,
    labels: ["entailment", "not_entailment"],
    balance: [1, 1],
    ...accuracy,
  },
  {
    name: "nli3",
    title: "nli3",
    mirrors: "mnli",
    pair: true,
    regression: false,
    labels: ["entailment", "neutral", "contradiction"],
    balance: [1, 1, 1],
    ...accuracy,
  },
  {
    name: "similarity",
    title: "similarity",
    mirrors: "sts-b",
    pair: true,
    regression: true,
    labels: [],
    range: [0, 5],
    balance: [1, 1, 1, 1, 1, 1],
    metric: "spearman",
    metrics: ["spearman", "pearson"],
  },
];

const makersByTask: Readonly<Record<string, makers.RowMakers>> = {
  sentiment: makers.sentiment,
  paraphrase: makers.paraphrase,
  entail: makers.entail,
  answer: makers.answer,
  nli3: makers.nli3,
  similarity: makers.similarity,
};

export const embeddedTaskNames: readonly string[] = embeddedTasks.map((task) => task.name);

/** What runs when nobody names a task: one sentence, a pair, three classes and a regression, in minutes. */
export const defaultEmbeddedTaskNames: readonly string[] = [
  "sentiment",
  "paraphrase",
  "nli3",
  "similarity",
];

/** Finds a generated task by name. @throws BenchError `UNKNOWN_TASK` */
export function embeddedTask(name: string): EmbeddedTask {
  const task = embeddedTasks.find((candidate) => candidate.name === name.toLowerCase());
  if (task) return task;
  const message =
    `there is no such embedded task, got "${name}". ${suggestNames(name, embeddedTaskNames)} ` +
    "GLUE tasks need --data <folder> or --data hub.";
  throw new BenchError("UNKNOWN_TASK", "tasks", message);
}

/**
 * Generates a task. Rows depend on the seed and the row counts alone; no text occurs twice in a task.
 * @throws BenchError `UNKNOWN_TASK`, or `BAD_OPTION` when more rows are asked for than there are sentences
 */
export function loadEmbeddedTask(name: string, options: EmbeddedOptions = {}): LoadedTask {
  const task = embeddedTask(name);
  const seed = options.seed ?? 0;
  const seen = new Set<string>();
  const make = (split: "train" | "dev" | "test", count: number) =>
    makeRows(task, split, count, seed, seen);
  // The smaller split comes first: its share of the distinct sentences is not what train left over.
  const dev = make("dev", checkCount(options.devRows ?? 400, "devRows"));
  const train = make("train", checkCount(options.trainRows ?? 1200, "trainRows"));
  // Last, so that asking for it changes no other row. Its labels stay in here, as GLUE's stay on the server.
  const test = options.test
    ? make("test", checkCount(options.testRows ?? 200, "testRows")).map(
        ({ id, text, pair }, index): TestRow => ({
          id,
          text,
          ...(pair === undefined ? {} : { pair }),
          label: Number.NaN,
          index: String(index),
        }),
      )
    : undefined;
  return {
    task,
    splits: {
      ...(test ? { test } : {}),
      train: takeRows(train, options.limit?.train, seed, `${task.name}/train`),
      dev: takeRows(dev, options.limit?.dev, seed, `${task.name}/dev`),
    },
    problems: [],
  };
}

function checkCount(count: number, option: string): number {
  if (Number.isInteger(count) && count >= 1) return count;
  const message = `${option} must be a whole number >= 1, got ${count}.`;
  throw new BenchError("BAD_OPTION", "embedded", message);
}

function makeRows(
  task: EmbeddedTask,
  split: "train" | "dev" | "test",
  count: number,
  seed: number,
  seen: Set<string>,
): DataRow[] {
  const rng = createRng(seed).fork(`embedded/${task.name}/${split}`);
  const drafts: Omit<DataRow, "id">[] = [];
  const levelCounts = portions(
    count,
    hardnessLevels.map((level) => hardnessShares[level]),
  );
  for (const [levelIndex, hardness] of hardnessLevels.entries()) {
    const labelCounts = portions(levelCounts[levelIndex]!, task.balance);
    for (const [label, labelCount] of labelCounts.entries()) {
      for (let made = 0; made < labelCount; made++) {
        const [text, pair] = makeDistinct(task, hardness, label, rng, seen);
        drafts.push({ text, ...(pair === undefined ? {} : { pair }), label, hardness });
      }
    }
  }
  const order = shuffledIndices(drafts.length, seed, `embedded/${task.name}/${split}/order`);
  const digits = String(count).length;
  return order.map((draft, index) => ({
    id: `${split}#${String(index + 1).padStart(digits, "0")}`,
    ...drafts[draft]!,
  }));
}

const ATTEMPTS = 500;

function makeDistinct(
  task: EmbeddedTask,
  hardness: Hardness,
  label: number,
  rng: Rng,
  seen: Set<string>,
): makers.Sentences {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const sentences = makersByTask[task.name]![hardness](rng, label);
    const key = sentences.join("\t");
    if (seen.has(key)) continue;
    seen.add(key);
    return sentences;
  }
  const message =
    `task ${task.name} has too few distinct sentences of hardness "${hardness}" for so many rows, ` +
    `got ${seen.size} rows so far. Ask for fewer rows.`;
  throw new BenchError("BAD_OPTION", "embedded", message);
}

/** Splits a count by shares: whole parts that add up, the largest remainders rounded up. */
function portions(count: number, shares: readonly number[]): number[] {
  const total = shares.reduce((sum, share) => sum + share, 0);
  const exact = shares.map((share) => (count * share) / total);
  const whole = exact.map(Math.floor);
  const byRemainder = exact
    .map((value, index) => ({ index, remainder: value - Math.floor(value) }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  const missing = count - whole.reduce((sum, value) => sum + value, 0);
  for (const { index } of byRemainder.slice(0, missing)) whole[index]!++;
  return whole;
}

/** @file Turns the rows of a task into token rows, and holds some of the training rows out for the trainer. */
import type { ExitEncoder, TextTokenizer, TrainingRow } from "@cee/backbone";
import { createRng } from "@cee/engine";
import type { DataRow, LoadedTask } from "../data/task.js";
import { BenchError } from "../errors.js";

export interface PreparedTask {
  readonly train: readonly TrainingRow[];
  /** Never rows of dev: what the trainer looks at must not be what is reported. */
  readonly validation: readonly TrainingRow[];
  readonly dev: readonly TrainingRow[];
  /** MNLI's second development set. */
  readonly devMismatched: readonly TrainingRow[] | undefined;
  readonly test: readonly TrainingRow[] | undefined;
  readonly testMismatched: readonly TrainingRow[] | undefined;
  /** Share of dev rows that were cut to the length limit. */
  readonly truncated: number;
}

const LARGEST_VALIDATION = 500;

/** Tokenises a task. */
export function prepareRows(
  task: LoadedTask,
  encoder: ExitEncoder,
  { seed, maxLength }: { readonly seed: number; readonly maxLength: number },
): PreparedTask {
  const tokenizer = encoder.tokenizer as TextTokenizer;
  const limit = Math.min(maxLength, encoder.config.maxPositions);
  const encode = (rows: readonly DataRow[]): TrainingRow[] =>
    rows.map(({ id, text, pair, label }) => {
      const { ids, types } = tokenizer.encode(pair === undefined ? text : [text, pair], {
        maxLength: limit,
      });
      return { id, ids, types, label };
    });
  const all = encode(task.splits.train);
  const order = all.map((_, row) => row);
  createRng(seed).fork(`validation/${task.task.name}`).shuffle(order);
  const held = Math.min(LARGEST_VALIDATION, Math.floor(all.length / 10));
  const inValidation = new Set(order.slice(0, held));
  const train = all.filter((_, row) => !inValidation.has(row));
  if (train.length === 0)
    throw new BenchError("BAD_INPUT", task.task.name, "has no training rows. Give it more rows.");
  const dev = encode(task.splits.dev);
  const { devMismatched, test, testMismatched } = task.splits;
  return {
    train,
    validation: all.filter((_, row) => inValidation.has(row)),
    dev,
    devMismatched: devMismatched && encode(devMismatched),
    test: test && encode(test),
    testMismatched: testMismatched && encode(testMismatched),
    truncated: dev.filter((row) => row.ids.length === limit).length / Math.max(1, dev.length),
  };
}

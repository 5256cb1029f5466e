/** @file What a task is to the benchmark, wherever its rows come from: files, the hub or the generator. */
import type { MetricName } from "../metrics/score.js";

export interface TaskDefinition {
  /** Stable, lower-case: written into results and given to `--tasks`. */
  readonly name: string;
  /** As tables print it. */
  readonly title: string;
  /** Two sentences instead of one. */
  readonly pair: boolean;
  /** Labels are numbers instead of classes. */
  readonly regression: boolean;
  /** Class names; a row's label is an index into them. Empty for a regression. */
  readonly labels: readonly string[];
  /** Lowest and highest target of a regression. */
  readonly range?: readonly [number, number];
  /** The metric that the task is judged by. */
  readonly metric: MetricName;
  /** All metrics worth reporting, the first one being `metric`. */
  readonly metrics: readonly MetricName[];
}

/** What a generated row takes to be solved: one word, two words together, or the whole input. */
export type Hardness = "word" | "phrase" | "whole";
export const hardnessLevels: readonly Hardness[] = ["word", "phrase", "whole"];

export interface DataRow {
  /** Unique in its task, and the same at every load, whatever the row limits. */
  readonly id: string;
  readonly text: string;
  readonly pair?: string;
  /** Class index, or target of a regression. */
  readonly label: number;
  /** Known for generated rows only; never shown to a model. */
  readonly hardness?: Hardness;
}

export type SplitName = "train" | "dev" | "devMismatched" | "test" | "testMismatched";

export interface Splits {
  readonly train: readonly DataRow[];
  readonly dev: readonly DataRow[];
  /** MNLI's second development set. */
  readonly devMismatched?: readonly DataRow[];
  /** Rows whose labels are hidden, NaN here; only where they were asked for. */
  readonly test?: readonly TestRow[];
  /** MNLI's second test set. */
  readonly testMismatched?: readonly TestRow[];
}

/** A row of a test file. */
export interface TestRow extends DataRow {
  /** What the file calls it, which a submission has to repeat. */
  readonly index: string;
}

/** Rows of one file that could not be used. */
export interface FileProblems {
  readonly file: string;
  /** Rows left out. */
  readonly count: number;
  /** The first few of them; lines are counted from 1, the header included. */
  readonly examples: readonly { readonly line: number; readonly problem: string }[];
}

export interface LoadedTask {
  readonly task: TaskDefinition;
  readonly splits: Splits;
  /** Empty when every row could be used. */
  readonly problems: readonly FileProblems[];
}

/** Row limits, `undefined` for all rows. */
export interface RowLimits {
  readonly train?: number | undefined;
  readonly dev?: number | undefined;
}

export interface LoadOptions {
  /** A random subset of each split, drawn by `seed`. A smaller limit takes a subset of a larger one. */
  readonly limit?: RowLimits | undefined;
  /** @default 0 */
  readonly seed?: number | undefined;
  /** Load the unlabelled test rows as well, all of them. @default false */
  readonly test?: boolean | undefined;
}

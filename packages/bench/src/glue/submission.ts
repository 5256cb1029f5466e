/**
 * @file Predictions of the unlabelled test rows in the files that the GLUE server takes: one TSV per task with the columns
 * `index` and `prediction`, labels as the server writes them. Made by running the model for real, exits included.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import { type TrainingRow, toBatch } from "@cee/backbone";
import { glueTask } from "../data/glue-tasks.js";
import type { TaskDefinition, TestRow } from "../data/task.js";
import { BenchError } from "../errors.js";
import type { CurvePoint } from "../methods/method.js";
import { writeFileWhole } from "../results.js";
import type { CellName } from "./cells.js";
import { checkStop } from "./stop.js";

/** One test file of a task. */
export interface TestSplit {
  readonly name: "test" | "testMismatched";
  readonly rows: readonly TestRow[];
  readonly encoded: readonly TrainingRow[];
}

export interface SubmissionOptions {
  readonly out: string;
  readonly cell: CellName;
  readonly task: TaskDefinition;
  readonly tests: readonly TestSplit[];
  readonly padId: number;
  readonly signal?: AbortSignal | undefined;
}

/** Rows per pass; sorted by length, so that little is padded. */
const BATCH = 32;

/**
 * Answers every test row at the given points and writes a file each. A method whose models only run against the clock, as
 * those of controls that need labels, gives `false`.
 * @throws BenchError `BAD_INPUT`, `WRITE_FAILED`
 */
export async function writeSubmissions(
  points: Readonly<Record<string, CurvePoint | undefined>>,
  options: SubmissionOptions,
): Promise<boolean> {
  const { task, tests, signal, padId } = options;
  if (tests.length === 0) return true;
  for (const [name, point] of Object.entries(points)) {
    if (!point) continue;
    const model = await point.open();
    try {
      for (const test of tests) {
        const predictions = new Float64Array(test.rows.length);
        const order = test.encoded
          .map((_, row) => row)
          .sort((a, b) => lengthOf(test.encoded[a]) - lengthOf(test.encoded[b]) || a - b);
        for (let start = 0; start < order.length; start += BATCH) {
          checkStop(signal);
          const rows = order.slice(start, start + BATCH);
          const batch = toBatch(
            rows.map((row) => test.encoded[row] as TrainingRow),
            { padId },
          );
          const answers = await model.answer(batch);
          if (!answers) return false;
          for (const [at, row] of rows.entries()) predictions[row] = answers.predictions[at] ?? -1;
        }
        const file = submissionFile(options, name, test.name);
        await writeFileWhole(file, formatSubmission(task, test.rows, predictions));
      }
    } finally {
      await model.dispose();
    }
  }
  return true;
}

function lengthOf(row: TrainingRow | undefined): number {
  return row?.ids.length ?? 0;
}

/** Whether the files of these points are all there. */
export function hasSubmissions(names: readonly string[], options: SubmissionOptions): boolean {
  return names.every((name) =>
    options.tests.every((test) => existsSync(submissionFile(options, name, test.name))),
  );
}

function submissionFile(
  { out, cell, task }: Pick<SubmissionOptions, "out" | "cell" | "task">,
  point: string,
  test: TestSplit["name"],
): string {
  const { submission } = glueTask(serverTask(task));
  const file = submission[test] ?? submission.test;
  return path.join(out, "submissions", cell.method, point, `seed-${cell.seed}`, file);
}

/** A generated task takes the form of the GLUE task that it mirrors. */
function serverTask(task: TaskDefinition & { readonly mirrors?: string }): string {
  return task.mirrors ?? task.name;
}

/** The text of a file: rows in the order of the test file. @throws BenchError `BAD_INPUT` for an answer that is none */
export function formatSubmission(
  task: TaskDefinition,
  rows: readonly Pick<TestRow, "index">[],
  predictions: ArrayLike<number>,
): string {
  const { fileLabels } = glueTask(serverTask(task));
  const lines = rows.map(({ index }, row) => {
    const prediction = predictions[row] as number;
    const text = task.regression ? inRange(prediction, task) : fileLabels[prediction];
    if (text !== undefined) return `${index}\t${text}`;
    throw new BenchError(
      "BAD_INPUT",
      `${task.name} test`,
      `row ${index} was answered with ${prediction}, expected ${task.regression ? "a number" : `a class from 0 to ${fileLabels.length - 1}`}. Did its training diverge?`,
    );
  });
  return `index\tprediction\n${lines.join("\n")}\n`;
}

/** The server refuses numbers outside the range. */
function inRange(value: number, { range }: TaskDefinition): string | undefined {
  if (!Number.isFinite(value)) return undefined;
  const [low, high] = range ?? [value, value];
  return Math.min(high, Math.max(low, value)).toFixed(3);
}

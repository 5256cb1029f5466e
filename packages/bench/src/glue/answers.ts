/**
 * @file The answers of a cell row by row, kept in the run folder so that methods can be compared after the fact: what
 * its operating points predicted and where rows left.
 *
 * N = rows of a split.
 */
import type { DataRow, TaskDefinition } from "../data/task.js";
import { BenchError } from "../errors.js";
import type { PointAnswers } from "../protocol/row-statistics.js";
import type { InputStrip } from "../results.js";

export type AnsweredPoint = "full" | "no-loss" | "one-percent";
const answeredPoints: readonly AnsweredPoint[] = ["full", "no-loss", "one-percent"];

export interface SplitAnswers {
  readonly split: string;
  /** Class index or number per row, shape `[N]`. */
  readonly labels: readonly number[];
  readonly points: Readonly<Partial<Record<AnsweredPoint, PointAnswers>>>;
}

export interface CellAnswers {
  readonly splits: readonly SplitAnswers[];
  readonly inputs: readonly InputStrip[];
}

/** Small whole numbers as one character each, anything else as a list. */
type Packed = string | readonly number[];

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz";

function pack(values: ArrayLike<number>): Packed {
  const list = Array.from(values);
  const isSmall = list.every((value) => Number.isInteger(value) && value >= 0 && value < 36);
  return isSmall ? list.map((value) => DIGITS[value]).join("") : list;
}

function unpack(packed: unknown): number[] {
  if (typeof packed === "string" && /^[0-9a-z]*$/.test(packed))
    return [...packed].map((character) => DIGITS.indexOf(character));
  if (Array.isArray(packed) && packed.every((value) => typeof value === "number")) return packed;
  throw new Error("expected a list of numbers");
}

/** The text of the file. */
export function formatAnswers(identity: string, { splits, inputs }: CellAnswers): string {
  const packed = splits.map(({ split, labels, points }) => ({
    split,
    labels: pack(labels),
    points: Object.fromEntries(
      Object.entries(points).map(([name, { predictions, exitLayers }]) => [
        name,
        {
          predictions: pack(predictions),
          exitLayers: exitLayers === null ? null : pack(exitLayers),
        },
      ]),
    ),
  }));
  return `${JSON.stringify({ schema: 1, identity, splits: packed, inputs })}\n`;
}

/** Reads it back; `undefined` when it belongs to another cell. @throws BenchError `BAD_RESULTS` when it is damaged */
export function parseAnswers(
  text: string,
  file: string,
  identity: string,
): CellAnswers | undefined {
  try {
    const found = JSON.parse(text) as {
      identity?: unknown;
      splits: { split: string; labels: unknown; points: Record<string, Record<string, unknown>> }[];
      inputs: readonly InputStrip[];
    };
    if (found.identity !== identity) return undefined;
    if (!Array.isArray(found.inputs)) throw new Error("expected inputs");
    return {
      inputs: found.inputs,
      splits: found.splits.map(({ split, labels, points }) => {
        const truth = unpack(labels);
        const answers = answeredPoints
          .filter((name) => points[name] !== undefined)
          .map((name) => {
            const { predictions, exitLayers } = points[name] as Record<string, unknown>;
            const point = {
              predictions: unpack(predictions),
              exitLayers: exitLayers === null ? null : unpack(exitLayers),
            };
            for (const list of [point.predictions, point.exitLayers ?? truth])
              if (list.length !== truth.length) throw new Error("rows of unequal number");
            return [name, point];
          });
        return { split, labels: truth, points: Object.fromEntries(answers) };
      }),
    };
  } catch (cause) {
    throw new BenchError(
      "BAD_RESULTS",
      file,
      `is damaged (${(cause as Error).message}). Delete it; its cell stays, only comparisons with it are left out.`,
      { cause },
    );
  }
}

/** Rows of a task that are shown layer by layer. */
const STRIPS = 24;

/** Row indices spread over the split. */
export function stripRows(rows: number): number[] {
  const count = Math.min(STRIPS, rows);
  return Array.from({ length: count }, (_, at) => Math.floor((at * rows) / count));
}

/** A label or a prediction as a person reads it. */
export function nameOf(value: number, { regression, labels }: TaskDefinition): string | number {
  return regression ? Number(value.toFixed(3)) : (labels[value] ?? String(value));
}

/** The part of a strip that the row itself gives; a text that may not be quoted is empty. */
export function describeRow(row: DataRow, task: TaskDefinition, texts: boolean) {
  const { id, text, pair, label, hardness } = row;
  const isQuoted = texts || hardness !== undefined;
  return {
    id,
    text: isQuoted ? text : "",
    ...(pair === undefined || !isQuoted ? {} : { pair }),
    label: nameOf(label, task),
    ...(hardness === undefined ? {} : { hardness }),
  };
}

/**
 * @file What the training rows say about hardness: forgetting events (Table 1), and losses layer by layer (Figure 2).
 *
 * N = training rows, L = depth, E = evaluations.
 */
import { memorizedLayerPerRow, recordedLosses } from "@cee/consistentee";
import { type ExitRecord, predictionOf } from "@cee/exit-policies";
import { BenchError } from "../errors.js";
import { spearman } from "../metrics/score.js";
import type { Figure2Layer, Figure2Panel, Table1Row } from "./paper-results.js";

/** Regression: the largest error that counts as right, as for the memorized layer. */
const TOLERANCE = 0.5;

/** 1 where the last exit answers a row right, shape `[N]`. */
export function rightAtLast(record: ExitRecord): Uint8Array {
  const { depth } = record.shape;
  return Uint8Array.from(record.ids, (_, row) => (isRight(record, row, depth) ? 1 : 0));
}

// Deviates from the released code: it calls a row right when its loss is below ln 2, which more than two classes break.
function isRight({ shape, logits, labels }: ExitRecord, row: number, layer: number): boolean {
  const { depth, classes, task } = shape;
  const answer = predictionOf(task, logits, (row * depth + layer - 1) * classes, classes);
  const label = labels[row] as number;
  return task === "regression" ? Math.abs(answer - label) <= TOLERANCE : answer === label;
}

export interface Forgetting {
  /** Events per row; rows that were never right get more than any other can have. */
  readonly events: Int32Array;
  readonly neverRight: number;
}

/**
 * Counts forgetting events: right at one evaluation, wrong at the next. A row that was never right was never learnt
 * either, and counts as the most forgotten: half the evaluations, and one.
 * @param evaluations `[E]` of `[N]`, in order of training
 * @see the paper's section on hardness, after Toneva et al. 2019
 */
export function forgettingEvents(evaluations: readonly Uint8Array[]): Forgetting {
  const [first] = evaluations;
  if (!first)
    throw new BenchError("BAD_INPUT", "forgetting", "expected at least one evaluation, got none.");
  const events = new Int32Array(first.length);
  let neverRight = 0;
  for (let row = 0; row < first.length; row += 1) {
    let wasEverRight = false;
    for (const [at, evaluation] of evaluations.entries()) {
      const before = at === 0 ? 0 : evaluations[at - 1]?.[row];
      if (before === 1 && evaluation[row] === 0) events[row] = (events[row] as number) + 1;
      wasEverRight ||= evaluation[row] === 1;
    }
    if (wasEverRight) continue;
    neverRight += 1;
    events[row] = Math.floor(evaluations.length / 2) + 1;
  }
  return { events, neverRight };
}

/** Table 1 for one task and seed, from the training rows after phase 1 and the evaluations during it. */
export function table1Row(
  task: string,
  seed: number,
  record: ExitRecord,
  evaluations: readonly Uint8Array[],
): Table1Row {
  const { depth } = record.shape;
  const memorized = memorizedLayerPerRow(record, { tolerance: TOLERANCE });
  const losses = recordedLosses(record);
  const last = Array.from(memorized, (_, row) => losses[(row + 1) * depth - 1] as number);
  const { events, neverRight } = forgettingEvents(evaluations);
  return {
    task,
    seed,
    n: memorized.length,
    loss: spearman(memorized, last),
    forgetting: spearman(memorized, events),
    evaluations: evaluations.length,
    memorizedLayers: countsFrom(memorized, 1, depth),
    forgettingEvents: countsFrom(events, 0, Math.max(...events)),
    neverRight,
  };
}

function countsFrom(values: Int32Array, low: number, high: number): number[] {
  const counts = new Array<number>(high - low + 1).fill(0);
  for (const value of values) counts[value - low] = (counts[value - low] as number) + 1;
  return counts;
}

const BINS = 40;

/**
 * One panel of Figure 2.
 * @param exits layer at which each row is seen, shape `[N]`; null shows every row at every layer
 */
export function figure2Panel(
  where: Pick<Figure2Panel, "task" | "seed" | "objective" | "alpha">,
  record: ExitRecord,
  exits: Int32Array | null,
  largestLoss: number,
): Figure2Panel {
  const { depth, classes, task } = record.shape;
  const losses = recordedLosses(record);
  const layers = Array.from({ length: depth }, (_, index): Figure2Layer => {
    const layer = index + 1;
    const rows = record.ids.map((_, row) => row).filter((row) => !exits || exits[row] === layer);
    const bins = new Array<number>(BINS).fill(0);
    let sum = 0;
    let right = 0;
    for (const row of rows) {
      const loss = losses[row * depth + index] as number;
      const bin = Math.min(BINS - 1, Math.floor((loss / largestLoss) * BINS));
      bins[bin] = (bins[bin] as number) + 1;
      sum += loss;
      if (isRight(record, row, layer)) right += 1;
    }
    const n = rows.length;
    return {
      layer,
      n,
      accuracy: n === 0 ? null : right / n,
      meanLoss: n === 0 ? null : sum / n,
      bins,
    };
  });
  const boundary = task === "regression" ? TOLERANCE ** 2 : Math.log(classes);
  return { ...where, boundary, largestLoss, layers };
}

/** A scale for both panels of a task: beyond nearly all losses, and never short of the boundary. */
export function lossScale(record: ExitRecord): number {
  const sorted = recordedLosses(record).sort();
  const high = sorted[Math.floor(0.99 * (sorted.length - 1))] as number;
  const { classes, task } = record.shape;
  const boundary = task === "regression" ? TOLERANCE ** 2 : Math.log(classes);
  return Number(Math.max(high, 2 * boundary).toPrecision(3));
}

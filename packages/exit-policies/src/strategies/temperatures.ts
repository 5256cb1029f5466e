/** @file Temperature scaling: one temperature per exit that minimises the negative log-likelihood. T = exits, C = classes. */
import type { ExitRecord } from "../record.js";

/** Temperatures are looked for between these. */
const RANGE = [0.02, 50] as const;

/** One temperature per exit; 1 where no labelled row tells anything. Shape `[T]`. */
export function fitTemperatures(record: ExitRecord): number[] {
  const rows: number[] = [];
  record.labels.forEach((label, row) => {
    if (!Number.isNaN(label)) rows.push(row);
  });
  return Array.from({ length: record.shape.depth }, (_, index) => fitAt(record, rows, index));
}

function fitAt(record: ExitRecord, rows: readonly number[], index: number): number {
  const { classes, depth } = record.shape;
  const usable = rows.filter((row) => {
    const from = (row * depth + index) * classes;
    return record.logits.subarray(from, from + classes).every(Number.isFinite);
  });
  if (usable.length === 0) return 1;
  const loss = (logTemperature: number) =>
    negativeLogLikelihood(record, usable, index, Math.exp(logTemperature));
  // The loss is convex in 1 / T, so it has one valley along ln T.
  const best = goldenSection(loss, Math.log(RANGE[0]), Math.log(RANGE[1]));
  return loss(best) < loss(0) ? Math.exp(best) : 1;
}

function negativeLogLikelihood(
  { logits, labels, shape }: ExitRecord,
  rows: readonly number[],
  index: number,
  temperature: number,
): number {
  const { classes, depth } = shape;
  let sum = 0;
  for (const row of rows) {
    const from = (row * depth + index) * classes;
    let highest = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < classes; k += 1) highest = Math.max(highest, logits[from + k] as number);
    let total = 0;
    for (let k = 0; k < classes; k += 1)
      total += Math.exp(((logits[from + k] as number) - highest) / temperature);
    const own = logits[from + (labels[row] as number)] as number;
    sum += Math.log(total) - (own - highest) / temperature;
  }
  return sum / rows.length;
}

function goldenSection(loss: (x: number) => number, from: number, to: number): number {
  const ratio = (Math.sqrt(5) - 1) / 2;
  let [low, high] = [from, to];
  let [left, right] = [high - ratio * (high - low), low + ratio * (high - low)];
  let [lossLeft, lossRight] = [loss(left), loss(right)];
  while (high - low > 1e-6) {
    if (lossLeft <= lossRight) {
      [high, right, lossRight] = [right, left, lossLeft];
      left = high - ratio * (high - low);
      lossLeft = loss(left);
    } else {
      [low, left, lossLeft] = [left, right, lossRight];
      right = low + ratio * (high - low);
      lossRight = loss(right);
    }
  }
  return (low + high) / 2;
}

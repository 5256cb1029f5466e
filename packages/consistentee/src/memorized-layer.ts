/**
 * @file Memorized layer (Eq. 7): the layer from which on every exit answers a row correctly; how hard the row is.
 *
 * N = rows, L = depth, C = classes.
 */
import type { ExitRecord } from "@cee/exit-policies";
import { ConsistentEEError } from "./errors.js";

/**
 * Finds the first layer of the unbroken run of correct exits that ends at the last layer; the depth when the last exit
 * is wrong.
 * @param correct one entry per exit, first layer first
 */
export function memorizedLayer(correct: readonly boolean[]): number {
  const depth = correct.length;
  if (depth === 0)
    throw new ConsistentEEError(
      "BAD_INPUT",
      "memorizedLayer",
      "needs at least one exit, got none. Pass one entry per layer.",
    );
  let layer = depth;
  while (layer >= 1 && correct[layer - 1]) layer -= 1;
  return Math.min(layer + 1, depth);
}

export interface MemorizedLayerOptions {
  /**
   * Regression: largest absolute error, on the scale of the labels, that counts as correct.
   * @default 0.5
   */
  readonly tolerance?: number;
}

/**
 * Memorized layer of every row of a record, by row id: positions change when a reader drops rows, ids do not.
 * @throws ConsistentEEError `MISSING_LABEL`, or `BAD_RECORD` when two rows share an id.
 */
export function memorizedLayers(
  record: ExitRecord,
  options: MemorizedLayerOptions = {},
): ReadonlyMap<string, number> {
  const layers = memorizedLayerPerRow(record, options);
  const byId = new Map<string, number>();
  record.ids.forEach((id, row) => {
    if (byId.has(id))
      throw new ConsistentEEError(
        "BAD_RECORD",
        "memorizedLayers",
        `ids must be unique, got "${id}" twice. Give every row its own id.`,
      );
    byId.set(id, layers[row] as number);
  });
  return byId;
}

/** The same in the order of the record's rows, shape `[N]`. */
export function memorizedLayerPerRow(
  record: ExitRecord,
  options: MemorizedLayerOptions = {},
): Int32Array {
  const { depth } = record.shape;
  checkRecord(record, "memorizedLayers");
  const correct = new Array<boolean>(depth);
  return Int32Array.from(record.ids, (_, row) => {
    for (let index = 0; index < depth; index += 1)
      correct[index] = isCorrect(record, row, index, options.tolerance ?? 0.5);
    return memorizedLayer(correct);
  });
}

function isCorrect(record: ExitRecord, row: number, index: number, tolerance: number): boolean {
  const { depth, classes, task } = record.shape;
  const start = (row * depth + index) * classes;
  const label = record.labels[row] as number;
  if (record.tokens) return record.tokens.answers[row * depth + index] === label;
  // Deviates from the paper: Eq. 7 covers classes only; a regression counts as correct within a tolerance.
  if (task === "regression") return Math.abs((record.logits[start] as number) - label) <= tolerance;
  return answerOf(record.logits, start, classes) === label;
}

/** Index of the highest logit; the lowest index where several tie. */
function answerOf(logits: Float32Array, start: number, classes: number): number {
  let best = 0;
  for (let index = 1; index < classes; index += 1)
    if ((logits[start + index] as number) > (logits[start + best] as number)) best = index;
  return best;
}

/** Refuses a record whose sizes do not fit or whose rows lack a usable label. */
export function checkRecord(record: ExitRecord, who: string): void {
  const { depth, classes, task } = record.shape;
  const rows = record.ids.length;
  if (record.tokens) {
    const { losses, answers } = record.tokens;
    const sizes = [losses.length, answers.length];
    if (record.labels.length !== rows || sizes.some((size) => size !== rows * depth))
      throw new ConsistentEEError(
        "BAD_RECORD",
        who,
        `a record of ${rows} tokens and ${depth} exits needs ${rows} labels, ${rows * depth} losses and answers, got ${record.labels.length}, ${sizes.join(" and ")}. Record again.`,
      );
  } else if (record.labels.length !== rows || record.logits.length !== rows * depth * classes)
    throw new ConsistentEEError(
      "BAD_RECORD",
      who,
      `a record of ${rows} rows, ${depth} exits and ${classes} classes needs ${rows} labels and ${rows * depth * classes} logits, got ${record.labels.length} and ${record.logits.length}. Record again.`,
    );
  record.labels.forEach((label, row) => {
    const usable =
      task === "regression"
        ? Number.isFinite(label)
        : Number.isInteger(label) && label >= 0 && label < classes;
    if (!usable)
      throw new ConsistentEEError(
        "MISSING_LABEL",
        who,
        `row "${record.ids[row]}" needs ${task === "regression" ? "a finite target" : `a class in 0..${classes - 1}`}, got ${label}. Train on labelled rows.`,
      );
  });
}

/**
 * @file What a row loses by leaving early, in [0, 1], against the same model at full depth.
 *
 * N = rows, T = exits, C = classes.
 */
import { ExitStrategyError } from "../errors.js";
import { predictionOf } from "../outcome.js";
import type { ExitRecord } from "../record.js";

/** What `loss` functions are told of one row. */
export interface RowAnswers {
  readonly row: number;
  /** Class index or number given early. */
  readonly early: number;
  /** The same at full depth. */
  readonly full: number;
  /** NaN where unknown. */
  readonly label: number;
}

/**
 * - `accuracy`: 1 where full depth is right and the early answer is wrong; its mean bounds the accuracy that is lost.
 * - `agreement`: 1 where the early answer differs from full depth's; needs no labels.
 * - a function: any loss in `[0, 1]`.
 *
 * A number counts as right, or as the same, within `tolerance`.
 */
export type LossKind = "accuracy" | "agreement" | ((answers: RowAnswers) => number);

/** @throws ExitStrategyError `BAD_RECORD` when labels are missing, `INVALID_OPTIONS` for a loss outside `[0, 1]` */
export function rowLoss(
  record: ExitRecord,
  kind: LossKind,
  tolerance: number,
): (row: number, early: number) => number {
  const { shape, logits, labels } = record;
  const { depth, classes, task } = shape;
  const full = Float32Array.from(labels, (_, row) =>
    predictionOf(task, logits, (row * depth + depth - 1) * classes, classes),
  );
  const isSame = (a: number, b: number) =>
    task === "regression" ? Math.abs(a - b) <= tolerance : a === b;
  if (kind === "accuracy") {
    const unknown = labels.findIndex(Number.isNaN);
    if (unknown >= 0)
      throw new ExitStrategyError(
        "BAD_RECORD",
        "selectThreshold",
        `the loss "accuracy" needs every row's label, got none for row ${record.ids[unknown]}. Give labels, or use loss: "agreement".`,
      );
    return (row, early) =>
      isSame(full[row] as number, labels[row] as number) && !isSame(early, labels[row] as number)
        ? 1
        : 0;
  }
  if (kind === "agreement") return (row, early) => (isSame(early, full[row] as number) ? 0 : 1);
  return (row, early) => {
    const loss = kind({ row, early, full: full[row] as number, label: labels[row] as number });
    if (!(loss >= 0 && loss <= 1))
      throw new ExitStrategyError(
        "INVALID_OPTIONS",
        "selectThreshold",
        `a loss must lie in [0, 1], got ${loss} for row ${record.ids[row]}. Scale it: the guarantee holds for bounded losses only.`,
      );
    return loss;
  };
}

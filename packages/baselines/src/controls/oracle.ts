/**
 * @file The exits that hindsight would take: an upper bound on what any exit rule can do with one model, not a method.
 *
 * N = rows, L = depth, C = classes.
 */
import { type ExitRecord, ExitStrategyError, predictionOf } from "@cee/exit-policies";

export interface OracleOptions {
  /** The deepest layer that a row may be sent to for the sake of its answer. @default the model's depth */
  readonly deepest?: number;
  /**
   * Where rows go that no allowed layer answers right: `last` (the model's last layer) is what a rule would do that
   * waits for an answer it can trust, `first` (layer 1) is what costs least, as they are lost anyway.
   * @default "last"
   */
  readonly otherwise?: "first" | "last";
}

/**
 * The shallowest layer whose answer is right, per row, shape `[N]`; needs the labels, so no rule can follow it.
 *
 * A regression has no right answers: there, an answer counts as right that is at least as close as the last layer's.
 *
 * With `otherwise: "first"` no exit rule on the same exits has a higher accuracy at the same or a lower mean exit layer:
 * every row costs one layer, and the rows that are right cost only what they must, cheapest first.
 * @throws ExitStrategyError `INVALID_OPTIONS` for a layer that the model does not have
 */
export function oracleExitLayers(
  record: ExitRecord,
  { deepest = record.shape.depth, otherwise = "last" }: OracleOptions = {},
): Int32Array {
  const { shape, labels, ids } = record;
  if (!Number.isInteger(deepest) || deepest < 1 || deepest > shape.depth)
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      "oracle",
      `deepest must be a whole number from 1 to ${shape.depth}, got ${deepest}. Leave it out for the model's depth.`,
    );
  const lost = otherwise === "first" ? 1 : shape.depth;
  return Int32Array.from(ids, (_, row) => {
    const label = labels[row] as number;
    const farthest = Math.abs(answerAt(record, row, shape.depth) - label);
    for (let layer = 1; layer <= deepest; layer += 1) {
      const answer = answerAt(record, row, layer);
      const isRight =
        shape.task === "regression" ? Math.abs(answer - label) <= farthest : answer === label;
      if (isRight) return layer;
    }
    return lost;
  });
}

/** The recorded answer of one row at a layer counted from 1: a class index, or a number. */
export function answerAt({ shape, logits }: ExitRecord, row: number, layer: number): number {
  const { task, depth, classes } = shape;
  return predictionOf(task, logits, (row * depth + layer - 1) * classes, classes);
}

/** What every row is answered when it leaves at its given layer, shape `[N]`. */
export function answersAt(record: ExitRecord, exitLayers: ArrayLike<number>): Float32Array {
  return Float32Array.from(record.ids, (_, row) =>
    answerAt(record, row, exitLayers[row] as number),
  );
}

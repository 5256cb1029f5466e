/**
 * @file Rows that the last digits of floating point may decide, and the comparison of two runs that spares them.
 *
 * N = rows, T = exits (layers), C = classes, K = values observed per row.
 */
import { ExitStrategyError } from "./errors.js";
import type { ExitOutcome } from "./outcome.js";
import type { ExitRecord } from "./record.js";
import { replay } from "./replay.js";
import type { ExitStrategy } from "./strategy.js";

/**
 * Rows (indices, ascending) whose exit or answer changes when their observations, or the gap between their two highest
 * logits, move by at most `epsilon`.
 *
 * Tried are shifts of one value at one layer, of everything, and of one layer against all others. A value that is the
 * arg max of the logits throughout the record is a label: it is not shifted but replaced by the runner-up where the gap
 * allows it.
 */
export function nearTies(
  record: ExitRecord,
  strategy: ExitStrategy,
  epsilon = 1e-4,
): readonly number[] {
  const outcome = replay(record, strategy);
  const plan = labelColumns(record);
  const { depth } = record.shape;
  const ties: number[] = [];
  for (let row = 0; row < outcome.rows; row += 1) {
    const exit = outcome.exitLayers[row] as number;
    const variants = [
      ...shifts(record, plan, row, Math.min(exit, depth - 1), epsilon),
      ...swaps(record, plan, row, Math.min(exit, depth - 1), epsilon),
    ];
    if (
      answerIsClose(record, row, exit, epsilon) ||
      exitsDiffer(record, strategy, row, exit, variants)
    )
      ties.push(row);
  }
  return ties;
}

export interface Agreement {
  readonly rows: number;
  /** Rows whose exit or answer differs. */
  readonly differing: readonly number[];
  /** Those of them that are no near tie: real disagreements. */
  readonly unexplained: readonly number[];
  readonly nearTies: number;
  /** Share of near ties among all rows; 0 without rows. */
  readonly nearTieShare: number;
}

/**
 * Compares two runs over the same rows, such as two batch sizes, runtimes or exports.
 * @param ties what {@link nearTies} gave
 * @param tolerance how far regression answers may lie apart; class answers must be equal
 */
export function agreement(
  a: ExitOutcome,
  b: ExitOutcome,
  ties: readonly number[] = [],
  tolerance = 0,
): Agreement {
  if (a.rows !== b.rows)
    throw new ExitStrategyError(
      "BAD_RECORD",
      "agreement",
      `both runs must hold the same rows, got ${a.rows} and ${b.rows}.`,
    );
  const differing: number[] = [];
  for (let row = 0; row < a.rows; row += 1) {
    const [left, right] = [a.predictions[row] as number, b.predictions[row] as number];
    const isSame = Object.is(left, right) || Math.abs(left - right) <= tolerance;
    if (a.exitLayers[row] !== b.exitLayers[row] || !isSame) differing.push(row);
  }
  const known = new Set(ties);
  return {
    rows: a.rows,
    differing,
    unexplained: differing.filter((row) => !known.has(row)),
    nearTies: ties.length,
    nearTieShare: a.rows === 0 ? 0 : ties.length / a.rows,
  };
}

/** Which observed values are labels. Shape `[K]` */
function labelColumns({ shape, logits, observed, observedWidth, ids }: ExitRecord): boolean[] {
  const cells = ids.length * shape.depth;
  return Array.from({ length: observedWidth }, (_, column) => {
    if (shape.task !== "classification" || cells === 0) return false;
    for (let cell = 0; cell < cells; cell += 1) {
      const value = observed[cell * observedWidth + column] as number;
      if (Number.isNaN(value)) continue;
      if (value !== topTwo(logits, cell * shape.classes, shape.classes).first) return false;
    }
    return true;
  });
}

/** The observations of one row up to the layer that decided it, shifted. Each shape `[T, K]`. */
function* shifts(
  { shape, observed, observedWidth: width }: ExitRecord,
  isLabel: readonly boolean[],
  row: number,
  layers: number,
  epsilon: number,
): Generator<Float32Array> {
  const size = shape.depth * width;
  const own = observed.subarray(row * size, (row + 1) * size);
  const shifted = (by: (layer: number, column: number) => number) => {
    const values = own.slice();
    for (let index = 0; index < size; index += 1)
      if (!isLabel[index % width])
        values[index] =
          (own[index] as number) + by(Math.floor(index / width) + 1, index % width) * epsilon;
    return values;
  };
  if (isLabel.every(Boolean)) return;
  for (const sign of [1, -1]) {
    yield shifted(() => sign);
    for (let layer = 1; layer <= layers; layer += 1) {
      yield shifted((at) => (at === layer ? sign : -sign));
      yield shifted((at) => (at === layer ? sign : 0));
      for (let column = 0; width > 1 && column < width; column += 1)
        yield shifted((at, k) => (at === layer && k === column ? sign : 0));
    }
  }
}

/** The same with a label exchanged where the two highest logits are that close. */
function* swaps(
  { shape, observed, logits, observedWidth: width }: ExitRecord,
  isLabel: readonly boolean[],
  row: number,
  layers: number,
  epsilon: number,
): Generator<Float32Array> {
  if (!isLabel.some(Boolean) || shape.classes < 2) return;
  const size = shape.depth * width;
  const own = observed.subarray(row * size, (row + 1) * size);
  for (let layer = 1; layer <= layers; layer += 1) {
    const cell = row * shape.depth + layer - 1;
    const { gap, second } = topTwo(logits, cell * shape.classes, shape.classes);
    if (gap > epsilon) continue;
    const values = own.slice();
    for (let column = 0; column < width; column += 1)
      if (isLabel[column]) values[(layer - 1) * width + column] = second;
    yield values;
  }
}

function answerIsClose(
  { shape, logits }: ExitRecord,
  row: number,
  exit: number,
  epsilon: number,
): boolean {
  if (shape.task === "regression" || shape.classes < 2) return false;
  const cell = row * shape.depth + exit - 1;
  return topTwo(logits, cell * shape.classes, shape.classes).gap <= epsilon;
}

/** Replays all variants of a row as rows of one small record. */
function exitsDiffer(
  record: ExitRecord,
  strategy: ExitStrategy,
  row: number,
  exit: number,
  variants: readonly Float32Array[],
): boolean {
  const { shape, observedWidth } = record;
  const cells = shape.depth * shape.classes;
  const own = record.logits.subarray(row * cells, (row + 1) * cells);
  const observed = new Float32Array(variants.length * shape.depth * observedWidth);
  const logits = new Float32Array(variants.length * cells);
  variants.forEach((variant, index) => {
    observed.set(variant, index * variant.length);
    logits.set(own, index * cells);
  });
  const ids = variants.map((_, index) => String(index));
  const labels = new Float32Array(variants.length);
  const { exitLayers } = replay({ shape, ids, labels, logits, observed, observedWidth }, strategy);
  return exitLayers.some((layer) => layer !== exit);
}

/** The two best classes (ties go to the lowest index) and how far their logits lie apart. */
function topTwo(
  logits: Float32Array,
  offset: number,
  classes: number,
): { readonly first: number; readonly second: number; readonly gap: number } {
  let [first, second] = [0, -1];
  for (let index = 1; index < classes; index += 1)
    if ((logits[offset + index] as number) > (logits[offset + first] as number)) {
      second = first;
      first = index;
    } else if (
      second === -1 ||
      (logits[offset + index] as number) > (logits[offset + second] as number)
    )
      second = index;
  const gap = (logits[offset + first] as number) - (logits[offset + second] as number);
  return { first, second, gap };
}

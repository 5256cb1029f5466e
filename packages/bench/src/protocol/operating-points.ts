/**
 * @file Picks points from an accuracy-speed curve: the fastest without loss, and the fastest within one per cent
 * (relative) of full depth. As the paper does it, on the rows that are reported; and on one half, reported on the other.
 */
import { shuffledIndices } from "../data/subset.js";
import { BenchError } from "../errors.js";
import { pairedBootstrap } from "../metrics/bootstrap.js";
import { balancedAccuracy, type MetricName, score, type Values } from "../metrics/score.js";
import type { HeldOutFields, Knob } from "../results.js";

/** What one knob value gave on every row. */
export interface CurvePoint {
  readonly knob: Knob | null;
  /** Exit layer of each row, 1..L; null where a method has none, then `cost` ranks the points. */
  readonly exitLayers: Values | null;
  /** Class index or number per row. */
  readonly predictions: Values;
  /** Time or operations per row, lower is faster; needed where `exitLayers` is null. */
  readonly cost?: number;
}

export interface Curve<TPoint extends CurvePoint = CurvePoint> {
  readonly points: readonly TPoint[];
  /** The same model's predictions at full depth. */
  readonly full: Values;
  readonly labels: Values;
  readonly metric: MetricName;
  readonly layers: number;
}

export type LossRule = "no-loss" | "one-percent";
export const lossRules: readonly LossRule[] = ["no-loss", "one-percent"];

/** The relative loss that each rule allows. */
export const allowedLoss: Readonly<Record<LossRule, number>> = {
  "no-loss": 0,
  "one-percent": 0.01,
};

export interface ScoredPoint<TPoint extends CurvePoint = CurvePoint> {
  readonly point: TPoint;
  /** Its place in `points`. */
  readonly index: number;
  readonly score: number;
  /** Mean exit layer, or `cost` where there are no exit layers. */
  readonly cost: number;
}

export interface OperatingPoints<TPoint extends CurvePoint = CurvePoint> {
  readonly fullScore: number;
  /** Every point, in input order. */
  readonly scored: readonly ScoredPoint<TPoint>[];
  /** `undefined` when no point of the curve qualifies. */
  readonly noLoss: ScoredPoint<TPoint> | undefined;
  readonly onePercent: ScoredPoint<TPoint> | undefined;
}

/** Scores that differ by rounding only count as equal. */
const TOLERANCE = 1e-12;

/** Scores a curve and picks both operating points on the same rows, the paper's way. */
export function chooseOperatingPoints<TPoint extends CurvePoint>(
  curve: Curve<TPoint>,
): OperatingPoints<TPoint> {
  const rows = Array.from({ length: curve.labels.length }, (_, row) => row);
  const { scored, fullScore } = scoreCurve(curve, rows);
  return {
    fullScore,
    scored,
    noLoss: choosePoint(scored, fullScore, "no-loss"),
    onePercent: choosePoint(scored, fullScore, "one-percent"),
  };
}

/**
 * The fastest point that loses no more than the rule allows; of equally fast ones the best, then the first.
 * `undefined` when none qualifies.
 */
export function choosePoint<TScored extends { readonly score: number; readonly cost: number }>(
  scored: readonly TScored[],
  fullScore: number,
  rule: LossRule,
): TScored | undefined {
  return fastestWithin(scored, fullScore, allowedLoss[rule]);
}

/** {@link choosePoint} for any relative loss. */
export function fastestWithin<TScored extends { readonly score: number; readonly cost: number }>(
  scored: readonly TScored[],
  fullScore: number,
  maxLoss: number,
): TScored | undefined {
  // By magnitude, so that a negative correlation isn't asked to improve.
  const bar = fullScore - maxLoss * Math.abs(fullScore) - TOLERANCE;
  let best: TScored | undefined;
  for (const candidate of scored) {
    if (!(candidate.score >= bar)) continue;
    const isFaster = best === undefined || candidate.cost < best.cost;
    const isBetter =
      best !== undefined && candidate.cost === best.cost && candidate.score > best.score;
    if (isFaster || isBetter) best = candidate;
  }
  return best;
}

export interface HeldOutPoint<TPoint extends CurvePoint = CurvePoint> {
  readonly rule: LossRule;
  readonly point: TPoint;
  readonly index: number;
  /** Rows that the point was chosen on, and what it gave there. */
  readonly chosenOn: { readonly n: number; readonly score: number; readonly fullScore: number };
  /** Rows of the other half. */
  readonly rows: readonly number[];
  readonly score: number;
  readonly fullScore: number;
  /** Null for a regression. */
  readonly balancedAccuracy: number | null;
  /** Null where the method has no exit layer. */
  readonly meanExitLayer: number | null;
  readonly savedLayers: number | null;
  /** 1 - score / fullScore; negative when the point beats full depth. */
  readonly relativeLoss: number;
  /** Of `score - fullScore`, by paired bootstrap over the reported half. */
  readonly standardError: number;
}

export interface HeldOutOptions {
  /** Splits the rows in halves and drives the bootstrap. */
  readonly seed: number;
  /** @default 1000 */
  readonly resamples?: number;
}

/**
 * Chooses on one half of the rows and reports on the other. Halves depend on the seed and the number of rows alone,
 * so all methods share them.
 */
export function chooseHeldOut<TPoint extends CurvePoint>(
  curve: Curve<TPoint>,
  rule: LossRule,
  { seed, resamples = 1000 }: HeldOutOptions,
): HeldOutPoint<TPoint> | undefined {
  const n = curve.labels.length;
  if (n < 2) {
    throw new BenchError("BAD_INPUT", "held-out", `expected at least 2 rows to halve, got ${n}.`);
  }
  const { choose, report } = splitHalves(n, seed);
  const chosen = scoreCurve(curve, choose);
  const best = choosePoint(chosen.scored, chosen.fullScore, rule);
  if (!best) return undefined;

  const labels = take(curve.labels, report);
  const full = take(curve.full, report);
  const predictions = take(best.point.predictions, report);
  const reportedScore = score(curve.metric, predictions, labels);
  const fullScore = score(curve.metric, full, labels);
  const meanExitLayer =
    best.point.exitLayers === null ? null : meanOf(take(best.point.exitLayers, report));
  const { standardError } = pairedBootstrap(curve.metric, predictions, full, labels, {
    seed,
    resamples,
  });
  return {
    rule,
    point: best.point,
    index: best.index,
    chosenOn: { n: choose.length, score: best.score, fullScore: chosen.fullScore },
    rows: report,
    score: reportedScore,
    fullScore,
    balancedAccuracy: isCorrelation(curve.metric) ? null : balancedAccuracy(predictions, labels),
    meanExitLayer,
    savedLayers: meanExitLayer === null ? null : 1 - meanExitLayer / curve.layers,
    relativeLoss: fullScore === 0 ? 0 : (fullScore - reportedScore) / Math.abs(fullScore),
    standardError,
  };
}

/** The fields that `results.json` keeps of a held-out point. */
export function heldOutFields({
  point,
  rows,
  score,
  fullScore,
  balancedAccuracy,
  meanExitLayer,
  savedLayers,
  relativeLoss,
  standardError,
}: HeldOutPoint): HeldOutFields {
  return {
    knob: point.knob,
    n: rows.length,
    score,
    fullScore,
    balancedAccuracy,
    meanExitLayer,
    savedLayers,
    relativeLoss,
    standardError,
  };
}

function isCorrelation(metric: MetricName): boolean {
  return metric === "pearson" || metric === "spearman";
}

/** Two halves of 0..n-1, each in ascending order; the first gets the odd row. */
export function splitHalves(n: number, seed: number): { choose: number[]; report: number[] } {
  const order = shuffledIndices(n, seed, "held-out-halves");
  const middle = Math.ceil(n / 2);
  const ascending = (rows: number[]) => rows.sort((a, b) => a - b);
  return { choose: ascending(order.slice(0, middle)), report: ascending(order.slice(middle)) };
}

function scoreCurve<TPoint extends CurvePoint>(
  { points, full, labels, metric }: Curve<TPoint>,
  rows: readonly number[],
): { scored: ScoredPoint<TPoint>[]; fullScore: number } {
  const truth = take(labels, rows);
  const scored = points.map((point, index) => ({
    point,
    index,
    score: score(metric, take(point.predictions, rows, labels.length), truth),
    cost: costOf(point, rows, labels.length),
  }));
  return { scored, fullScore: score(metric, take(full, rows, labels.length), truth) };
}

function costOf(point: CurvePoint, rows: readonly number[], n: number): number {
  if (point.exitLayers !== null) return meanOf(take(point.exitLayers, rows, n));
  if (point.cost !== undefined) return point.cost;
  throw new BenchError(
    "BAD_INPUT",
    "operating points",
    "a point without exit layers needs a cost, got none. Measure its time.",
  );
}

function take(values: Values, rows: readonly number[], expected = values.length): Float64Array {
  if (values.length !== expected) {
    const message = `expected a value for each of ${expected} rows, got ${values.length}.`;
    throw new BenchError("BAD_INPUT", "operating points", message);
  }
  return Float64Array.from(rows, (row) => values[row]!);
}

function meanOf(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

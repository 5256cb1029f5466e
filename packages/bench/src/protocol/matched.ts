/**
 * @file Curves read at equal speed and at equal score: linear between neighbouring points, the full depth included, so
 * that methods whose operating points differ in both can be compared.
 */
import { meanAndError } from "../metrics/statistics.js";
import type { MatchedFields, MeanFields, ResultRow } from "../results.js";

/** A point of a curve. */
export interface SpeedPoint {
  readonly savedLayers: number;
  readonly score: number;
}

/** Savings that scores are read at. */
const SPEEDS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
/** Shares of full depth's score that savings are read at. */
const SHARES = [1, 0.99, 0.98, 0.95];

/**
 * The frontier of a curve in order of savings: of equally fast points the best, and none that a faster point matches.
 * Full depth, which every method has, begins it.
 */
export function frontier(points: readonly SpeedPoint[], fullScore: number): SpeedPoint[] {
  const sorted = [...points, { savedLayers: 0, score: fullScore }].sort(
    (a, b) => b.savedLayers - a.savedLayers || b.score - a.score,
  );
  const kept: SpeedPoint[] = [];
  for (const point of sorted) {
    const last = kept.at(-1);
    if (last === undefined || point.score > last.score) kept.push(point);
  }
  return kept.reverse();
}

/** Score at a share of saved layers; null beyond the fastest point. A slower point would do where the frontier begins later. */
export function scoreAt(curve: readonly SpeedPoint[], savedLayers: number): number | null {
  const next = curve.findIndex((point) => point.savedLayers >= savedLayers);
  if (next < 0) return null;
  const after = curve[next] as SpeedPoint;
  const before = curve[next - 1];
  if (before === undefined || after.savedLayers === savedLayers) return after.score;
  const share = (savedLayers - before.savedLayers) / (after.savedLayers - before.savedLayers);
  return before.score + share * (after.score - before.score);
}

/** The most that is saved while the score is still reached; null when it never is. */
export function savedAt(curve: readonly SpeedPoint[], score: number): number | null {
  for (let at = curve.length - 1; at >= 0; at -= 1) {
    const point = curve[at] as SpeedPoint;
    if (point.score < score) continue;
    const faster = curve[at + 1];
    if (faster === undefined || point.score === score) return point.savedLayers;
    const share = (point.score - score) / (point.score - faster.score);
    return point.savedLayers + share * (faster.savedLayers - point.savedLayers);
  }
  return null;
}

/** The mean score between two savings; null when the curve does not reach that far. */
export function meanScore(curve: readonly SpeedPoint[], from: number, to: number): number | null {
  if (!(to > from)) return null;
  const inside = curve.map(({ savedLayers }) => savedLayers).filter((at) => at > from && at < to);
  const places = [from, ...inside, to];
  let area = 0;
  for (let at = 1; at < places.length; at += 1) {
    const [left, right] = [places[at - 1] as number, places[at] as number];
    const [a, b] = [scoreAt(curve, left), scoreAt(curve, right)];
    if (a === null || b === null) return null;
    area += ((a + b) / 2) * (right - left);
  }
  return area / (to - from);
}

/** Every method with exit layers on every task and split, in order of first appearance. */
export function matchedFields(rows: readonly ResultRow[]): MatchedFields[] {
  const byCell = new Map<string, ResultRow[]>();
  for (const row of rows) {
    if (row.operatingPoint !== "curve" || row.savedLayers === null) continue;
    const key = JSON.stringify([row.task, row.split, row.method]);
    byCell.set(key, [...(byCell.get(key) ?? []), row]);
  }
  const cells = [...byCell.values()].map((own) => {
    const { task, split, method } = own[0] as ResultRow;
    return { task, split, method, curves: curvesOf(own) };
  });
  return cells.map(({ task, split, method, curves }) => {
    const rivals = cells.filter((cell) => cell.task === task && cell.split === split);
    // Savings that all curves of the task reach.
    const to = Math.min(
      ...rivals.flatMap((cell) => cell.curves.map(({ points }) => fastest(points))),
    );
    const over = (read: (curve: (typeof curves)[number]) => number | null): MeanFields | null => {
      const values = curves.map(read).filter((value) => value !== null);
      // A mean over some of the seeds would be over the lucky ones.
      if (values.length < curves.length) return null;
      const { mean, standardError } = meanAndError(values);
      return { mean, standardError };
    };
    const area = over(({ points }) => meanScore(points, 0, to));
    return {
      task,
      split,
      method,
      seeds: curves.length,
      atSpeed: SPEEDS.map((savedLayers) => ({
        savedLayers,
        score: over(({ points }) => scoreAt(points, savedLayers)),
      })),
      atScore: SHARES.map((relativeScore) => ({
        relativeScore,
        savedLayers: over(({ points, fullScore }) =>
          savedAt(points, fullScore - (1 - relativeScore) * Math.abs(fullScore)),
        ),
      })),
      area: area === null ? null : { from: 0, to, score: area },
    };
  });
}

/** One curve per seed. */
function curvesOf(rows: readonly ResultRow[]) {
  return [...new Set(rows.map(({ seed }) => seed))].map((seed) => {
    const own = rows.filter((row) => row.seed === seed);
    const { fullScore } = own[0] as ResultRow;
    const points = own.map(({ savedLayers, score }) => ({
      savedLayers: savedLayers as number,
      score,
    }));
    return { fullScore, points: frontier(points, fullScore) };
  });
}

function fastest(curve: readonly SpeedPoint[]): number {
  return curve.at(-1)?.savedLayers ?? 0;
}

/** @file Scores decoded texts, chooses operating points, and makes rows of `results.json`. */
import { createRng } from "@cee/engine";
import type { BertScore } from "../metrics/bert-score.js";
import { type RougeScores, rouge } from "../metrics/rouge.js";
import {
  choosePoint,
  type LossRule,
  lossRules,
  splitHalves,
} from "../protocol/operating-points.js";
import { layerFields, type ResultRow, type RowIntervals } from "../results.js";
import type { DecodedPoint, Speed } from "./decode.js";

/** Scores of every text of a point. */
export interface ScoredTexts {
  readonly rougeL: readonly number[];
  readonly bertScore: readonly number[];
  /** Means of all scores by name. */
  readonly means: Readonly<Record<string, number>>;
}

export async function scoreTexts(
  texts: readonly string[],
  references: readonly string[],
  bert: BertScore,
): Promise<ScoredTexts> {
  const scores = texts.map((text, row) => rouge(text, references[row] as string));
  const bertScore = Array.from(await bert.scores(texts, references));
  const of = (name: keyof RougeScores) => scores.map((one) => one[name].f);
  return {
    rougeL: of("rougeL"),
    bertScore,
    means: {
      "rouge-1": meanOf(of("rouge1")),
      "rouge-2": meanOf(of("rouge2")),
      "rouge-l": meanOf(of("rougeL")),
      "rouge-lsum": meanOf(of("rougeLsum")),
      "bertscore-f": meanOf(bertScore),
    },
  };
}

export interface EvaluatedPoint {
  readonly decoded: DecodedPoint;
  readonly scored: ScoredTexts;
  readonly speed: Speed | undefined;
}

export interface CurveOptions {
  readonly task: string;
  readonly method: string;
  readonly seed: number;
  readonly layers: number;
  /**
   * Whether the layers behind an exit are left out for good. Where they are run later, for keys and values or to verify drafts,
   * an exit layer says nothing of what was saved: points are compared by the layers run per token then.
   */
  readonly leavesOut: boolean;
  readonly options: Readonly<Record<string, unknown>>;
  readonly full: EvaluatedPoint;
  readonly points: readonly EvaluatedPoint[];
}

/** The two scores that curves are drawn of, each a task of its own in the results. */
export const curveMetrics = [
  { metric: "rouge-l", suffix: "", title: "" },
  { metric: "bertscore-f", suffix: "-bertscore", title: ", BERTScore" },
] as const;

/** Full depth, the curve, and the fastest points without loss and within one per cent. */
export function rowsOf(curve: CurveOptions): ResultRow[] {
  const { full, points, seed } = curve;
  return curveMetrics.flatMap(({ metric, suffix }): ResultRow[] => {
    const own = ({ scored }: EvaluatedPoint) =>
      metric === "rouge-l" ? scored.rougeL : scored.bertScore;
    const fullScore = meanOf(own(full));
    const scoredPoints = points.map((point) => ({
      point,
      score: meanOf(own(point)),
      cost: curve.leavesOut ? meanExit(point.decoded) : point.decoded.layersPerToken,
    }));
    const row = (
      point: EvaluatedPoint,
      operatingPoint: ResultRow["operatingPoint"],
    ): ResultRow => ({
      task: `${curve.task}${suffix}`,
      method: curve.method,
      seed,
      split: "dev",
      metric,
      score: meanOf(own(point)),
      fullScore,
      operatingPoint,
      knob: point.decoded.knob,
      options: curve.options,
      ...(curve.leavesOut || point === full
        ? layerFields(point.decoded.exits.flat(), curve.layers)
        : {
            ...layerFields(null, curve.layers),
            cost: point.decoded.layersPerToken / curve.layers,
          }),
      n: point.decoded.exits.flat().length,
      scores: point.scored.means,
      texts: point.decoded.texts.length,
      layersPerToken: point.decoded.layersPerToken,
      ...(point.speed ? { tokensPerSecond: point.speed.tokensPerSecond } : {}),
      ...(operatingPoint === "curve" ? { savedRuntime: null } : timeFields(point, full)),
      ...(operatingPoint === "curve" ? {} : { intervals: intervalsOf(point, curve, own) }),
    });
    const rows = [row(full, "full")];
    for (const rule of lossRules) {
      const chosen = choosePoint(scoredPoints, fullScore, rule);
      if (!chosen) continue;
      const held = heldOutOf(curve, own, rule);
      rows.push({ ...row(chosen.point, rule), ...(held ? { heldOut: held } : {}) });
    }
    rows.push(...points.map((point) => row(point, "curve")));
    return rows;
  });
}

function timeFields(
  { speed }: EvaluatedPoint,
  { speed: full }: EvaluatedPoint,
): Pick<ResultRow, "savedRuntime" | "savedRuntimeRange"> {
  if (!speed || !full || speed.rounds.length === 0 || full.rounds.length === 0)
    return { savedRuntime: null };
  const rounds = speed.rounds.map((own, round) => 1 - own / (full.rounds[round] ?? Number.NaN));
  return {
    savedRuntime: 1 - full.tokensPerSecond / speed.tokensPerSecond,
    savedRuntimeRange: [Math.min(...rounds), Math.max(...rounds)],
  };
}

const RESAMPLES = 1000;
const LEVEL = 0.95;

/** By paired bootstrap over texts. */
function intervalsOf(
  point: EvaluatedPoint,
  { full, seed, leavesOut }: CurveOptions,
  scoresOf: (point: EvaluatedPoint) => readonly number[],
): RowIntervals {
  const [scores, fullScores] = [scoresOf(point), scoresOf(full)];
  const { exits } = point.decoded;
  const sums = exits.map((own) => own.reduce((sum, layer) => sum + layer, 0));
  const rng = createRng(seed).fork("texts");
  const found = { score: [] as number[], difference: [] as number[], layer: [] as number[] };
  for (let round = 0; round < RESAMPLES; round += 1) {
    let [score, difference, layers, tokens] = [0, 0, 0, 0];
    for (let draw = 0; draw < scores.length; draw += 1) {
      const row = rng.int(scores.length);
      score += scores[row] as number;
      difference += (scores[row] as number) - (fullScores[row] as number);
      layers += sums[row] as number;
      tokens += (exits[row] as readonly number[]).length;
    }
    found.score.push(score / scores.length);
    found.difference.push(difference / scores.length);
    if (tokens > 0) found.layer.push(layers / tokens);
  }
  const range = (values: number[]): readonly [number, number] => {
    values.sort((a, b) => a - b);
    const at = (share: number) => values[Math.round(share * (values.length - 1))] as number;
    return [at((1 - LEVEL) / 2), at((1 + LEVEL) / 2)];
  };
  const beyond = (test: (value: number) => boolean) =>
    found.difference.filter(test).length / RESAMPLES;
  const p =
    2 *
    Math.min(
      beyond((value) => value <= 0),
      beyond((value) => value >= 0),
    );
  const [low, high] = range(found.difference);
  return {
    level: LEVEL,
    resamples: RESAMPLES,
    score: range(found.score),
    meanExitLayer:
      found.layer.length === 0 || !(leavesOut || point === full) ? null : range(found.layer),
    scoreDifference: { low, high, p: Math.min(1, Math.max(p, 1 / RESAMPLES)) },
  };
}

/** The same rule on one half of the texts, reported on the other. */
function heldOutOf(
  { points, full, seed, layers, leavesOut }: CurveOptions,
  scoresOf: (point: EvaluatedPoint) => readonly number[],
  rule: LossRule,
): ResultRow["heldOut"] | undefined {
  const n = scoresOf(full).length;
  if (n < 4) return undefined;
  const { choose, report } = splitHalves(n, seed);
  const mean = (point: EvaluatedPoint, rows: readonly number[]) =>
    meanOf(rows.map((row) => scoresOf(point)[row] as number));
  const layer = ({ decoded }: EvaluatedPoint, rows: readonly number[]) =>
    meanOf(rows.flatMap((row) => decoded.exits[row] as readonly number[]));
  const candidates = points.map((point) => ({
    point,
    score: mean(point, choose),
    // Layers run are known of all texts together.
    cost: leavesOut ? layer(point, choose) : point.decoded.layersPerToken,
  }));
  const best = choosePoint(candidates, mean(full, choose), rule);
  if (!best) return undefined;
  const [score, fullScore] = [mean(best.point, report), mean(full, report)];
  const gaps = report.map(
    (row) => (scoresOf(best.point)[row] as number) - (scoresOf(full)[row] as number),
  );
  const variance = meanOf(gaps.map((gap) => (gap - meanOf(gaps)) ** 2));
  const meanExitLayer = leavesOut ? layer(best.point, report) : null;
  return {
    knob: best.point.decoded.knob,
    n: report.length,
    score,
    fullScore,
    balancedAccuracy: null,
    meanExitLayer,
    savedLayers: meanExitLayer === null ? null : 1 - meanExitLayer / layers,
    relativeLoss: fullScore === 0 ? 0 : (fullScore - score) / Math.abs(fullScore),
    standardError: Math.sqrt(variance / report.length),
  };
}

function meanExit({ exits }: DecodedPoint): number {
  return meanOf(exits.flat());
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

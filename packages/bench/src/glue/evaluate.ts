/** @file From a method's curve to rows of `results.json`: scores, operating points, held-out halves, times. */
import type { TrainingRow } from "@cee/backbone";
import type { DataRow, TaskDefinition } from "../data/task.js";
import type { CurvePoint, Method, TimedModel } from "../methods/method.js";
import { score } from "../metrics/score.js";
import {
  type Curve,
  chooseHeldOut,
  chooseOperatingPoints,
  heldOutFields,
  type LossRule,
  lossRules,
} from "../protocol/operating-points.js";
import { countExitsBy, layerFields, type OperatingPoint, type ResultRow } from "../results.js";
import { timeModels } from "./timing.js";

export interface EvaluateOptions {
  readonly task: TaskDefinition;
  readonly method: Method;
  readonly seed: number;
  readonly depth: number;
  /** As results name it: `dev`, `dev-mismatched`. */
  readonly split: string;
  readonly dev: readonly DataRow[];
  readonly encoded: readonly TrainingRow[];
  readonly padId: number;
  /** The full-depth model's answers, which every method is measured against. */
  readonly full: CurvePoint;
  readonly points: readonly CurvePoint[];
  /** Rows that are timed. @default 32 */
  readonly timedRows?: number;
  readonly signal?: AbortSignal | undefined;
}

const pointNames: Readonly<Record<LossRule, OperatingPoint>> = {
  "no-loss": "no-loss",
  "one-percent": "one-percent",
};

/** Makes the rows of one method. */
export async function evaluate(options: EvaluateOptions): Promise<ResultRow[]> {
  const { task, method, seed, depth, split, dev, full, points } = options;
  const labels = dev.map((row) => row.label);
  const fullScore = score(task.metric, full.predictions, labels);
  const rowOf = (
    point: CurvePoint,
    operatingPoint: OperatingPoint,
    savedRuntime: number | null,
  ): ResultRow => ({
    task: task.name,
    method: method.name,
    seed,
    split,
    metric: task.metric,
    score: score(task.metric, point.predictions, labels),
    fullScore,
    operatingPoint,
    knob: point.knob,
    options: point.options,
    ...layerFields(point.exitLayers, depth),
    savedRuntime,
    n: dev.length,
    scores: Object.fromEntries(
      task.metrics.map((metric) => [metric, score(metric, point.predictions, labels)]),
    ),
    ...(point.exitLayers && operatingPoint !== "curve"
      ? { exitHistogramBy: countExitsBy(point.exitLayers, depth, groupsOf(dev, task)) }
      : {}),
  });

  if (method.name === "full") return [rowOf(full, "full", 0)];
  const curve: Curve<CurvePoint> = {
    points,
    full: full.predictions,
    labels,
    metric: task.metric,
    layers: depth,
  };
  const chosen = chooseOperatingPoints(curve);
  const picks = { "no-loss": chosen.noLoss?.point, "one-percent": chosen.onePercent?.point };
  const saved = await timeAll(
    options,
    [...new Set(Object.values(picks))].filter((p) => p !== undefined),
  );
  const rows = points.map((point) => rowOf(point, "curve", null));
  for (const rule of lossRules) {
    const point = picks[rule];
    if (!point) continue;
    const heldOut = dev.length >= 2 ? chooseHeldOut(curve, rule, { seed }) : undefined;
    rows.push({
      ...rowOf(point, pointNames[rule], saved.get(point) ?? null),
      ...(heldOut ? { heldOut: heldOutFields(heldOut) } : {}),
    });
  }
  return rows;
}

/** Saved runtime per operating point, all of them against full depth in the same rounds. */
async function timeAll(
  { full, encoded, padId, timedRows = 32, signal }: EvaluateOptions,
  points: readonly CurvePoint[],
): Promise<ReadonlyMap<CurvePoint, number>> {
  if (points.length === 0) return new Map();
  const stride = Math.max(1, Math.floor(encoded.length / timedRows));
  const rows = encoded.filter((_, row) => row % stride === 0).slice(0, timedRows);
  const models: TimedModel[] = [];
  const reference = await full.open();
  try {
    for (const point of points) models.push(await point.open());
    const { savedRuntime } = await timeModels(reference, models, { rows, padId, signal });
    return new Map(points.map((point, index) => [point, savedRuntime[index] as number]));
  } finally {
    await reference.dispose();
    for (const model of models) await model.dispose();
  }
}

/** What exits are counted by: how hard a generated row is, or its class. */
function groupsOf(dev: readonly DataRow[], task: TaskDefinition): string[] {
  return dev.map(
    ({ hardness, label }) =>
      hardness ?? (task.regression ? "all" : (task.labels[label] ?? String(label))),
  );
}

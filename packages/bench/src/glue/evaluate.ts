/** @file From a method's curve to rows of `results.json`: scores, operating points, held-out halves, intervals, times. */
import type { TrainingRow } from "@cee/backbone";
import { predictionOf } from "@cee/exit-policies";
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
import { classFields, earlyExitFields, rowIntervals } from "../protocol/row-statistics.js";
import {
  countExitsBy,
  type InputStrip,
  layerFields,
  type OperatingPoint,
  type ResultRow,
  type RowIntervals,
} from "../results.js";
import {
  type AnsweredPoint,
  describeRow,
  nameOf,
  type SplitAnswers,
  stripRows,
} from "./answers.js";
import type { Exclusively } from "./task-run.js";
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
  /** Show some rows layer by layer. @default false */
  readonly strips?: boolean;
  /** Quote the texts of given data; those of generated rows are always kept. @default false */
  readonly texts?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Runs the clock while nothing else does. @default at once */
  readonly exclusively?: Exclusively;
}

/** What one method gave on one split. */
export interface Evaluation {
  readonly rows: readonly ResultRow[];
  readonly answers: SplitAnswers;
  readonly inputs: readonly InputStrip[];
  /** The points behind the no-loss and one-percent rows. */
  readonly picks: Readonly<Partial<Record<LossRule, CurvePoint>>>;
}

/** Makes the rows of one method. */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { task, method, seed, depth, split, dev, full, points } = options;
  const labels = dev.map((row) => row.label);
  const fullScore = score(task.metric, full.predictions, labels);
  const rowOf = (
    point: CurvePoint,
    operatingPoint: OperatingPoint,
    time?: TimeFields,
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
    ...(point.cost === undefined ? {} : { cost: point.cost }),
    savedRuntime: null,
    ...time,
    n: dev.length,
    scores: Object.fromEntries(
      task.metrics.map((metric) => [metric, score(metric, point.predictions, labels)]),
    ),
    ...(operatingPoint === "curve" ? {} : detailsOf(point)),
  });
  const detailsOf = (point: CurvePoint): Partial<ResultRow> => {
    const interval = intervals.get(point);
    return {
      ...(point.exitLayers ? exitGroups(point.exitLayers, depth, dev, task) : {}),
      ...(interval ? { intervals: interval } : {}),
      ...(task.regression ? {} : { perClass: classFields(point, labels, task.labels) }),
      ...(task.regression || point.exitLayers === null || method.name === "full"
        ? {}
        : {
            earlyExits: earlyExitFields(
              { predictions: point.predictions, exitLayers: point.exitLayers },
              labels,
              task.labels,
              depth,
            ),
          }),
    };
  };
  const answersOf = (named: Partial<Record<AnsweredPoint, CurvePoint>>): SplitAnswers => ({
    split,
    labels,
    points: Object.fromEntries(
      Object.entries(named).map(([name, { predictions, exitLayers }]) => [
        name,
        // Lists, as a worker process passes them on as JSON.
        {
          predictions: Array.from(predictions),
          exitLayers: exitLayers === null ? null : Array.from(exitLayers),
        },
      ]),
    ),
  });

  const intervals = new Map<CurvePoint, RowIntervals>();
  const measure = (wanted: readonly CurvePoint[]) => {
    const found = rowIntervals(wanted, {
      metric: task.metric,
      labels,
      full: full.predictions,
      seed,
    });
    for (const [index, point] of wanted.entries())
      intervals.set(point, found[index] as RowIntervals);
  };
  if (method.name === "full") {
    measure([full]);
    const rows = [rowOf(full, "full", { savedRuntime: 0 })];
    return { rows, answers: answersOf({ full }), inputs: [], picks: {} };
  }
  const curve: Curve<CurvePoint> = {
    points,
    full: full.predictions,
    labels,
    metric: task.metric,
    layers: depth,
  };
  const chosen = chooseOperatingPoints(curve);
  const picks: Partial<Record<LossRule, CurvePoint>> = {
    ...(chosen.noLoss ? { "no-loss": chosen.noLoss.point } : {}),
    ...(chosen.onePercent ? { "one-percent": chosen.onePercent.point } : {}),
  };
  const picked = [...new Set(Object.values(picks))];
  measure(picked);
  const saved = await timeAll(options, picked);
  const rows = points.map((point) => rowOf(point, "curve"));
  for (const rule of lossRules) {
    const point = picks[rule];
    if (!point) continue;
    const heldOut = dev.length >= 2 ? chooseHeldOut(curve, rule, { seed }) : undefined;
    rows.push({
      ...rowOf(point, rule, saved.get(point)),
      ...(heldOut ? { heldOut: heldOutFields(heldOut) } : {}),
    });
  }
  const shown = picks["one-percent"] ?? picks["no-loss"];
  return {
    rows,
    answers: answersOf(picks),
    inputs: options.strips === true ? stripsOf(options, shown) : [],
    picks,
  };
}

/** Some rows of a strategy, layer by layer, as the shown point or else the first one sees them. */
function stripsOf(
  { task, method, seed, split, dev, points, depth, texts = false }: EvaluateOptions,
  shown: CurvePoint | undefined,
): InputStrip[] {
  const point = shown ?? points[0];
  const { trace, exitLayers } = point ?? {};
  if (!trace || !exitLayers) return [];
  const { record, strategy } = trace;
  const definition = strategy.definition.knob;
  // Points of another record come from another model: moving its knob would not move this row.
  const family = points.filter(
    ({ trace: other, knob, exitLayers: exits }) => other?.record === record && knob && exits,
  );
  const { classes, task: kind } = record.shape;
  return stripRows(dev.length).map((row) => {
    const cells = Array.from({ length: depth }, (_, index) => row * depth + index);
    return {
      task: task.name,
      split,
      method: method.name,
      seed,
      ...describeRow(dev[row] as DataRow, task, texts),
      answers: cells.map((cell) =>
        nameOf(predictionOf(kind, record.logits, cell * classes, classes), task),
      ),
      observed:
        record.observedWidth === 1
          ? cells.map((cell) => {
              const value = record.observed[cell] as number;
              return Number.isFinite(value) ? Number(value.toPrecision(4)) : null;
            })
          : null,
      knob:
        definition && family.length > 1
          ? {
              name: definition.option,
              direction: definition.direction,
              value: shown?.knob?.value ?? null,
              exits: family
                .map(
                  ({ knob, exitLayers: exits }) =>
                    [knob?.value as number, exits?.[row] as number] as const,
                )
                .sort((a, b) => a[0] - b[0]),
            }
          : null,
      exit: exitLayers[row] as number,
    };
  });
}

type TimeFields = Pick<ResultRow, "savedRuntime" | "savedRuntimeRange">;

/** Saved runtime per operating point, all of them against full depth in the same rounds. */
async function timeAll(
  { full, encoded, padId, timedRows = 32, signal, exclusively = (run) => run() }: EvaluateOptions,
  points: readonly CurvePoint[],
): Promise<ReadonlyMap<CurvePoint, TimeFields>> {
  if (points.length === 0) return new Map();
  const stride = Math.max(1, Math.floor(encoded.length / timedRows));
  const rows = encoded.filter((_, row) => row % stride === 0).slice(0, timedRows);
  const models: TimedModel[] = [];
  const reference = await full.open();
  try {
    for (const point of points) models.push(await point.open());
    const { savedRuntime, savedRuntimeRange } = await exclusively(() =>
      timeModels(reference, models, { rows, padId, signal }),
    );
    return new Map(
      points.map((point, index) => [
        point,
        {
          savedRuntime: savedRuntime[index] as number,
          savedRuntimeRange: savedRuntimeRange[index] as readonly [number, number],
        },
      ]),
    );
  } finally {
    await reference.dispose();
    for (const model of models) await model.dispose();
  }
}

/** Exits by how hard a generated row is and by its class; of given data by class alone. */
function exitGroups(
  exitLayers: Int32Array,
  depth: number,
  dev: readonly DataRow[],
  task: TaskDefinition,
): Pick<ResultRow, "exitHistogramBy" | "exitHistogramByClass"> {
  const classes = dev.map(({ label }) =>
    task.regression ? "all" : (task.labels[label] ?? String(label)),
  );
  const isGenerated = dev.some(({ hardness }) => hardness !== undefined);
  const kinds = dev.map(({ hardness }, row) => hardness ?? (classes[row] as string));
  return {
    exitHistogramBy: countExitsBy(exitLayers, depth, kinds),
    ...(isGenerated && !task.regression
      ? { exitHistogramByClass: countExitsBy(exitLayers, depth, classes) }
      : {}),
  };
}

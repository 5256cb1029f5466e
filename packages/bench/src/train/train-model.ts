/**
 * @file Trains a text classifier with exits on a user's data, chooses its operating point on held-out rows, and saves a
 * folder that `EarlyExitModel.fromPretrained` opens.
 */
import { rm, writeFile } from "node:fs/promises";
import path from "node:path";
import type { ExitEncoder } from "@cee/backbone";
import { saveEarlyExitModel } from "@cee/consistentee";
import type { Engine } from "@cee/engine";
import { never, replay } from "@cee/exit-policies";
import type { LoadedTask, TaskDefinition } from "../data/task.js";
import { BenchError } from "../errors.js";
import { prepareBackbone, rateFactor } from "../glue/backbone.js";
import { planTrainings, rowsOf, stepsOf } from "../glue/estimate.js";
import { prepareRows } from "../glue/prepare.js";
import type { ProgressLine } from "../glue/progress.js";
import { digest, rowsDigest, unitsPerRow, weightsDigest } from "../glue/task-run.js";
import { versionsOf } from "../glue/versions.js";
import type { CurvePoint } from "../methods/method.js";
import { createWorkbench, type OpenWorkbench } from "../methods/workbench.js";
import { type MetricName, score } from "../metrics/score.js";
import { fastestWithin } from "../protocol/operating-points.js";
import { layerFields } from "../results.js";
import type { Trainable } from "./trainable.js";

export interface TrainOptions {
  readonly task: LoadedTask;
  readonly trainable: Trainable;
  readonly backbone: string;
  readonly preset: "small" | "paper";
  readonly epochs: number | undefined;
  readonly maxLength: number;
  readonly seed: number;
  /** Share of full depth's score that may be given up for speed. */
  readonly maxLoss: number;
  readonly out: string;
  readonly engine: Engine;
  readonly progress: ProgressLine;
  readonly signal: AbortSignal;
}

/** What was trained, and what it does on the held-out rows; written into the folder as {@link REPORT_FILE}. */
export interface TrainReport {
  readonly data: string;
  readonly rows: { readonly train: number; readonly validation: number; readonly dev: number };
  readonly labels: readonly string[];
  readonly backbone: string;
  readonly strategy: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly seed: number;
  readonly metric: MetricName;
  readonly score: number;
  /** Of the same model without exits. */
  readonly fullScore: number;
  /** By metric. */
  readonly scores: Readonly<Record<string, number>>;
  readonly layers: number;
  readonly meanExitLayer: number;
  readonly savedLayers: number;
  /** Rows that left at layer 1, …, L. */
  readonly exitHistogram: readonly number[];
  /** Said where no setting kept within `maxLoss`, or where every answer is the same. */
  readonly note?: string;
  readonly versions: Readonly<Record<string, string>>;
}

/** Beside the model's own files. */
export const REPORT_FILE = "training.json";
/** Where checkpoints are until the model is whole. */
export const CHECKPOINTS = "trainings";

/**
 * Trains, chooses and saves. Run again after a stop, it goes on from its checkpoints.
 * @throws what training and saving throw; BackboneError `ABORTED` after a stop
 */
export async function trainModel(options: TrainOptions): Promise<TrainReport> {
  const { task, trainable, progress, seed, out } = options;
  const encoder = await prepareBackbone({
    spec: options.backbone,
    task,
    seed,
    maxLength: options.maxLength,
    progress,
    signal: options.signal,
  });
  const reason = trainable.method.unsupported(encoder.shape.task);
  if (reason !== undefined) throw new BenchError("BAD_OPTION", "--strategy", `${reason}.`);
  const rows = prepareRows(task, encoder, { seed, maxLength: options.maxLength });
  if (rows.truncated > 0.01)
    progress.print(
      `${Math.round(rows.truncated * 100)} % of the held-out rows were cut to ${options.maxLength} tokens; --max-length allows more.`,
    );
  progress.print(
    `Training ${trainable.method.name} on ${rows.train.length} rows (${options.engine.description}).`,
  );
  const bench = openBench(options, encoder, rows);
  try {
    const points = await trainable.method.run(bench);
    progress.update("choosing the operating point");
    const { point, note } = choose(points, options);
    const { trained, trace } = point;
    if (!trained || !trace)
      throw new Error(`internal: ${trainable.method.name} is no strategy on one model`);
    await saveEarlyExitModel(
      {
        encoder: {
          ...encoder,
          head: trained.model.head,
          params: trained.params,
          trainedHeads: trained.trained.heads,
        },
        strategy: trace.strategy,
        reports: trained.reports,
        seed,
      },
      out,
    );
    const report = describe(options, rows, point, encoder.shape.depth, note);
    await writeFile(path.join(out, REPORT_FILE), `${JSON.stringify(report, null, 2)}\n`);
    await rm(path.join(out, CHECKPOINTS), { recursive: true, force: true });
    return report;
  } finally {
    await bench.dispose();
    progress.stop();
  }
}

function describe(
  { task: { task: definition, splits }, backbone, seed, engine }: TrainOptions,
  prepared: ReturnType<typeof prepareRows>,
  { trace, predictions, exitLayers }: CurvePoint,
  depth: number,
  note: string | undefined,
): TrainReport {
  const labels = splits.dev.map(({ label }) => label);
  const { layers, meanExitLayer, savedLayers, exitHistogram } = layerFields(exitLayers, depth);
  const strategy = trace?.strategy;
  return {
    data: definition.title,
    rows: {
      train: prepared.train.length,
      validation: prepared.validation.length,
      dev: prepared.dev.length,
    },
    labels: definition.labels,
    backbone,
    strategy: strategy?.name ?? "",
    options: (strategy?.options ?? {}) as Readonly<Record<string, unknown>>,
    seed,
    metric: definition.metric,
    score: score(definition.metric, predictions, labels),
    fullScore: score(definition.metric, fullOf(trace), labels),
    scores: Object.fromEntries(
      definition.metrics.map((metric) => [metric, score(metric, predictions, labels)]),
    ),
    layers: layers as number,
    meanExitLayer: meanExitLayer as number,
    savedLayers: savedLayers as number,
    exitHistogram: exitHistogram as readonly number[],
    ...(note === undefined ? {} : { note }),
    versions: versionsOf(engine),
  };
}

function openBench(
  options: TrainOptions,
  encoder: ExitEncoder,
  rows: ReturnType<typeof prepareRows>,
): OpenWorkbench {
  const { task, trainable, preset, epochs, seed, engine, progress, signal } = options;
  const rate = rateFactor(options.backbone);
  const units = new Map<string, number>();
  const bench = createWorkbench({
    engine,
    model: { config: encoder.config, shape: encoder.shape, head: encoder.head },
    params: encoder.params,
    taskName: task.task.name,
    seed,
    preset,
    epochs,
    rate,
    train: rows.train,
    validation: rows.validation,
    dev: rows.dev,
    // Other rows, another backbone or another code of the strategy are another training.
    identity: {
      data: digest([
        rowsDigest([rows.train, rows.validation, rows.dev]),
        weightsDigest(encoder),
        trainable.source ?? null,
        preset,
        epochs ?? null,
        rate,
      ]),
    },
    out: options.out,
    progress,
    signal,
    unitsPerStep: (phase) => units.get(phase) ?? 0,
  });
  const perRow = unitsPerRow(task);
  for (const { phases, rows: passes } of planTrainings([trainable.method], bench)) {
    progress.plan(passes * perRow);
    for (const phase of phases)
      units.set(
        phase.name,
        (rowsOf(phase, rows.train.length) * perRow) / stepsOf([phase], rows.train.length),
      );
  }
  return bench;
}

/** The fastest point that keeps within the loss; where none does, the best one with a note that says so. */
function choose(
  points: readonly CurvePoint[],
  { task: { task, splits }, maxLoss }: TrainOptions,
): { readonly point: CurvePoint; readonly note?: string } {
  const labels = splits.dev.map(({ label }) => label);
  const scored = points.map((point) => {
    const layers = Array.from(point.exitLayers as Int32Array);
    return {
      point,
      score: score(task.metric, point.predictions, labels),
      fullScore: score(task.metric, fullOf(point.trace), labels),
      cost: layers.reduce((sum, layer) => sum + layer, 0) / layers.length,
    };
  });
  // Trainings of one strategy may differ at full depth too: the best of them is what others must come near.
  const fullScore = Math.max(...scored.map((one) => one.fullScore));
  const found = fastestWithin(scored, fullScore, maxLoss);
  if (found) return { point: found.point, ...constantNote(found.point, task) };
  const best = scored.reduce((a, b) =>
    b.score > a.score || (b.score === a.score && b.cost < a.cost) ? b : a,
  );
  return {
    point: best.point,
    note: `no setting keeps within ${maxLoss * 100} % of full depth's ${task.metric} on the held-out rows; the most accurate one was taken`,
  };
}

/** A model that learned nothing looks fast. */
function constantNote(
  { predictions }: CurvePoint,
  { regression, labels }: TaskDefinition,
): { readonly note?: string } {
  const first = predictions[0] as number;
  if (regression || predictions.length < 2 || predictions.some((value) => value !== first))
    return {};
  return {
    note: `every held-out row is answered "${labels[first]}": the model has learned nothing yet. Train longer (--epochs), on more rows, or from a pre-trained --backbone`,
  };
}

/** Answers at the last layer. */
function fullOf(trace: CurvePoint["trace"]) {
  if (!trace) throw new Error("internal: a point without a record");
  return replay(trace.record, never()).predictions;
}

/** @file One method on one task: decoded, timed, scored, and kept on disk. */
import type { CausalDecoder } from "@cee/backbone";
import { CausalLM } from "@cee/consistentee";
import type { ExitStrategy } from "@cee/exit-policies";
import type { RunFolder } from "../glue/run-folder.js";
import type { BertScore } from "../metrics/bert-score.js";
import type { ResultRow } from "../results.js";
import type { PreparedTask } from "./data.js";
import { type DecodedPoint, type DecodingPoint, decodePoint, timePoints } from "./decode.js";
import { curveMetrics, type EvaluatedPoint, rowsOf, scoreTexts } from "./evaluate.js";
import type { GenerationMethod } from "./options.js";
import { ownKeyValues, type PointSetting, pointsOf, threadsOf, titles } from "./points.js";
import { type CellResponses, type ResponsesFolder, SAMPLES } from "./responses.js";

/** Prompts that are timed one by one, and rounds that count. */
const TIMED = { prompts: 3, rounds: 3 } as const;

export interface CellSetting extends PointSetting {
  readonly bert: BertScore;
  readonly folder: RunFolder;
  readonly responses: ResponsesFolder;
  readonly identity: Readonly<Record<string, string | number>>;
}

/** What every method of a task is compared with. */
export interface Reference {
  readonly task: PreparedTask;
  readonly references: readonly string[];
  readonly point: DecodingPoint;
  readonly decoded: EvaluatedPoint;
}

export interface Cell extends CellResponses {
  readonly rows: readonly ResultRow[];
}

export async function runCell(
  run: CellSetting,
  shared: CausalDecoder,
  reference: Reference,
  method: GenerationMethod,
): Promise<Cell> {
  const { options, context, folder, responses, identity } = run;
  const { task } = reference;
  const names = curveMetrics.map(({ suffix }) => ({
    task: `${task.name}${suffix}`,
    method,
    seed: options.seed,
  }));
  const known = names.map((name) => folder.cells.read(name, identity));
  const said = responses.read(task.name, method);
  if (known.every((rows) => rows !== undefined) && said)
    return { ...said, rows: known.flatMap((rows) => rows ?? []) };
  const opened: CausalLM[] = [];
  const open = async (decoder: CausalDecoder, strategy: ExitStrategy, more: object = {}) => {
    const model = await CausalLM.open(decoder, { ...threadsOf(options), strategy, ...more });
    opened.push(model);
    return model;
  };
  try {
    const points = await pointsOf(run, shared, method, open);
    const decoded: DecodedPoint[] = [];
    for (const [index, point] of points.entries()) {
      context.progress.update(
        `${task.name}: ${titles[method]}, point ${index + 1} of ${points.length}`,
      );
      decoded.push(await decodePoint(point, task.prompts, context.signal));
    }
    context.progress.update(`${task.name}: ${titles[method]}, timing`);
    const timed = task.prompts.slice(0, TIMED.prompts);
    const [speed, ...speeds] = await timePoints(
      [reference.point, ...points],
      timed,
      TIMED.rounds,
      context.signal,
    );
    const evaluated: EvaluatedPoint[] = [];
    for (const [index, one] of decoded.entries()) {
      const scored = await scoreTexts(one.texts, reference.references, run.bert);
      evaluated.push({ decoded: one, scored, speed: speeds[index] });
    }
    const full: EvaluatedPoint = { ...reference.decoded, speed };
    const keyValues = ownKeyValues[method] ?? options.keyValues;
    const leavesOut = keyValues === "copy";
    const rows = rowsOf({
      task: task.name,
      method,
      seed: options.seed,
      layers: shared.shape.depth,
      leavesOut,
      options: { keyValues },
      full,
      points: evaluated,
    });
    const cell: CellResponses = {
      method,
      points: [full, ...evaluated].map(({ decoded: one, scored }) => ({
        knob: one.knob,
        speedup: shared.shape.depth / (leavesOut ? meanOf(one.exits.flat()) : one.layersPerToken),
        texts: one.texts.slice(0, SAMPLES),
        scores: scored.rougeL.slice(0, SAMPLES),
      })),
    };
    for (const name of names)
      await folder.cells.write(
        name,
        identity,
        rows.filter((row) => row.task === name.task),
      );
    await responses.write(task.name, cell);
    return { ...cell, rows };
  } finally {
    for (const model of opened) await model.dispose();
  }
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

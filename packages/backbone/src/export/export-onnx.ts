/** @file An encoder with its exits and its strategy as one ONNX file. */
import { assembleOnnx, type OnnxAssembly, type Precision } from "@cee/engine";
import type { ExitStrategy, Observer } from "@cee/exit-policies";
import { type ExitEncoder, requireTrainedHeads } from "../encoder.js";
import { exitAssembly } from "./exit-graph.js";
import { type ExportRows, traceExits } from "./exit-parts.js";

export interface ExportOnnxOptions {
  /**
   * `one` row per run, or any number of rows that leave at their own layers. A batch of one runs in both; `one` spares
   * it the bookkeeping.
   * @default "many"
   */
  readonly rows?: ExportRows;
  /**
   * `float16` halves the file: weights are rounded to half precision and computed with as before. `int8` quarters it and
   * multiplies in 8-bit integers, with one scale for all rows of a batch, whose last digits then depend on each other;
   * exits and embeddings keep their precision.
   * @default "float32"
   */
  readonly precision?: Precision;
  /**
   * Gives every exit's logits as well, `exit_logits` (`[batch, layers, classes]`, NaN after the layer where the row left):
   * a row's path through the layers.
   * @default false
   */
  readonly exitLogits?: boolean;
  /** What chose the knob, on which data and with which guarantee; written into the file. @default none */
  readonly calibration?: unknown;
}

/**
 * Builds the model: opset 17, IR version 8. It takes `input_ids`, `attention_mask` and `token_type_ids` (int64
 * `[batch, sequence]`) and the strategy's `knob` (float32 scalar), and gives `logits`, `prediction`, `exit_layer`
 * (counted from 1) and `non_finite` (exits of a row that could not decide).
 *
 * @param observer the strategy with its trained parameters (`toObserver` of `@cee/exit-policies`)
 * @throws BackboneError `NOT_EXPORTABLE`, `NOT_TRAINED`
 */
export function exportOnnx(
  encoder: ExitEncoder,
  strategy: ExitStrategy,
  observer: Observer,
  options: ExportOnnxOptions = {},
): Uint8Array {
  const { precision = "float32" } = options;
  return assembleOnnx(exportAssembly(encoder, strategy, observer, options), {
    precision,
    keep: keepsPrecision(precision),
  });
}

/** @throws BackboneError `NOT_EXPORTABLE`, `NOT_TRAINED` */
export function exportAssembly(
  encoder: ExitEncoder,
  strategy: ExitStrategy,
  observer: Observer,
  { rows = "many", precision = "float32", exitLogits = false, calibration }: ExportOnnxOptions,
): OnnxAssembly {
  requireTrainedHeads(encoder, "exportOnnx");
  const parts = traceExits(encoder, encoder.params, strategy, observer, rows);
  return exitAssembly(parts, encoder.shape, {
    rows,
    exitLogits,
    description: `${encoder.shape.depth} layers with exits; leaves by ${strategy.name}`,
    metadata: {
      ...exportMetadata(encoder, strategy, rows, calibration),
      "cee.precision": JSON.stringify(precision),
    },
  });
}

/** What decides is computed as finely as it was trained: exits are a small share of the work. */
export function keepsPrecision(precision: Precision): (weight: string) => boolean {
  return (weight) =>
    precision === "int8" && /\/params\/(backbone\.pooler|heads|strategy)\./.test(weight);
}

/** Everything that a reader needs to use the file, as JSON by name. */
export function exportMetadata(
  { shape, labels, config, head }: ExitEncoder,
  { name, options, definition }: ExitStrategy,
  rows: ExportRows,
  calibration: unknown,
): Record<string, string> {
  const { knob, calibrated = [] } = definition;
  const entries: Record<string, unknown> = {
    "cee.format": 1,
    "cee.task": shape.task,
    "cee.layers": shape.depth,
    "cee.classes": shape.classes,
    "cee.labels": labels ?? null,
    "cee.rows": rows,
    "cee.max_tokens": config.maxPositions,
    "cee.head": head.name,
    "cee.strategy": { name, options },
    "cee.knob": knob
      ? { option: knob.option, default: options[knob.option], direction: knob.direction }
      : null,
    "cee.calibration": {
      options: Object.fromEntries(calibrated.map((option) => [option, options[option]])),
      chosen: calibration ?? null,
    },
  };
  return Object.fromEntries(
    Object.entries(entries).map(([key, value]) => [key, JSON.stringify(value)]),
  );
}

/** @file A model's folder as one ONNX file with the exits inside. */
import { type ExportOnnxOptions, saveOnnx } from "@cee/backbone";
import { type ExitStrategy, never, toObserver, withOptions } from "@cee/exit-policies";
import { ConsistentEEError } from "../errors.js";
import { type CompleteParts, type LoadPartsOptions, loadParts } from "../model-folder.js";
import { isFor } from "../operating-point.js";

export interface ExportOptions extends Omit<ExportOnnxOptions, "calibration"> {
  /** The knob that the file names as its default. @default the model's */
  readonly knob?: number;
}

export interface ExportModelOptions extends LoadPartsOptions, ExportOptions {}

export interface ExportedModel {
  /** The model, and the file with its weights where they are too many for one. */
  readonly files: readonly string[];
  /** In all of them. */
  readonly bytes: number;
  readonly strategy: string;
  /** What callers should feed as `knob`; `undefined` where the strategy has none: feed 0. */
  readonly knob: { readonly option: string; readonly value: number } | undefined;
  /** What a reader of the file should be told. */
  readonly notes: readonly string[];
}

/**
 * Loads a model as `EarlyExitModel.fromPretrained` does and writes it as ONNX: token ids, mask and type ids in; logits,
 * prediction and exit layer out.
 * @throws BackboneError `NOT_EXPORTABLE`, `NOT_TRAINED`, `WRITE_FAILED`; ConsistentEEError `BAD_OPTION`, `NO_EXITS`,
 * `NO_STRATEGY`, `MODEL_MISMATCH`; ExitStrategyError `INVALID_OPTIONS`, and what loading the files throws
 */
export async function exportModel(
  folderOrId: string,
  file: string,
  options: ExportModelOptions = {},
): Promise<ExportedModel> {
  return exportParts(await loadParts(folderOrId, options), file, options);
}

/** The same for a model in memory. */
export function exportParts(
  parts: CompleteParts,
  file: string,
  { knob, ...options }: ExportOptions = {},
): ExportedModel {
  const { encoder, operatingPoint } = parts;
  const { strategy, params, notes } = decidingInFile(parts, knob);
  const chosen = operatingPoint && isFor(operatingPoint, parts.strategy) && knob === undefined;
  const { files, bytes } = saveOnnx(file, encoder, strategy, toObserver(strategy, params), {
    ...options,
    ...(chosen && { calibration: operatingPoint }),
  });
  const dial = strategy.definition.knob;
  return {
    files,
    bytes,
    strategy: strategy.name,
    knob: dial && { option: dial.option, value: strategy.options[dial.option] as number },
    notes,
  };
}

/** The strategy as the file is to have it, with its parameters. */
export function decidingInFile(
  { strategy, params, operatingPoint }: CompleteParts,
  knob: number | undefined,
): Pick<CompleteParts, "strategy" | "params"> & { readonly notes: readonly string[] } {
  if (knob !== undefined) return { strategy: turned(strategy, knob), params, notes: [] };
  if (!operatingPoint?.isFullDepth) return { strategy, params, notes: [] };
  return {
    strategy: never(),
    params: {},
    notes: [
      `the model was set to full depth (${operatingPoint.note}), and so is the file; a knob of yours lets it exit`,
    ],
  };
}

function turned(strategy: ExitStrategy, value: number): ExitStrategy {
  const { knob } = strategy.definition;
  if (!knob)
    throw new ConsistentEEError(
      "BAD_OPTION",
      "knob",
      `${strategy.name} has no knob, got ${value}. Leave it out.`,
    );
  return withOptions(strategy, { [knob.option]: value });
}

/** @file Writes an exported model to disk. */
import { basename } from "node:path";
import { assembleOnnxFiles } from "@cee/engine";
import type { ExitStrategy, Observer } from "@cee/exit-policies";
import type { ExitEncoder } from "../encoder.js";
import { writeFileSyncAtomically } from "../files.js";
import { type ExportOnnxOptions, exportAssembly, keepsPrecision } from "./export-onnx.js";

export interface SavedOnnx {
  /** Paths, the model's first. */
  readonly files: readonly string[];
  /** In all of them. */
  readonly bytes: number;
}

export interface SaveOnnxOptions extends ExportOnnxOptions {
  /** Bytes of weights that the model's file holds; more go to a second one. @default 1.5e9 */
  readonly largest?: number;
}

/**
 * Writes what `exportOnnx` builds, with weights above 1.5 GB in `<file>.data` beside it; what stood under the name stays
 * until the new file is whole.
 * @throws BackboneError `NOT_EXPORTABLE`, `NOT_TRAINED`, `WRITE_FAILED`
 */
export function saveOnnx(
  file: string,
  encoder: ExitEncoder,
  strategy: ExitStrategy,
  observer: Observer,
  { largest, ...options }: SaveOnnxOptions = {},
): SavedOnnx {
  const { precision = "float32" } = options;
  const dataFile = `${file}.data`;
  const { model, data } = assembleOnnxFiles(exportAssembly(encoder, strategy, observer, options), {
    precision,
    keep: keepsPrecision(precision),
    dataFile: basename(dataFile),
    ...(largest === undefined ? {} : { largest }),
  });
  // The weights first: a model without them is none.
  if (data) writeFileSyncAtomically(dataFile, () => data);
  writeFileSyncAtomically(file, () => [model]);
  const more = (data ?? []).reduce((sum, { length }) => sum + length, 0);
  return { files: data ? [file, dataFile] : [file], bytes: model.length + more };
}

/** @file Writes an exported model to disk. */
import type { ExitStrategy, Observer } from "@cee/exit-policies";
import type { ExitEncoder } from "../encoder.js";
import { writeFileSyncAtomically } from "../files.js";
import { type ExportOnnxOptions, exportOnnx } from "./export-onnx.js";

export interface SavedOnnx {
  /** Paths, the model's first. */
  readonly files: readonly string[];
  /** In all of them. */
  readonly bytes: number;
}

/**
 * Writes what {@link exportOnnx} builds; what stood under the name stays until the new file is whole.
 * @throws BackboneError `NOT_EXPORTABLE`, `NOT_TRAINED`, `WRITE_FAILED`
 */
export function saveOnnx(
  file: string,
  encoder: ExitEncoder,
  strategy: ExitStrategy,
  observer: Observer,
  options: ExportOnnxOptions = {},
): SavedOnnx {
  const model = exportOnnx(encoder, strategy, observer, options);
  writeFileSyncAtomically(file, () => [model]);
  return { files: [file], bytes: model.length };
}

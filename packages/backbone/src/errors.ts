/** @file The error of this package: `[who] what is wrong, got what. What to do.` */

export type BackboneErrorCode =
  | "BAD_CONFIG"
  | "UNSUPPORTED_MODEL"
  | "MISSING_FILE"
  | "BAD_FILE"
  | "MISSING_TENSOR"
  | "SHAPE_MISMATCH"
  | "BAD_TOKENIZER"
  | "BAD_INPUT"
  | "BAD_OPTION"
  | "UNKNOWN_HEAD"
  | "NOT_TRAINED"
  | "NOT_EXPORTABLE"
  | "WRITE_FAILED"
  | "DOWNLOAD_FAILED"
  | "OFFLINE"
  | "BAD_LOSS"
  | "BAD_CHECKPOINT"
  | "CHECKPOINT_MISMATCH"
  | "BAD_PHASE"
  | "NAN_LOSS"
  | "ABORTED"
  | "NO_SPACE"
  | "BAD_OBSERVATION"
  | "BAD_ROWS"
  | "NO_MORE_LAYERS"
  | "DISPOSED"
  | "EMPTY_CORPUS"
  | "NOT_UTF8"
  | "ENDLESS_LINE"
  | "BAD_VOCABULARY"
  | "TOO_LONG"
  | "CACHE_TOO_LARGE";

export class BackboneError extends Error {
  override readonly name = "BackboneError";
  constructor(
    readonly code: BackboneErrorCode,
    /** The file, option or function that complains. */
    readonly who: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`[${who}] ${message}`, options);
  }
}

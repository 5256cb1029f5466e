/** @file The error of this package: `[who] what is wrong, got what. What to do.` */

export type ConsistentEEErrorCode =
  | "BAD_RECORD"
  | "MISSING_LABEL"
  | "BAD_INPUT"
  | "BAD_OPTION"
  | "BAD_FILE"
  | "NO_CLASSIFIER"
  | "NOT_TRAINABLE"
  | "QUEUE_FULL"
  | "NO_EXITS"
  | "NO_STRATEGY"
  | "NOT_TRAINED"
  | "NO_TOKENIZER"
  | "MODEL_MISMATCH"
  | "NOT_FINITE"
  | "DISPOSED";

export class ConsistentEEError extends Error {
  override readonly name = "ConsistentEEError";
  constructor(
    readonly code: ConsistentEEErrorCode,
    /** The function or row that complains. */
    readonly who: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`[${who}] ${message}`, options);
  }
}

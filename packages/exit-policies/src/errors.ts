/** @file The error of this package: `[who] what is wrong, got what. What to do.` */

export type ExitStrategyErrorCode =
  | "INVALID_OPTIONS"
  | "ASYNC_SCHEMA"
  | "UNKNOWN_STRATEGY"
  | "DUPLICATE_NAME"
  | "API_MISMATCH"
  | "BAD_DEFINITION"
  | "BAD_OBSERVATION"
  | "BAD_VERDICT"
  | "STRATEGY_THREW"
  | "BAD_RECORD"
  | "NOT_TRAINED"
  | "BAD_FILE"
  | "TASK_UNSUPPORTED"
  | "BAD_PROMPT"
  | "NOT_FINITE";

export class ExitStrategyError extends Error {
  override readonly name = "ExitStrategyError";
  constructor(
    readonly code: ExitStrategyErrorCode,
    /** The strategy, file or function that complains. */
    readonly who: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`[${who}] ${message}`, options);
  }
}

/** @file What the engine throws. */

export type EngineErrorCode =
  /** The function calls a kernel that has no mapping to ONNX. */
  | "UNMAPPED_KERNEL"
  /** The function reads the values of a traced tensor. */
  | "READ_TRACED"
  /** A symbolic size ended up in a constant. */
  | "SYMBOL_LEAK"
  /** A static size cannot be told from a symbolic one. */
  | "SYMBOL_COLLISION"
  /** The function, its specs or the engine's options are not usable as given. */
  | "BAD_OPTION"
  /** An input of a run is missing, or has another type or shape. */
  | "BAD_INPUT"
  /** The function returned something other than a tree of tensors, or failed while it was traced. */
  | "TRACE_FAILED"
  /** The runtime that was asked for does not load here. */
  | "NO_RUNTIME"
  /** The runtime refused the graph or failed while running it. */
  | "RUN_FAILED"
  /** The engine or the compiled function was disposed of before. */
  | "DISPOSED"
  /** The file is not an ONNX model, or not one that can be edited. */
  | "BAD_MODEL";

/** Thrown by every part of the engine. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly code: EngineErrorCode;

  constructor(code: EngineErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

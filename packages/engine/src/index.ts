/** @file The engine: runs tensor functions eagerly or compiled, and what they are built from. */
export {
  type BackendOptions,
  type ChosenBackend,
  useBackend,
} from "./backends.js";
export { createEngine } from "./engine.js";
export { EngineError, type EngineErrorCode } from "./errors.js";
export { embedding, gelu, layerNorm, linear, rmsNorm, softmaxCrossEntropy } from "./fused.js";
export { type ValueAndGrads, type ValueAndGradsOptions, valueAndGrads } from "./gradients.js";
export {
  type AssembleFilesOptions,
  type AssembleOptions,
  assembleOnnx,
  assembleOnnxFiles,
  type OnnxAssembly,
  type OnnxFiles,
  type OnnxPort,
  type OnnxScope,
  type OnnxValue,
} from "./onnx/assembly.js";
export type { Value, ValueType } from "./onnx/graph.js";
export { type OnnxPart, PART_OPSET, traceOnnx } from "./onnx/part.js";
export type { Precision, PrecisionOptions } from "./onnx/precision.js";
export { type AdamWInputs, type AdamWState, adamw, decaysByDefault } from "./optimizers/adamw.js";
export { clipByGlobalNorm, clipScale, globalNorm } from "./optimizers/clip.js";
export { type LinearScheduleOptions, linearSchedule } from "./optimizers/schedule.js";
export { type DropoutOptions, dropout, type RandomOptions, uniform } from "./random.js";
export { createRng, initConstant, initNormal, initUniform, type Rng } from "./rng.js";
export { rememberScope } from "./scopes.js";
export { stopGradient } from "./stop-gradient.js";
export { defineTracedOp, type TracedOp } from "./trace/traced-op.js";
export type { Tracing } from "./trace/tracing.js";
export type {
  BackendName,
  CompiledFunction,
  CompileOptions,
  DType,
  Engine,
  EngineOptions,
  HostParams,
  HostTensor,
  HostTree,
  OnnxTensor,
  OpenedModel,
  RunOptions,
  Runtime,
  SpecTree,
  TensorParams,
  TensorSpec,
  TensorTree,
  Tree,
} from "./types.js";

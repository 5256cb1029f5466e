/** @file The engine: runs tensor functions eagerly or compiled, and what they are built from. */
export { type BackendOptions, type ChosenBackend, useBackend } from "./backends.js";
export { type AdamWInputs, type AdamWState, adamw, decaysByDefault } from "./optimizers/adamw.js";
export { clipByGlobalNorm, globalNorm } from "./optimizers/clip.js";
export { type LinearScheduleOptions, linearSchedule } from "./optimizers/schedule.js";
export { createRng, initConstant, initNormal, initUniform, type Rng } from "./rng.js";
export { stopGradient } from "./stop-gradient.js";
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
  RunOptions,
  Runtime,
  SpecTree,
  TensorParams,
  TensorSpec,
  TensorTree,
  Tree,
} from "./types.js";

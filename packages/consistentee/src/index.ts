/** @file Public entry of `@cee/consistentee`. */
export { type AddExitsOptions, type AddExitsProgress, addExits } from "./add-exits/add-exits.js";
export { consistentEE } from "./consistent-ee.js";
export {
  type ClassifyOptions,
  type DisposeOptions,
  EarlyExitModel,
  type FromPretrainedOptions,
  type ModelOptions,
} from "./early-exit-model.js";
export { ConsistentEEError, type ConsistentEEErrorCode } from "./errors.js";
export {
  type CheckExportOptions,
  checkExport,
  type ExportAgreement,
} from "./export/check-export.js";
export {
  type ExportedModel,
  type ExportModelOptions,
  type ExportOptions,
  exportModel,
} from "./export/export-model.js";
export {
  CausalLM,
  type CausalLMOptions,
  type GenerateOptions,
  type Generation,
  type Prompt,
  type StreamedToken,
} from "./generation/causal-lm.js";
export {
  consistentEEDecoderPlan,
  type DecoderPlanParts,
  decoderOptions,
  initialisedParts,
} from "./generation/decoder-plan.js";
export { consistentEEDecoder } from "./generation/policy-strategy.js";
export type { HeldOutRow } from "./held-out.js";
export { exitLosses, rowLosses, weightedExitLoss } from "./losses.js";
export {
  type MemorizedLayerOptions,
  memorizedLayer,
  memorizedLayerPerRow,
  memorizedLayers,
} from "./memorized-layer.js";
export { type EarlyExitParts, type LoadPartsOptions, saveEarlyExitModel } from "./model-folder.js";
export type {
  AuditEvent,
  AuditReport,
  DriftReport,
  FallbackEvent,
  RequestEvent,
  ServingObserver,
} from "./monitor/events.js";
export type {
  AuditOptions,
  DriftOptions,
  FallbackOptions,
  Health,
  MonitorOptions,
} from "./monitor/monitor.js";
export {
  type MeterLike,
  type OpenTelemetryOptions,
  openTelemetry,
} from "./monitor/open-telemetry.js";
export {
  type Baseline,
  type Draws,
  exactObjective,
  greedyExits,
  logExitProbabilities,
  type SampledOptions,
  sampledExits,
  sampledObjective,
} from "./objective.js";
export type { LatencyPrediction, OperatingPoint, RiskGuarantee } from "./operating-point.js";
export {
  type ConsistentEEInput,
  type ConsistentEEOptions,
  consistentEEPresets,
  consistentEESchema,
  type PhaseSettings,
  resolveOptions,
} from "./options.js";
export { oracleExit, oracleExits } from "./oracle.js";
export { consistentEEPlan, epsilonAt, initialisePhase, policyPhase, taskPhase } from "./phases.js";
export { policyLogit, policyLogits, policyParams } from "./policy.js";
export { exitProbabilities, greedyExit, type PolicyReport, policyReport } from "./policy-report.js";
export type { ClassifyInput, Prediction, TextPair } from "./requests.js";
export {
  layerPrice,
  layerPrices,
  type RecordedRewards,
  type RewardKind,
  type RewardOptions,
  recordedLosses,
  recordedRewards,
  rewards,
  rowRewards,
} from "./reward.js";
export type {
  SelectByLatencyOptions,
  SelectByRiskOptions,
  SelectThresholdOptions,
} from "./select-threshold.js";
export type { RunnerOptions } from "./serve/open-runner.js";

/** @file Public entry of `@cee/exit-policies`. */
export {
  type FixedSequenceResult,
  fixedSequenceTest,
  type TestedCandidate,
} from "./calibration/learn-then-test.js";
export {
  binomialCdf,
  binomialPValue,
  hoeffdingBentkusPValue,
  hoeffdingPValue,
  rowsNeeded,
  shareInterval,
} from "./calibration/p-values.js";
export type { LossKind, RowAnswers } from "./calibration/row-losses.js";
export {
  type CostModel,
  type LatencyOptions,
  type LatencySelection,
  type LengthCosts,
  percentile,
  selectByLatency,
} from "./calibration/select-by-latency.js";
export {
  type RiskOptions,
  type RiskSelection,
  selectByRisk,
} from "./calibration/select-by-risk.js";
export {
  calibrateTextRisk,
  riskLoss,
  type TextRiskOptions,
  type TextRiskResult,
  textualLoss,
} from "./calibration/text-risk.js";
export {
  type Classification,
  type ClassifyOptions,
  classify,
  type ExitChoice,
  type RowAnswer,
  type RowHooks,
} from "./classify.js";
export { type CostSummary, summarise } from "./cost.js";
export { type AnyExitStrategyFactory, defineExitStrategy, withOptions } from "./define.js";
export { type DefinedExitHead, defineExitHead } from "./define-head.js";
export { ExitStrategyError, type ExitStrategyErrorCode } from "./errors.js";
export {
  type DeepComparison,
  type FinishReason,
  type GeneratedToken,
  type GenerateTokensOptions,
  type GenerationStats,
  generateTokens,
  type KeyValues,
  type TokenPrompt,
} from "./generation/generate.js";
export {
  acceptOrReplace,
  draw,
  nextTokenProbabilities,
  paperDecoding,
  type SamplingOptions,
} from "./generation/sampling.js";
export type {
  TokenAdvance,
  TokenPass,
  TokenPassOptions,
  TokenRunner,
} from "./generation/token-model.js";
export type { ExitHead, ExitHeadInput, ExitHeadOutput } from "./head.js";
export type { HostParams, HostTensor } from "./host-tensor.js";
export type {
  ExitModel,
  ExitPass,
  ExitRunner,
  FullOutput,
  LayerOutput,
  Observer,
} from "./model.js";
export { type Agreement, agreement, nearTies } from "./near-ties.js";
export { toObserver } from "./observer.js";
export {
  checkHost,
  type ExitOutcome,
  type HostOptions,
  predictionOf,
  type SweepPoint,
  type TrainedParts,
} from "./outcome.js";
export type { ExitRecord } from "./record.js";
export { readRecord, writeRecord } from "./record-file.js";
export { type RecordedRows, record } from "./recorder.js";
export { createRegistry, nearest, type StrategyRegistry } from "./registry.js";
export { replay, replayAll, replaySweep } from "./replay.js";
export {
  findPlugin,
  type Plugin,
  type ResolveOptions,
  resolveExitHead,
  resolvePlugin,
  resolveStrategy,
} from "./resolve.js";
export { loadStrategy, saveStrategy, type TrainedStrategy } from "./save.js";
export { alwaysAt } from "./strategies/always-at.js";
export { builtInStrategies } from "./strategies/built-in.js";
export { calm, calmMeta, calmState, calmThreshold } from "./strategies/calm.js";
export { type CalmMetaSettings, calmMetaPhase } from "./strategies/calm-meta-phase.js";
export {
  CONFORMAL_TOLERANCE,
  type ConformalHistory,
  conformal,
  conformalAnswer,
  conformalLogits,
  conformalWidth,
  disagreements,
  remembered,
} from "./strategies/conformal.js";
export { entropy } from "./strategies/entropy.js";
export { fastBert } from "./strategies/fast-bert.js";
export { never } from "./strategies/never.js";
export { patience } from "./strategies/patience.js";
export { pcee } from "./strategies/pcee.js";
export { rightTool } from "./strategies/right-tool.js";
export { shallowDeep } from "./strategies/shallow-deep.js";
export { ensembleLogits, zeroTimeWaste } from "./strategies/zero-time-waste.js";
export {
  type AnyDefinition,
  API_VERSION,
  type Carry,
  type DecideContext,
  type ExitSite,
  type ExitStrategy,
  type ExitStrategyDefinition,
  type ExitStrategyFactory,
  type Knob,
  type LayerSite,
  type ModelShape,
  type Observation,
  type ObserveContext,
  type RowState,
  type SignalName,
  type Signals,
  type Task,
  type Verdict,
} from "./strategy.js";
export type {
  PhaseLoss,
  PhasePlan,
  PhaseReport,
  TokenTensors,
  TrainingPhase,
  TrainingStep,
} from "./training.js";

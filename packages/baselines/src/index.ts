/** @file Public entry of `@cee/baselines`. */
export { berxit, ltePhase } from "./berxit.js";
export {
  accepts,
  type CascadeModel,
  type CascadeOutcome,
  type CascadeStage,
  cascadeCost,
  decideCascade,
  loadCascade,
  openCascade,
  type SavedCascade,
  saveCascade,
  unsupportedRegression as unsupportedCascade,
} from "./cascade/cascade.js";
export {
  type CascadeInput,
  type CascadeOptions,
  cascadeOptions,
  cascadeThresholds,
} from "./cascade/options.js";
export {
  cascadePlan,
  type Difficulty,
  difficultyOf,
  difficultyPlan,
  marginLoss,
} from "./cascade/training.js";
export { cat } from "./cat.js";
export { answerAt, answersAt, type OracleOptions, oracleExitLayers } from "./controls/oracle.js";
export {
  evenShares,
  type RandomExitOptions,
  randomExitLayers,
  shuffledExitLayers,
} from "./controls/random-exits.js";
export { truncatedPaths, truncatedPlan } from "./controls/truncated.js";
export { deebert } from "./deebert.js";
export { fastBert } from "./fast-bert.js";
export {
  AdaptiveThreshold,
  type AdaptiveThresholdOptions,
  type Beta,
  estimateThreshold,
} from "./free/adaptive-threshold.js";
export { type FreeOptions, type FreeText, generateFree } from "./free/generate.js";
export { type FreeAlignment, type FreeTrainingOptions, freePhase } from "./free/training.js";
export { loadHashEe, type SavedHashEe, saveHashEe } from "./hashee/folder.js";
export { openHashEe, type TokenwiseModel, type TokenwiseOutcome } from "./hashee/open.js";
export { type HashEeInput, type HashEeOptions, hashEeOptions } from "./hashee/options.js";
export { kMeans, type TokenMap, type TokenMapInput, tokenMap } from "./hashee/token-map.js";
export { hashEePlan, hashEeRegression } from "./hashee/training.js";
export { pabee } from "./pabee.js";
export { pastFuture } from "./past-future.js";
export { pceeBert } from "./pcee-bert.js";
export type { PhaseSettings, Recipe } from "./recipe.js";
export { rightTool } from "./right-tool.js";
export { romeBert } from "./rome-bert.js";
export {
  type BlockSize,
  blockMacs,
  droppedTokenMacs,
  frozenTokenMacs,
  fullMacs,
} from "./token-cost.js";
export { loadTrBert, type SavedTrBert, saveTrBert } from "./tr-bert/folder.js";
export { openTrBert } from "./tr-bert/open.js";
export { type TrBertInput, type TrBertOptions, trBertOptions } from "./tr-bert/options.js";
export { selectorLayers, trBertParams, trBertRegression } from "./tr-bert/selector.js";
export { guideLayer, reinforce, trBertPlan } from "./tr-bert/training.js";
export { zeroTimeWaste } from "./zero-time-waste.js";

export {
  attentionBias,
  type BertContext,
  type BertInputs,
  bertParameters,
  block,
  blockPath,
  type DropoutSite,
  dropoutSite,
  embed,
  encoder,
  firstToken,
  pool,
} from "./bert.js";
export {
  type BertActivation,
  type BertConfig,
  createBertConfig,
  type ProblemType,
  parseBertConfig,
  toBertConfigJson,
} from "./config.js";
export {
  type CausalDecoder,
  type CreateCausalDecoderOptions,
  createCausalDecoder,
  type DecoderHeads,
  type DecoderTokenizer,
  withOwnHeads,
} from "./decoder/decoder.js";
export {
  type LoadCausalDecoderOptions,
  loadCausalDecoder,
  saveCausalDecoder,
  toDecoderTokenizer,
} from "./decoder/folder.js";
export { type DecoderRunner, type OpenDecoderOptions, openDecoder } from "./decoder/open.js";
export type { DecoderText } from "./decoder/train/decoder-subject.js";
export {
  type FitDecoderOptions,
  type FittedDecoder,
  fitDecoder,
} from "./decoder/train/fit-decoder.js";
export type { LoraOptions, LoraTarget } from "./decoder/train/lora.js";
export {
  cutPrompt,
  type Instruction,
  instructionPrompt,
  type PromptTemplate,
  promptParts,
  type Supervised,
  type SupervisedOptions,
  supervisedText,
} from "./decoder/train/supervised.js";
export {
  type CreateExitEncoderOptions,
  createExitEncoder,
  type ExitEncoder,
  requireTrainedHeads,
  type TaskOptions,
} from "./encoder.js";
export {
  EXITS_DESCRIPTION,
  EXITS_FILE,
  type LoadExitEncoderOptions,
  loadExitEncoder,
  saveExitEncoder,
} from "./encoder-folder.js";
export { BackboneError, type BackboneErrorCode } from "./errors.js";
export { exportDecoderOnnx } from "./export/decoder-onnx.js";
export { EXIT_LOGITS, EXPORT_INPUTS, EXPORT_OUTPUTS } from "./export/exit-graph.js";
export type { ExportRows } from "./export/exit-parts.js";
export { type ExportOnnxOptions, exportOnnx } from "./export/export-onnx.js";
export { type ExportFlatOptions, exportFlatOnnx } from "./export/flat-onnx.js";
export { type InGraphExits, openExported, openInGraph } from "./export/in-graph.js";
export { type SavedOnnx, type SaveOnnxOptions, saveOnnx } from "./export/save-onnx.js";
export { readJson, toJsonText, writeAtomically } from "./files.js";
export { copyPooler, createHighway, highway } from "./heads/highway.js";
export { linear } from "./heads/linear.js";
export { type BackboneHead, exitHeads, resolveHead } from "./heads/registry.js";
export { freshParameter, initBackbone, initHeads } from "./init.js";
export {
  emptyLlamaCache,
  type LlamaAngles,
  type LlamaBlockResult,
  type LlamaCache,
  type LlamaFrame,
  type LlamaInputs,
  type LlamaResult,
  llama,
  llamaAngles,
  llamaBlock,
  llamaBlockPath,
  llamaEmbed,
  llamaFrame,
  llamaLogits,
  llamaNorm,
  llamaParameters,
  llamaSkipped,
  llamaStep,
} from "./llama.js";
export { createLlamaConfig, type LlamaConfig, parseLlamaConfig } from "./llama-config.js";
export {
  type Llama2cModel,
  type Llama2cTokenizer,
  loadLlama2c,
  loadLlama2cTokenizer,
} from "./llama2c.js";
export { exportPretrained, initFromFolder } from "./pretrain/folder.js";
export { feedMlm, initPretraining, type MlmInputs } from "./pretrain/mlm.js";
export {
  type PretrainOptions,
  type PretrainReport,
  type PretrainResult,
  pretrain,
} from "./pretrain/pretrain.js";
export { createPretrainProgram, type PretrainProgram } from "./pretrain/program.js";
export { type PretrainSettings, parsePretrainSettings } from "./pretrain/settings.js";
export type { Evaluation, PretrainProgress } from "./pretrain/state.js";
export {
  batchInputs,
  batchSpecs,
  checkBatch,
  type TokenBatch,
  type TokenRow,
  toBatch,
} from "./runner/batch.js";
export { type FlatModel, openFlat } from "./runner/flat.js";
export {
  compileFull,
  type ExtraSignals,
  type FullProgram,
  type OpenOptions,
  openEncoder,
  type RecordedSignal,
} from "./runner/open.js";
export { applyHead, exitSignals, type ModelPlan } from "./runner/signals.js";
export {
  openSafetensors,
  readSafetensors,
  type SafetensorsContent,
  type SafetensorsDType,
  type SafetensorsEntry,
  type SafetensorsFile,
  type WriteSafetensorsOptions,
  writeSafetensors,
} from "./safetensors.js";
export {
  checkTokenizerFits,
  createTokenizer,
  createWordPieceTokenizer,
  type EncodeOptions,
  type TextInput,
  type TextTokenizer,
  type TokenEncoding,
} from "./tokenizer.js";
export { loadTokenizer, saveTokenizer } from "./tokenizer-folder.js";
export {
  type FitOptions,
  type FitProgress,
  type FitResult,
  type FitTrained,
  type FitWatch,
  fit,
  type LoopOptions,
  type TrainingRow,
} from "./train/fit.js";
export { type Recording, type RecordingOptions, recordRows } from "./train/recording.js";
export { createStateStore, type StateStore } from "./train/state-store.js";
export {
  type LoadedBackbone,
  loadBackbone,
  openWeights,
  pathOf,
  readShaped,
  shardNames,
  type TensorSource,
  toHuggingFaceName,
} from "./weights.js";
export { createWordVocabulary, SPECIAL_TOKENS } from "./word-piece.js";
export {
  countWords,
  trainWordPiece,
  type WordPieceTrainingOptions,
  writeWordPiece,
} from "./wordpiece-trainer.js";

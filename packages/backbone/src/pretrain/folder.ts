/** @file Pre-trained folders in Hugging Face layout: written from a run, and read to start another one. */
import { join } from "node:path";
import type { HostParams, HostTensor } from "@cee/engine";
import { type BertConfig, parseBertConfig, toBertConfigJson } from "../config.js";
import { BackboneError } from "../errors.js";
import { readJson, readText, toJsonText, writeAtomically } from "../files.js";
import { writeSafetensors } from "../safetensors.js";
import {
  loadBackbone,
  openWeights,
  readShaped,
  toHuggingFaceName,
  WEIGHTS_FILE,
} from "../weights.js";
import { writeWordPiece } from "../wordpiece-trainer.js";
import { embeddingScale, scaleEmbeddings } from "./embedding-scale.js";
import { initPretraining, mlmParameters } from "./mlm.js";
import type { Growth } from "./settings.js";
import { loadState, type PretrainProgress } from "./state.js";

const CARD = "pretraining.json";
/** In the metadata of the weights: what the embeddings were multiplied by when they were written. */
const SCALE = "embedding_scale";

/** Reads the pieces of a `vocab.txt`, by id. @throws BackboneError `MISSING_FILE` */
export async function readPieces(folder: string): Promise<string[]> {
  const lines = (await readText(join(folder, "vocab.txt"))).split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

export interface ExportOptions {
  /** The run's folder. */
  readonly from: string;
  readonly to: string;
  readonly config: BertConfig;
  /** @default "F16" */
  readonly floats?: "F32" | "F16";
}

/**
 * Writes the weights of a run as a folder that Hugging Face's BertForMaskedLM loads: `model.safetensors`, `config.json`,
 * the tokenizer, and `pretraining.json` with steps and held-out losses. The embeddings are written at the scale of fresh
 * ones, with the same outputs.
 * @throws BackboneError `MISSING_FILE` when the run has no state yet, `WRITE_FAILED`
 */
export async function exportPretrained({
  from,
  to,
  config,
  floats = "F16",
}: ExportOptions): Promise<PretrainProgress> {
  const state = loadState(from, config);
  if (state === undefined) {
    const message = "holds no state of a pre-training run yet. Wait for its first checkpoint.";
    throw new BackboneError("MISSING_FILE", from, message);
  }
  const { progress, params } = state;
  await writeWordPiece(to, await readPieces(from));
  const scale = embeddingScale(params, config);
  const weights: Record<string, HostTensor> = {};
  for (const [path, tensor] of Object.entries(scaleEmbeddings(params, scale)))
    weights[fileName(path)] = tensor;
  writeSafetensors(join(to, WEIGHTS_FILE), weights, {
    floats,
    metadata: { format: "pt", steps: String(progress.step), [SCALE]: String(scale) },
  });
  const named = { ...config, extra: { architectures: ["BertForMaskedLM"], ...config.extra } };
  await writeAtomically(join(to, "config.json"), toJsonText(toBertConfigJson(named)));
  const { step, rows, tokens, seconds, evaluations } = progress;
  await writeAtomically(join(to, CARD), toJsonText({ step, rows, tokens, seconds, evaluations }));
  return progress;
}

/**
 * Starts from the weights of a folder. A shallower model grows to the depth, of a deeper one the first blocks
 * are taken, and what the folder lacks (another program's checkpoint has no pair head) is initialised.
 * @throws BackboneError `SHAPE_MISMATCH` when the sizes differ, or the depth is larger and no multiple while blocks are stacked
 */
export async function initFromFolder(
  folder: string,
  config: BertConfig,
  seed: number,
  growth: Growth = "stack",
): Promise<HostParams> {
  const path = join(folder, "config.json");
  const own = parseBertConfig(await readJson(path), path);
  const sizes = [
    "vocabSize",
    "hidden",
    "heads",
    "intermediate",
    "maxPositions",
    "typeVocab",
  ] as const;
  for (const name of sizes) if (own[name] !== config[name]) throw mismatch(path, name, config, own);
  if (growth === "stack" && own.depth < config.depth && config.depth % own.depth !== 0)
    throw mismatch(path, "depth", config, own);

  const source = await openWeights(folder);
  try {
    const loaded = loadBackbone(source, own, { seed, who: folder }).params;
    const params: Record<string, HostTensor> = { ...initPretraining(config, seed) };
    for (const name of Object.keys(params)) {
      const source = growth === "stack" ? stackedFrom : passedFrom;
      const tensor = loaded[source(name, own.depth)];
      if (tensor !== undefined) params[name] = tensor;
    }
    for (const [name, shape] of mlmParameters(config)) {
      const stored = fileName(name);
      if (source.files.has(stored)) params[name] = readShaped(source, stored, shape);
    }
    const scale = Number(source.metadata[SCALE] ?? 1);
    return Number.isFinite(scale) && scale > 0 ? scaleEmbeddings(params, 1 / scale) : params;
  } finally {
    source.close();
  }
}

function stackedFrom(path: string, depth: number): string {
  return path.replace(/(?<=^backbone\.encoder\.layer\.)\d+/, (index) =>
    String(Number(index) % depth),
  );
}

/** A block on top keeps its fresh weights, which are small; its LayerNorms are the last block's outer one. */
function passedFrom(path: string, depth: number): string {
  const [, layer, norm] =
    /^backbone\.encoder\.layer\.(\d+)\.(?:.*\.)?(LayerNorm\.\w+)$/.exec(path) ?? [];
  if (norm === undefined || Number(layer) < depth) return path;
  return `backbone.encoder.layer.${depth - 1}.output.${norm}`;
}

function fileName(path: string): string {
  if (path.startsWith("mlm.pair.")) return path.replace("mlm.pair.", "cls.pair_relation.");
  if (path.startsWith("mlm.")) return path.replace("mlm.", "cls.predictions.");
  return toHuggingFaceName(path);
}

function mismatch(path: string, name: keyof BertConfig, wanted: BertConfig, own: BertConfig) {
  const rule = name === "depth" ? `a divisor of ${wanted[name]}` : String(wanted[name]);
  return new BackboneError(
    "SHAPE_MISMATCH",
    path,
    `${name} must be ${rule} to start this run, got ${String(own[name])}. Change the configuration's model or choose another folder.`,
  );
}

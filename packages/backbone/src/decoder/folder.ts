/** @file A decoder from a Hugging Face folder or llama2.c's files, and into a folder. */
import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { HostTensor } from "@cee/engine";
import { BackboneError } from "../errors.js";
import { exists, readJson, replaceFiles, toJsonText, writeAtomically } from "../files.js";
import { llamaParameters } from "../llama.js";
import { type LlamaConfig, parseLlamaConfig } from "../llama-config.js";
import { loadLlama2c, loadLlama2cTokenizer } from "../llama2c.js";
import { readSafetensors, writeSafetensors } from "../safetensors.js";
import type { TextTokenizer } from "../tokenizer.js";
import { loadTokenizer } from "../tokenizer-folder.js";
import { openWeights, readShaped, type TensorSource, WEIGHTS_FILE } from "../weights.js";
import {
  type CausalDecoder,
  checkDecoderTokenizer,
  type DecoderHeads,
  type DecoderTokenizer,
  decoderShape,
  projectionPath,
} from "./decoder.js";

const DESCRIPTION = "cee.json";
const EXITS = "exits.safetensors";

export interface LoadCausalDecoderOptions {
  /** A tokenizer file of llama2.c's. @default `tokenizer.bin` or `tok<vocabulary>.bin` beside the model */
  readonly tokenizer?: string;
}

/**
 * Loads a folder in Hugging Face layout (`config.json` of a `LlamaForCausalLM`, safetensors, `tokenizer.json`), or a
 * `.bin` file in llama2.c's legacy layout.
 * @throws BackboneError `MISSING_FILE`, `BAD_FILE`, `BAD_CONFIG`, `UNSUPPORTED_MODEL`, `MISSING_TENSOR`, `SHAPE_MISMATCH`, `BAD_TOKENIZER`
 */
export async function loadCausalDecoder(
  path: string,
  options: LoadCausalDecoderOptions = {},
): Promise<CausalDecoder> {
  const found = await stat(path).catch(() => undefined);
  if (!found) {
    throw new BackboneError(
      "MISSING_FILE",
      path,
      "is not there. Give the folder of a LLaMA model, or a llama2.c file.",
    );
  }
  return found.isDirectory() ? loadFolder(path, options) : loadBinary(path, options);
}

async function loadBinary(
  path: string,
  { tokenizer: given }: LoadCausalDecoderOptions,
): Promise<CausalDecoder> {
  const { config, params } = await loadLlama2c(path);
  const tokenizer = await llama2cTokenizer(dirname(path), config, given);
  return {
    config,
    shape: decoderShape(config),
    heads: "shared",
    params,
    tokenizer,
    trainedHeads: [config.depth],
    notes: tokenizer ? [] : [`found no tokenizer: ${besideOf(dirname(path), config).join(", ")}`],
  };
}

/** Where llama2.c's tokenizers lie. */
function besideOf(folder: string, { vocabSize }: LlamaConfig): readonly string[] {
  return ["tokenizer.bin", `tok${vocabSize}.bin`].map((name) => join(folder, name));
}

/** The given file, or one that lies in the folder. */
async function llama2cTokenizer(
  folder: string,
  config: LlamaConfig,
  given: string | undefined,
): Promise<DecoderTokenizer | undefined> {
  let file = given;
  for (const candidate of besideOf(folder, config))
    if (file === undefined && (await exists(candidate))) file = candidate;
  if (file === undefined) return undefined;
  const own = await loadLlama2cTokenizer(file, config.vocabSize);
  return { ...own, encode: (text) => own.encode(text) };
}

async function loadFolder(
  folder: string,
  options: LoadCausalDecoderOptions,
): Promise<CausalDecoder> {
  const configPath = join(folder, "config.json");
  const config = parseLlamaConfig(await readJson(configPath), configPath);
  const tokenizer = await folderTokenizer(folder, config, options);
  const source = await openWeights(folder);
  try {
    const { params, extra } = readBackbone(source, config, folder);
    const exits = await readExits(folder, config);
    return {
      config,
      shape: decoderShape(config),
      heads: exits?.heads ?? "shared",
      params: { ...params, ...exits?.params },
      tokenizer,
      trainedHeads: exits?.trainedHeads ?? [config.depth],
      notes: extra.length === 0 ? [] : [`not used: ${extra.join(", ")}`],
    };
  } finally {
    source.close();
  }
}

async function folderTokenizer(
  folder: string,
  config: LlamaConfig,
  { tokenizer: given }: LoadCausalDecoderOptions,
): Promise<DecoderTokenizer | undefined> {
  const path = join(folder, "tokenizer.json");
  // A model that came from llama2.c's files keeps its tokenizer when it is saved as a folder.
  if (given !== undefined || !(await exists(path))) return llama2cTokenizer(folder, config, given);
  const tokenizer = toDecoderTokenizer(await loadTokenizer(folder));
  checkDecoderTokenizer(tokenizer, config, path);
  return tokenizer;
}

/** Any tokenizer for a decoder; texts may be as long as they are. */
export function toDecoderTokenizer(tokenizer: TextTokenizer): DecoderTokenizer {
  return {
    vocabSize: tokenizer.vocabSize,
    encode: (text) => Array.from(tokenizer.encode(text, { maxLength: 2 ** 31 }).ids),
    decode: (ids) => tokenizer.decode(ids),
  };
}

/** `model.` in front of everything but the projection, as Hugging Face's LlamaForCausalLM names it. */
export function toLlamaName(path: string): string {
  const name = path.replace(/^backbone\./, "");
  return name.startsWith("lm_head.") ? name : `model.${name}`;
}

function readBackbone(
  source: TensorSource,
  config: LlamaConfig,
  folder: string,
): { readonly params: Record<string, HostTensor>; readonly extra: readonly string[] } {
  const shapes = llamaParameters(config);
  const names = new Map([...shapes.keys()].map((path) => [toLlamaName(path), path] as const));
  const missing = [...names.keys()].filter((name) => !source.files.has(name));
  if (missing.length > 0) {
    throw new BackboneError(
      "MISSING_TENSOR",
      folder,
      `${missing.length} of ${names.size} tensors are missing: ${missing.slice(0, 8).join(", ")}${missing.length > 8 ? ", …" : ""}. ${adviceOf(missing)}`,
    );
  }
  const params: Record<string, HostTensor> = {};
  for (const [name, path] of names)
    params[path] = readShaped(source, name, shapes.get(path) as readonly number[]);
  return { params, extra: [...source.files.keys()].filter((name) => !names.has(name)) };
}

function adviceOf(missing: readonly string[]): string {
  return missing.every((name) => name.startsWith("lm_head."))
    ? "Where the output projection is the embeddings, config.json must say tie_word_embeddings: true."
    : "The weights belong to another architecture, or to a model of fewer layers than config.json's num_hidden_layers.";
}

interface Exits {
  readonly heads: DecoderHeads;
  readonly trainedHeads: readonly number[];
  readonly params: Readonly<Record<string, HostTensor>>;
}

async function readExits(folder: string, config: LlamaConfig): Promise<Exits | undefined> {
  const path = join(folder, DESCRIPTION);
  if (!(await exists(path))) return undefined;
  const json = (await readJson(path)) as Partial<Exits> | null;
  const { heads, trainedHeads } = json ?? {};
  const areLayers =
    Array.isArray(trainedHeads) &&
    trainedHeads.every((layer) => Number.isInteger(layer) && layer >= 1 && layer <= config.depth);
  if ((heads !== "shared" && heads !== "per-layer") || !areLayers) {
    throw new BackboneError(
      "BAD_FILE",
      path,
      `must say "heads" ("shared" or "per-layer") and "trainedHeads" (layers from 1 to ${config.depth}), got ${JSON.stringify(json)?.slice(0, 80)}. Save the model again.`,
    );
  }
  if (heads === "shared") return { heads, trainedHeads: trainedHeads as number[], params: {} };
  const file = join(folder, EXITS);
  const { tensors } = readSafetensors(file);
  const params: Record<string, HostTensor> = {};
  for (let layer = 1; layer <= config.depth; layer += 1) {
    const name = projectionPath("per-layer", layer, config);
    const tensor = tensors[name];
    const expected = [config.vocabSize, config.hidden];
    if (!tensor || String(tensor.shape) !== String(expected)) {
      throw new BackboneError(
        tensor ? "SHAPE_MISMATCH" : "MISSING_TENSOR",
        file,
        `${name} must be [${expected.join(", ")}], got ${tensor ? `[${tensor.shape.join(", ")}]` : "nothing"}. Save the model again.`,
      );
    }
    params[name] = tensor;
  }
  return { heads, trainedHeads: trainedHeads as number[], params };
}

/**
 * Writes a folder that Hugging Face's LlamaForCausalLM loads, and {@link loadCausalDecoder} with its exits. The tokenizer
 * is not written: copy its file, `tokenizer.json` or llama2.c's `tokenizer.bin`.
 * @throws BackboneError `WRITE_FAILED`
 */
export async function saveCausalDecoder(
  { config, params, heads, trainedHeads }: CausalDecoder,
  folder: string,
  { floats = "F32" }: { readonly floats?: "F32" | "F16" } = {},
): Promise<void> {
  const weights: Record<string, HostTensor> = {};
  const exits: Record<string, HostTensor> = {};
  for (const [path, tensor] of Object.entries(params)) {
    if (path.startsWith("backbone.")) weights[toLlamaName(path)] = tensor;
    else if (path.startsWith("heads.")) exits[path] = tensor;
  }
  const metadata = { format: "pt" };
  await replaceFiles(folder, async (stage) => {
    writeSafetensors(join(stage, WEIGHTS_FILE), weights, { metadata, floats });
    if (heads === "per-layer") writeSafetensors(join(stage, EXITS), exits, { metadata, floats });
    await writeAtomically(join(stage, "config.json"), toJsonText(toLlamaConfigJson(config)));
    await writeAtomically(join(stage, DESCRIPTION), toJsonText({ heads, trainedHeads }));
  });
}

/** The content of a `config.json`. */
export function toLlamaConfigJson(config: LlamaConfig): Readonly<Record<string, unknown>> {
  return {
    ...config.extra,
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_act: "silu",
    vocab_size: config.vocabSize,
    hidden_size: config.hidden,
    num_hidden_layers: config.depth,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headSize,
    intermediate_size: config.intermediate,
    max_position_embeddings: config.maxPositions,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    tie_word_embeddings: config.tied,
    initializer_range: config.initializerRange,
    ...(config.bosTokenId === undefined ? {} : { bos_token_id: config.bosTokenId }),
    eos_token_id: config.eosTokenIds.length === 1 ? config.eosTokenIds[0] : config.eosTokenIds,
  };
}

/** @file Encoder weights from and to a Hugging Face folder: `model.safetensors`, or shards with their index. */
import { join } from "node:path";
import type { HostParams, HostTensor } from "@cee/engine";
import { bertParameters } from "./bert.js";
import type { BertConfig } from "./config.js";
import { BackboneError } from "./errors.js";
import { exists, readJson } from "./files.js";
import { freshParameter } from "./init.js";
import { openSafetensors, type SafetensorsFile } from "./safetensors.js";

export const WEIGHTS_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

export interface LoadedBackbone {
  readonly params: HostParams;
  /** Tensors of the file that the encoder does not have, by their names there. */
  readonly extra: readonly string[];
  /** Paths that the file lacks and that were initialised. */
  readonly initialised: readonly string[];
}

/** Tensors by name over one file or several. */
export interface TensorSource {
  /** The file that holds each tensor. */
  readonly files: ReadonlyMap<string, SafetensorsFile>;
  readonly metadata: Readonly<Record<string, string>>;
  close(): void;
}

/**
 * Opens `model.safetensors`, else the shards that `model.safetensors.index.json` lists.
 * @throws BackboneError `MISSING_FILE`, `BAD_FILE`
 */
export async function openWeights(folder: string): Promise<TensorSource> {
  const single = join(folder, WEIGHTS_FILE);
  if (await exists(single)) return sourceOf([openSafetensors(single)]);
  const indexPath = join(folder, INDEX_FILE);
  if (!(await exists(indexPath))) {
    throw new BackboneError(
      "MISSING_FILE",
      folder,
      `holds neither ${WEIGHTS_FILE} nor ${INDEX_FILE}. Convert other formats to safetensors first.`,
    );
  }
  return openShards(folder, indexPath, await readJson(indexPath));
}

/** The file names in the index of a sharded checkpoint. @throws BackboneError `BAD_FILE` */
export function shardNames(index: unknown, who: string): readonly string[] {
  return [...new Set(weightMap(index, who).values())];
}

/**
 * Reads the encoder's parameters, under any of the names that BERT checkpoints use.
 * @throws BackboneError `MISSING_TENSOR` (listing all), `SHAPE_MISMATCH`, `BAD_FILE`
 */
export function loadBackbone(
  source: TensorSource,
  config: BertConfig,
  {
    seed = 0,
    mayMiss = (path: string) => path.startsWith("backbone.pooler."),
    who = "loadBackbone",
  } = {},
): LoadedBackbone {
  const shapes = bertParameters(config);
  const names = new Map<string, string>();
  const extra: string[] = [];
  for (const name of source.files.keys()) {
    const path = pathOf(name);
    if (!shapes.has(path)) {
      extra.push(name);
      continue;
    }
    const other = names.get(path);
    if (other !== undefined) {
      throw new BackboneError(
        "BAD_FILE",
        source.files.get(name)?.path ?? who,
        `${other} and ${name} are both ${path}. Keep one of them.`,
      );
    }
    names.set(path, name);
  }
  const missing = [...shapes.keys()].filter((path) => !names.has(path));
  const fatal = missing.filter((path) => !mayMiss(path));
  if (fatal.length > 0) {
    throw new BackboneError(
      "MISSING_TENSOR",
      who,
      `${fatal.length} of ${shapes.size} tensors are missing: ${fatal.slice(0, 8).map(toHuggingFaceName).join(", ")}${fatal.length > 8 ? ", …" : ""}. The weights belong to another architecture or a deeper model than config.json describes.`,
    );
  }
  const params: Record<string, HostTensor> = {};
  for (const [path, shape] of shapes) {
    const name = names.get(path);
    params[path] =
      name === undefined
        ? freshParameter(path, shape, config, seed)
        : readShaped(source, name, shape);
  }
  return { params, extra, initialised: missing };
}

/** Reads one float tensor and checks its shape. @throws BackboneError `SHAPE_MISMATCH`, `BAD_FILE` */
export function readShaped(
  source: TensorSource,
  name: string,
  shape: readonly number[],
): HostTensor {
  const file = source.files.get(name);
  if (!file) throw new Error(`internal: ${name} is in no open file`);
  const found = file.entries.get(name)?.shape ?? [];
  if (found.length !== shape.length || found.some((size, axis) => size !== shape[axis])) {
    throw new BackboneError(
      "SHAPE_MISMATCH",
      file.path,
      `${name} must be [${shape.join(", ")}] by config.json, got [${found.join(", ")}]. Use the config.json that belongs to these weights.`,
    );
  }
  const tensor = file.read(name);
  if (tensor.dtype === "float32") return tensor;
  throw new BackboneError(
    "BAD_FILE",
    file.path,
    `${name} must hold floating-point numbers, got ${file.entries.get(name)?.dtype}.`,
  );
}

/** Our path of a tensor in a checkpoint: no prefix, `bert.`, and TensorFlow's `gamma` and `beta` are all understood. */
export function pathOf(name: string): string {
  const plain = name
    .replace(/^bert\./, "")
    .replace(/LayerNorm\.gamma$/, "LayerNorm.weight")
    .replace(/LayerNorm\.beta$/, "LayerNorm.bias");
  return `backbone.${plain}`;
}

/** The name that Hugging Face's BertForSequenceClassification gives to one of our encoder parameters. */
export function toHuggingFaceName(path: string): string {
  return path.replace(/^backbone\./, "bert.");
}

function sourceOf(files: readonly SafetensorsFile[]): TensorSource {
  const byName = new Map<string, SafetensorsFile>();
  const close = () => {
    for (const file of files) file.close();
  };
  for (const file of files) {
    for (const name of file.entries.keys()) {
      const other = byName.get(name);
      if (other) {
        close();
        throw new BackboneError("BAD_FILE", file.path, `${name} is in ${other.path} as well.`);
      }
      byName.set(name, file);
    }
  }
  const metadata = Object.assign({}, ...files.map((file) => file.metadata)) as Record<
    string,
    string
  >;
  return { files: byName, metadata, close };
}

function openShards(folder: string, indexPath: string, index: unknown): TensorSource {
  const listed = weightMap(index, indexPath);
  const files: SafetensorsFile[] = [];
  try {
    for (const shard of new Set(listed.values())) files.push(openSafetensors(join(folder, shard)));
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
  const source = sourceOf(files);
  for (const [name, shard] of listed) {
    if (source.files.get(name)?.path === join(folder, shard)) continue;
    source.close();
    throw new BackboneError(
      "BAD_FILE",
      indexPath,
      `says that ${name} is in ${shard}, which does not hold it. Get the shards again.`,
    );
  }
  return source;
}

function weightMap(index: unknown, who: string): ReadonlyMap<string, string> {
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw new BackboneError("BAD_FILE", who, 'must hold an object "weight_map".');
  }
  const entries = Object.entries(map as Record<string, unknown>);
  for (const [name, shard] of entries) {
    // A shard is a file beside its index; anything else would read or write outside the folder.
    if (typeof shard === "string" && /^[\w-][\w.-]*\.safetensors$/.test(shard)) continue;
    throw new BackboneError(
      "BAD_FILE",
      who,
      `${name} must be in a .safetensors file beside the index, got ${JSON.stringify(shard)}.`,
    );
  }
  return new Map(entries as [string, string][]);
}

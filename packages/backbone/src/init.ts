/** @file Fresh parameters from a configuration and a seed. */
import { createRng, type HostTensor } from "@cee/engine";
import type { ExitHead, HostParams, ModelShape } from "@cee/exit-policies";
import { bertParameters } from "./bert.js";
import type { BertConfig } from "./config.js";
import type { BackboneHead } from "./heads/registry.js";

/** Normal numbers from the stream that belongs to `path` alone: other parameters do not shift it. */
export function normal(
  shape: readonly number[],
  deviation: number,
  seed: number,
  path: string,
): HostTensor {
  const rng = createRng(seed).fork(path);
  const data = new Float32Array(sizeOf(shape));
  for (let index = 0; index < data.length; index += 1) data[index] = deviation * rng.normal();
  return { dtype: "float32", shape, data };
}

export function zeros(shape: readonly number[]): HostTensor {
  return { dtype: "float32", shape, data: new Float32Array(sizeOf(shape)) };
}

/**
 * BERT's initialisation: weights from N(0, initializerRange), LayerNorm 1 and 0, biases 0, the padding row 0.
 * A parameter depends on the seed and its own path and shape only, so a deeper model starts with the same first blocks.
 */
export function initBackbone(config: BertConfig, seed: number): HostParams {
  const params: Record<string, HostTensor> = {};
  for (const [path, shape] of bertParameters(config))
    params[path] = freshParameter(path, shape, config, seed);
  return params;
}

/** The initial value of one encoder parameter. */
export function freshParameter(
  path: string,
  shape: readonly number[],
  config: BertConfig,
  seed: number,
): HostTensor {
  if (path.endsWith(".bias")) return zeros(shape);
  if (path.endsWith("LayerNorm.weight"))
    return { dtype: "float32", shape, data: new Float32Array(sizeOf(shape)).fill(1) };
  // Deviates from the paper: a plain normal as in Hugging Face's classes, not one truncated at two deviations.
  const tensor = normal(shape, config.initializerRange, seed, path);
  if (path.endsWith("word_embeddings.weight")) {
    const start = config.padTokenId * config.hidden;
    (tensor.data as Float32Array).fill(0, start, start + config.hidden);
  }
  return tensor;
}

/** Fresh heads for every layer and their shared parameters, by full path. */
export function initHeads(
  head: BackboneHead | ExitHead,
  shape: ModelShape,
  seed: number,
  backbone: HostParams,
): HostParams {
  const params: Record<string, HostTensor> = {};
  const inherit = "inherit" in head ? head.inherit : undefined;
  for (const [name, tensor] of Object.entries(head.shared?.(shape, seed) ?? {}))
    params[`heads.shared.${name}`] = tensor;
  for (let layer = 1; layer <= shape.depth; layer += 1) {
    const own = { ...head.params(shape, layer, seed), ...inherit?.(backbone, shape, layer) };
    for (const [name, tensor] of Object.entries(own)) params[`heads.${layer}.${name}`] = tensor;
  }
  return params;
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * @file Low-rank adapters: each adapted projection `W x` becomes `W x + (alpha / r) B A x`, and only A and B are trained.
 *
 * Shapes: I = inputs, O = outputs of a projection, R = rank, B = rows, S = tokens.
 * @see Hu et al. 2022, section 4
 */
import { createRng, dropout, type HostParams, type HostTensor, linear } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { BackboneError } from "../../errors.js";
import { llamaBlockPath } from "../../llama.js";
import type { LlamaConfig } from "../../llama-config.js";

/** A projection inside a block. */
export type LoraTarget =
  | "q_proj"
  | "k_proj"
  | "v_proj"
  | "o_proj"
  | "gate_proj"
  | "up_proj"
  | "down_proj";

export interface LoraOptions {
  /** R. @default 16 */
  readonly rank?: number;
  /** What the product is scaled by, over the rank. @default 16 */
  readonly alpha?: number;
  /** Share of an adapter's inputs that training drops. @default 0.05 */
  readonly dropout?: number;
  /** @default all seven projections of a block */
  readonly targets?: readonly LoraTarget[];
}

export interface Lora {
  readonly rank: number;
  readonly scale: number;
  readonly dropout: number;
  /** Paths of the adapted projections, without `.weight`. */
  readonly paths: readonly string[];
}

const PLACES: Readonly<Record<LoraTarget, string>> = {
  q_proj: "self_attn.q_proj",
  k_proj: "self_attn.k_proj",
  v_proj: "self_attn.v_proj",
  o_proj: "self_attn.o_proj",
  gate_proj: "mlp.gate_proj",
  up_proj: "mlp.up_proj",
  down_proj: "mlp.down_proj",
};

/** Fills in the defaults, those of the paper's released code. @throws BackboneError `BAD_OPTION` */
export function resolveLora(config: LlamaConfig, options: LoraOptions): Lora {
  const { rank = 16, alpha = 16, dropout: rate = 0.05 } = options;
  const targets = options.targets ?? (Object.keys(PLACES) as LoraTarget[]);
  const refuse = (name: string, wanted: string, got: unknown): never => {
    throw new BackboneError("BAD_OPTION", "lora", `${name} must be ${wanted}, got ${String(got)}.`);
  };
  if (!Number.isInteger(rank) || rank < 1) refuse("rank", "a whole number from 1", rank);
  if (!(alpha > 0 && Number.isFinite(alpha))) refuse("alpha", "a number above 0", alpha);
  if (!(rate >= 0 && rate < 1)) refuse("dropout", "a share from 0 to below 1", rate);
  if (targets.length === 0) refuse("targets", "at least one projection", "none");
  for (const target of targets)
    if (!Object.hasOwn(PLACES, target))
      refuse("targets", `among ${Object.keys(PLACES).join(", ")}`, target);
  return {
    rank,
    scale: alpha / rank,
    dropout: rate,
    paths: Array.from({ length: config.depth }, (_, index) =>
      targets.map((target) => `${llamaBlockPath(index + 1)}.${PLACES[target]}`),
    ).flat(),
  };
}

/** Fresh adapters, `lora.<path>.a` `[R, I]` and `lora.<path>.b` `[O, R]`: B is zero, so that nothing changes at first. */
export function loraParams(params: HostParams, { rank, paths }: Lora, seed: number): HostParams {
  const root = createRng(seed).fork("lora");
  const own: Record<string, HostTensor> = {};
  for (const path of paths) {
    const [outputs, inputs] = (params[`${path}.weight`] as HostTensor).shape as [number, number];
    const rng = root.fork(path);
    // Uniform with the variance of a linear layer's usual start, 1 / (3 I).
    const bound = 1 / Math.sqrt(inputs);
    const a = Float32Array.from({ length: rank * inputs }, () => (2 * rng.next() - 1) * bound);
    own[`lora.${path}.a`] = { dtype: "float32", shape: [rank, inputs], data: a };
    own[`lora.${path}.b`] = {
      dtype: "float32",
      shape: [outputs, rank],
      data: new Float32Array(outputs * rank),
    };
  }
  return own;
}

/** What the adapters add to each projection, for a decoder's frame; with a seed, dropout is on. Traced. */
export function loraAdapter(
  params: Readonly<Record<string, tf.Tensor>>,
  { scale, dropout: rate, paths, rank }: Lora,
  seed: tf.Tensor1D | undefined,
): (path: string, input: tf.Tensor2D) => tf.Tensor2D | undefined {
  const sites = new Map(paths.map((path, index) => [path, index + 1]));
  return (path, input) => {
    const site = sites.get(path);
    if (site === undefined) return undefined;
    const [a, b] = [params[`lora.${path}.a`], params[`lora.${path}.b`]] as [tf.Tensor, tf.Tensor];
    const kept = seed ? dropout(input, { rate, seed, site }) : input;
    const inner = linear(kept, a, tf.zeros([rank])); // [n, R]
    return tf.mul(linear(inner, b, tf.zeros([b.shape[0] as number])), scale) as tf.Tensor2D;
  };
}

/** The projections with their adapters added in, `W + (alpha / r) B A`; the adapters are gone from the record. */
export function mergeLora(params: HostParams, { rank, scale, paths }: Lora): HostParams {
  const merged: Record<string, HostTensor> = Object.fromEntries(
    Object.entries(params).filter(([path]) => !path.startsWith("lora.")),
  );
  for (const path of paths) {
    const weight = params[`${path}.weight`] as HostTensor;
    const [outputs, inputs] = weight.shape as [number, number];
    const a = (params[`lora.${path}.a`] as HostTensor).data as Float32Array;
    const b = (params[`lora.${path}.b`] as HostTensor).data as Float32Array;
    const data = Float32Array.from(weight.data);
    for (let row = 0; row < outputs; row += 1)
      for (let inner = 0; inner < rank; inner += 1) {
        const factor = scale * (b[row * rank + inner] as number);
        if (factor === 0) continue;
        for (let column = 0; column < inputs; column += 1)
          data[row * inputs + column] =
            (data[row * inputs + column] as number) +
            factor * (a[inner * inputs + column] as number);
      }
    merged[`${path}.weight`] = { dtype: "float32", shape: weight.shape, data };
  }
  return merged;
}

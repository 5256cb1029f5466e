/**
 * @file LLaMA's decoder as plain functions of a parameter record (pre-norm blocks, rotary positions, SwiGLU, grouped
 * queries), with the key/value cache as input and output.
 *
 * Shapes: B = rows, S = new tokens, P = cached tokens, T = P + S, H = hidden size, N = query heads, G = key and value
 * heads, R = N / G, D = head size, F = feed-forward width, V = vocabulary.
 */
import type { HostParams, HostTensor, TensorParams } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { BackboneError } from "./errors.js";
import type { LlamaConfig } from "./llama-config.js";
import { embedding, linear, rmsNorm } from "./ops.js";

/** The new tokens of one batch on the device. */
export interface LlamaInputs {
  /** Token ids, int32 `[B, S]`. */
  readonly ids: tf.Tensor2D;
  /** The place of each new token in its own text, from 0, int32 `[B, S]`: padding and cached tokens shift it. */
  readonly positions: tf.Tensor2D;
  /** 1 where a new token may look, 0 for padding and what comes later, float32 `[B, S, T]`. */
  readonly mask: tf.Tensor3D;
}

/** Keys (already rotated) and values of one block's tokens, each `[B, G, P, D]`. */
export interface LlamaCache {
  readonly keys: tf.Tensor4D;
  readonly values: tf.Tensor4D;
}

/** Of the new tokens' angles, each `[B, 1, S, D]`: the sine is negative in the first half of D. */
export interface LlamaAngles {
  readonly cos: tf.Tensor4D;
  readonly sin: tf.Tensor4D;
}

/** What every block shares: the angles, and the attention bias `[B, 1, R S, T]`, the same for queries that share keys. */
export interface LlamaFrame extends LlamaAngles {
  readonly bias: tf.Tensor4D;
  /**
   * What an adapter adds to the output of the projection at `path` for its `input`, one row for each token; `undefined`
   * where there is none.
   */
  readonly adapt?: (path: string, input: tf.Tensor2D) => tf.Tensor2D | undefined;
}

export interface LlamaBlockResult {
  /** `[B, S, H]` */
  readonly hidden: tf.Tensor3D;
  /** Old and new tokens, `[B, G, T, D]`. */
  readonly cache: LlamaCache;
}

export interface LlamaResult {
  /** Entry `layer - 1` is the output of block `layer`, before the final norm, `[B, S, H]`. */
  readonly states: readonly tf.Tensor3D[];
  /** `[B, S, V]` */
  readonly logits: tf.Tensor3D;
  /** Entry `layer - 1` belongs to block `layer`. */
  readonly caches: readonly LlamaCache[];
}

/** The shape of every decoder parameter by path: `backbone.` and the Hugging Face name without its `model.`. */
export function llamaParameters(config: LlamaConfig): ReadonlyMap<string, readonly number[]> {
  const { hidden, intermediate, vocabSize } = config;
  const queries = config.heads * config.headSize;
  const keys = config.kvHeads * config.headSize;
  const shapes = new Map<string, readonly number[]>();
  shapes.set("backbone.embed_tokens.weight", [vocabSize, hidden]);
  for (let layer = 1; layer <= config.depth; layer += 1) {
    const path = llamaBlockPath(layer);
    shapes.set(`${path}.input_layernorm.weight`, [hidden]);
    shapes.set(`${path}.self_attn.q_proj.weight`, [queries, hidden]);
    shapes.set(`${path}.self_attn.k_proj.weight`, [keys, hidden]);
    shapes.set(`${path}.self_attn.v_proj.weight`, [keys, hidden]);
    shapes.set(`${path}.self_attn.o_proj.weight`, [hidden, queries]);
    shapes.set(`${path}.post_attention_layernorm.weight`, [hidden]);
    shapes.set(`${path}.mlp.gate_proj.weight`, [intermediate, hidden]);
    shapes.set(`${path}.mlp.up_proj.weight`, [intermediate, hidden]);
    shapes.set(`${path}.mlp.down_proj.weight`, [hidden, intermediate]);
  }
  shapes.set("backbone.norm.weight", [hidden]);
  if (!config.tied) shapes.set("backbone.lm_head.weight", [vocabSize, hidden]);
  return shapes;
}

/** Where the parameters of a block (1..depth) live; the names in checkpoints count blocks from 0. */
export function llamaBlockPath(layer: number): string {
  return `backbone.layers.${layer - 1}`;
}

/** The embedded tokens, `[B, S, H]`. */
export function llamaEmbed(params: TensorParams, ids: tf.Tensor2D): tf.Tensor3D {
  return embedding(parameter(params, "backbone.embed_tokens.weight"), ids) as tf.Tensor3D;
}

/** Computes once what the new tokens' places are to every block. */
export function llamaAngles(
  positions: tf.Tensor2D,
  { headSize, ropeTheta }: LlamaConfig,
): LlamaAngles {
  const [B, S] = positions.shape;
  const frequencies = Array.from(
    { length: headSize / 2 },
    (_, pair) => ropeTheta ** ((-2 * pair) / headSize),
  );
  const places = tf.reshape(tf.cast(positions, "float32"), [B, 1, S, 1]);
  const angles = tf.mul(places, tf.tensor1d(frequencies)) as tf.Tensor4D; // [B, 1, S, D / 2]
  const [cos, sin] = [tf.cos(angles), tf.sin(angles)];
  return { cos: tf.concat([cos, cos], 3), sin: tf.concat([tf.neg(sin), sin], 3) };
}

/** Computes once what all blocks need. */
export function llamaFrame(
  { positions, mask }: Pick<LlamaInputs, "positions" | "mask">,
  config: LlamaConfig,
): LlamaFrame {
  const [B, S, T] = mask.shape;
  // Finite, so that a padded token with nothing to look at gives numbers and not NaN; exp underflows to exactly 0
  // beside any score, which without a norm on queries and keys may go into the hundreds.
  const bias = tf.mul(tf.sub(1, mask), -1e9) as tf.Tensor3D;
  const shared = Array<tf.Tensor3D>(config.heads / config.kvHeads).fill(bias);
  const stacked = shared.length === 1 ? bias : tf.concat(shared, 1); // [B, R S, T]
  return {
    ...llamaAngles(positions, config),
    bias: tf.reshape(stacked, [B, 1, shared.length * S, T]),
  };
}

/**
 * Block `layer` (1..depth): self-attention and feed-forward, each behind an RMSNorm and beside a residual. Without a cache
 * the texts start here.
 */
export function llamaBlock(
  params: TensorParams,
  layer: number,
  hidden: tf.Tensor3D,
  cache: LlamaCache | undefined,
  frame: LlamaFrame,
  config: LlamaConfig,
): LlamaBlockResult {
  let grown: LlamaCache | undefined;
  const result = block(params, layer, hidden, frame, config, (added) => {
    grown = cache
      ? {
          keys: tf.concat([cache.keys, added.keys], 2), // [B, G, T, D]
          values: tf.concat([cache.values, added.values], 2),
        }
      : added;
    return [grown];
  });
  return { hidden: result.hidden, cache: grown ?? result.added };
}

/**
 * Block `layer` without copying the cache: new tokens attend to cached and to new ones in two parts that share one
 * softmax, and only the new tokens' keys and values are returned. P must be at least 1; cached places that hold nothing
 * are masked.
 */
export function llamaStep(
  params: TensorParams,
  layer: number,
  hidden: tf.Tensor3D,
  past: LlamaCache,
  frame: LlamaFrame,
  config: LlamaConfig,
): { readonly hidden: tf.Tensor3D; readonly added: LlamaCache } {
  return block(params, layer, hidden, frame, config, (added) => [past, added]);
}

/** A block whose tokens look at the parts that `toParts` makes with their own keys and values. */
function block(
  params: TensorParams,
  layer: number,
  hidden: tf.Tensor3D,
  frame: LlamaFrame,
  config: LlamaConfig,
  toParts: (added: LlamaCache) => readonly LlamaCache[],
): { readonly hidden: tf.Tensor3D; readonly added: LlamaCache } {
  const path = llamaBlockPath(layer);
  const x = rowsOf(hidden);
  const input = norm(params, `${path}.input_layernorm`, x, config);
  const { queries, ...added } = queriesKeysValues(params, layer, input, hidden, frame, config);
  const attended = tf.add(x, attention(params, layer, queries, toParts(added), frame, config));
  const inner = norm(params, `${path}.post_attention_layernorm`, attended, config);
  const gate = dense(params, `${path}.mlp.gate_proj`, inner, frame); // [B S, F]
  const up = dense(params, `${path}.mlp.up_proj`, inner, frame);
  const open = tf.mul(tf.mul(gate, tf.sigmoid(gate)), up) as tf.Tensor2D;
  const output = tf.add(attended, dense(params, `${path}.mlp.down_proj`, open, frame));
  return { hidden: tf.reshape(output, hidden.shape), added };
}

/**
 * The keys and values that block `layer` would have for tokens that stopped with `hidden` before it: the block's own
 * input norm, then the projections, then rotation at the tokens' true places.
 */
export function llamaSkipped(
  params: TensorParams,
  layer: number,
  hidden: tf.Tensor3D,
  angles: LlamaAngles,
  config: LlamaConfig,
): LlamaCache {
  const input = norm(params, `${llamaBlockPath(layer)}.input_layernorm`, rowsOf(hidden), config);
  return keysAndValues(params, layer, input, hidden, angles, config);
}

/** The final norm of some states, of their shape. */
export function llamaNorm<T extends tf.Tensor>(
  params: TensorParams,
  hidden: T,
  config: LlamaConfig,
): T {
  return norm(params, "backbone.norm", hidden, config);
}

/** The final norm and the projection onto the vocabulary of some tokens' states, `[B, S, V]`. */
export function llamaLogits(
  params: TensorParams,
  hidden: tf.Tensor3D,
  config: LlamaConfig,
): tf.Tensor3D {
  const table = config.tied ? "backbone.embed_tokens" : "backbone.lm_head";
  return dense(params, table, norm(params, "backbone.norm", hidden, config));
}

/** Runs the whole decoder over the new tokens; `caches` holds one entry per block (see {@link emptyLlamaCache}). */
export function llama(
  params: TensorParams,
  inputs: LlamaInputs,
  caches: readonly LlamaCache[],
  config: LlamaConfig,
): LlamaResult {
  if (caches.length !== config.depth) {
    throw new BackboneError(
      "BAD_INPUT",
      "llama",
      `needs one cache for each of ${config.depth} blocks, got ${caches.length}. Start from emptyLlamaCache.`,
    );
  }
  const frame = llamaFrame(inputs, config);
  const states: tf.Tensor3D[] = [];
  const grown: LlamaCache[] = [];
  let hidden = llamaEmbed(params, inputs.ids);
  for (const [index, cache] of caches.entries()) {
    const result = llamaBlock(params, index + 1, hidden, cache, frame, config);
    hidden = result.hidden;
    states.push(hidden);
    grown.push(result.cache);
  }
  return { states, logits: llamaLogits(params, hidden, config), caches: grown };
}

/** The caches of texts without a past. */
export function emptyLlamaCache(rows: number, config: LlamaConfig): readonly LlamaCache[] {
  const empty = () => tf.zeros([rows, config.kvHeads, 0, config.headSize]) as tf.Tensor4D;
  return Array.from({ length: config.depth }, () => ({ keys: empty(), values: empty() }));
}

/** States of some tokens, for the sizes B and S. */
type Tokens = Pick<tf.Tensor3D, "shape">;

/** Tokens below each other, `[B S, H]`: the products of a block then need no reshaping. */
function rowsOf(hidden: tf.Tensor3D): tf.Tensor2D {
  const [B, S, H] = hidden.shape;
  return tf.reshape(hidden, [B * S, H]);
}

/** Rotated keys and values of the new tokens, `[B, G, S, D]`; `input` `[B S, H]` is behind the block's own input norm. */
function keysAndValues(
  params: TensorParams,
  layer: number,
  input: tf.Tensor2D,
  tokens: Tokens,
  frame: LlamaAngles & Pick<LlamaFrame, "adapt">,
  config: LlamaConfig,
): LlamaCache {
  const path = `${llamaBlockPath(layer)}.self_attn`;
  const keys = dense(params, `${path}.k_proj`, input, frame);
  const values = dense(params, `${path}.v_proj`, input, frame);
  return {
    keys: rotate(split(keys, config.kvHeads, tokens), frame),
    values: split(values, config.kvHeads, tokens),
  };
}

/**
 * What attention needs of the new tokens: queries `[B, N, S, D]` and keys, both rotated, and values. Where the three
 * projections are joined (see {@link joinProjections}), they are one product, and queries and keys turn together.
 */
function queriesKeysValues(
  params: TensorParams,
  layer: number,
  input: tf.Tensor2D,
  tokens: Tokens,
  frame: LlamaFrame,
  config: LlamaConfig,
): LlamaCache & { readonly queries: tf.Tensor4D } {
  const { heads: N, kvHeads: G } = config;
  const path = `${llamaBlockPath(layer)}.self_attn`;
  if (!params[joinedPath(layer)]) {
    const queries = dense(params, `${path}.q_proj`, input, frame);
    return {
      queries: rotate(split(queries, N, tokens), frame),
      ...keysAndValues(params, layer, input, tokens, frame, config),
    };
  }
  const all = split(dense(params, `${path}.qkv_proj`, input), N + 2 * G, tokens); // [B, N + 2 G, S, D]
  const [plain, values] = tf.split(all, [N + G, G], 1) as [tf.Tensor4D, tf.Tensor4D];
  const [queries, keys] = tf.split(rotate(plain, frame), [N, G], 1) as [tf.Tensor4D, tf.Tensor4D];
  return { queries, keys, values };
}

function joinedPath(layer: number): string {
  return `${llamaBlockPath(layer)}.self_attn.qkv_proj.weight`;
}

/** Weights of some blocks with the projections to queries, keys and values as one: fewer, larger products at each token. */
export function joinProjections(params: HostParams, layers: readonly number[]): HostParams {
  const joined: Record<string, HostTensor> = { ...params };
  for (const layer of layers) {
    const paths = ["q_proj", "k_proj", "v_proj"].map(
      (name) => `${llamaBlockPath(layer)}.self_attn.${name}.weight`,
    );
    const parts = paths.map((path) => parameter(params, path));
    const H = parts[0]?.shape[1] as number;
    const data = new Float32Array(parts.reduce((sum, part) => sum + part.data.length, 0));
    let at = 0;
    for (const part of parts) {
      data.set(part.data, at);
      at += part.data.length;
    }
    for (const path of paths) delete joined[path];
    joined[joinedPath(layer)] = { dtype: "float32", shape: [data.length / H, H], data };
  }
  return joined;
}

/** Self-attention of the new tokens over all parts, after its output projection, `[B S, H]`. */
function attention(
  params: TensorParams,
  layer: number,
  queries: tf.Tensor4D,
  parts: readonly LlamaCache[],
  frame: LlamaFrame,
  config: LlamaConfig,
): tf.Tensor2D {
  const { kvHeads: G } = config;
  const [B, N, S, D] = queries.shape;
  const R = N / G;
  // Heads that share keys are neighbours, so the keys need no copies: their queries stand below each other.
  const stacked = tf.reshape(queries, [B, G, R * S, D]) as tf.Tensor4D;
  const scaled = tf.mul(stacked, 1 / Math.sqrt(D));
  const scores = parts.map(({ keys }) => tf.matMul(scaled, keys, false, true) as tf.Tensor4D); // [B, G, R S, P]
  const weights = tf.softmax(tf.add(joined(scores), frame.bias)) as tf.Tensor4D; // [B, G, R S, T]
  const lengths = parts.map(({ keys }) => keys.shape[2]);
  const shares = parts.length === 1 ? [weights] : tf.split(weights, lengths, 3);
  const mixed = parts
    .map(({ values }, index) => tf.matMul(shares[index] as tf.Tensor4D, values))
    .reduce((sum, own) => tf.add(sum, own)); // [B, G, R S, D]
  const rows = tf.transpose(tf.reshape(mixed, [B, N, S, D]), [0, 2, 1, 3]); // [B, S, N, D]
  const path = `${llamaBlockPath(layer)}.self_attn.o_proj`;
  return dense(params, path, tf.reshape(rows, [B * S, N * D]), frame);
}

function joined(scores: readonly tf.Tensor4D[]): tf.Tensor4D {
  return scores.length === 1 ? (scores[0] as tf.Tensor4D) : tf.concat([...scores], 3);
}

/** `[B S, heads D]` to `[B, heads, S, D]` */
function split(x: tf.Tensor2D, heads: number, { shape: [B, S] }: Tokens): tf.Tensor4D {
  const D = (x.shape[1] as number) / heads;
  return tf.transpose(tf.reshape(x, [B, S, heads, D]), [0, 2, 1, 3]) as tf.Tensor4D;
}

/** Turns the pairs (i, i + D / 2) of every head by their token's angles, as checkpoints of Hugging Face expect. */
function rotate(x: tf.Tensor4D, { cos, sin }: LlamaAngles): tf.Tensor4D {
  const [first, second] = tf.split(x, 2, 3) as [tf.Tensor4D, tf.Tensor4D]; // [B, heads, S, D / 2]
  return tf.add(tf.mul(x, cos), tf.mul(tf.concat([second, first], 3), sin));
}

function norm<T extends tf.Tensor>(
  params: TensorParams,
  path: string,
  x: T,
  { rmsNormEps }: LlamaConfig,
): T {
  return rmsNorm(x, parameter(params, `${path}.weight`), rmsNormEps);
}

function dense<T extends tf.Tensor>(
  params: TensorParams,
  path: string,
  x: T,
  { adapt }: Pick<LlamaFrame, "adapt"> = {},
): T {
  const weight = parameter(params, `${path}.weight`);
  const output = linear(x, weight, tf.zeros([weight.shape[0] as number]));
  const added = adapt?.(path, x as unknown as tf.Tensor2D);
  return added ? (tf.add(output, added) as unknown as T) : output;
}

function parameter<T>(params: Readonly<Record<string, T>>, path: string): T {
  const tensor = params[path];
  if (tensor) return tensor;
  throw new BackboneError(
    "MISSING_TENSOR",
    path,
    "is not among the parameters. Pass the decoder's whole record, or this block's part of it.",
  );
}

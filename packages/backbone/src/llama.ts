/**
 * @file LLaMA's decoder as plain functions of a parameter record (pre-norm blocks, rotary positions, SwiGLU, grouped
 * queries), with the key/value cache as input and output.
 *
 * Shapes: B = rows, S = new tokens, P = cached tokens, T = P + S, H = hidden size, N = query heads, G = key and value
 * heads, R = N / G, D = head size, F = feed-forward width, V = vocabulary.
 */
import type { TensorParams } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { BackboneError } from "./errors.js";
import type { LlamaConfig } from "./llama-config.js";
import { embedding, linear } from "./ops.js";

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

/** What every block shares: the angles of the new tokens, each `[B, 1, S, D / 2]`, and the attention bias `[B, 1, 1, S, T]`. */
export interface LlamaFrame {
  readonly cos: tf.Tensor4D;
  readonly sin: tf.Tensor4D;
  readonly bias: tf.Tensor5D;
  /** What an adapter adds to the output of the projection at `path` for its `input`; `undefined` where there is none. */
  readonly adapt?: (path: string, input: tf.Tensor3D) => tf.Tensor3D | undefined;
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

/** Computes once what all blocks need. */
export function llamaFrame(
  { positions, mask }: Pick<LlamaInputs, "positions" | "mask">,
  { headSize, ropeTheta }: LlamaConfig,
): LlamaFrame {
  const [B, S, T] = mask.shape;
  const frequencies = Array.from(
    { length: headSize / 2 },
    (_, pair) => ropeTheta ** ((-2 * pair) / headSize),
  );
  const places = tf.reshape(tf.cast(positions, "float32"), [B, 1, S, 1]);
  const angles = tf.mul(places, tf.tensor1d(frequencies)) as tf.Tensor4D; // [B, 1, S, D / 2]
  return {
    cos: tf.cos(angles),
    sin: tf.sin(angles),
    // Finite, so that a padded token with nothing to look at gives numbers and not NaN; exp underflows to exactly 0
    // beside any score, which without a norm on queries and keys may go into the hundreds.
    bias: tf.reshape(tf.mul(tf.sub(1, mask), -1e9), [B, 1, 1, S, T]),
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
  const path = llamaBlockPath(layer);
  const input = norm(params, `${path}.input_layernorm`, hidden, config);
  const added = llamaKeysAndValues(params, layer, input, frame, config);
  const grown: LlamaCache = cache
    ? {
        keys: tf.concat([cache.keys, added.keys], 2), // [B, G, T, D]
        values: tf.concat([cache.values, added.values], 2),
      }
    : added;
  const mixed = attention(params, layer, input, grown, frame, config);
  return {
    hidden: feedForward(params, layer, tf.add(hidden, mixed), frame, config),
    cache: grown,
  };
}

/** The second half of a block: SwiGLU behind its norm, beside a residual. */
function feedForward(
  params: TensorParams,
  layer: number,
  attended: tf.Tensor3D,
  frame: LlamaFrame,
  config: LlamaConfig,
): tf.Tensor3D {
  const path = llamaBlockPath(layer);
  const inner = norm(params, `${path}.post_attention_layernorm`, attended, config);
  const gate = dense(params, `${path}.mlp.gate_proj`, inner, frame); // [B, S, F]
  const up = dense(params, `${path}.mlp.up_proj`, inner, frame);
  const open = tf.mul(tf.mul(gate, tf.sigmoid(gate)), up) as tf.Tensor3D;
  return tf.add(attended, dense(params, `${path}.mlp.down_proj`, open, frame));
}

/** The cached part of what {@link llamaStep} looks at. */
export interface LlamaPast extends LlamaCache {
  /** 1 where a new token may look at a cached one, float32 `[B, S, P]`. */
  readonly mask: tf.Tensor3D;
}

/**
 * Block `layer` without copying the cache: new tokens attend to cached and to new ones in two parts that share one
 * softmax, and only the new tokens' keys and values are returned. `frame` is made from the new tokens' mask `[B, S, S]`.
 * P must be at least 1; cached places that hold nothing are masked.
 */
export function llamaStep(
  params: TensorParams,
  layer: number,
  hidden: tf.Tensor3D,
  past: LlamaPast,
  frame: LlamaFrame,
  config: LlamaConfig,
): { readonly hidden: tf.Tensor3D; readonly added: LlamaCache } {
  const path = `${llamaBlockPath(layer)}.self_attn`;
  const input = norm(params, `${llamaBlockPath(layer)}.input_layernorm`, hidden, config);
  const added = llamaKeysAndValues(params, layer, input, frame, config);
  const { heads: N, kvHeads: G, headSize: D } = config;
  const R = N / G;
  const [B, S] = input.shape;
  const split4 = split(dense(params, `${path}.q_proj`, input, frame), N, config); // [B, N, S, D]
  const queries = tf.mul(rotate(split4, frame), 1 / Math.sqrt(D));
  const stacked = tf.reshape(queries, [B, G, R * S, D]) as tf.Tensor4D;
  const score = ({ keys }: LlamaCache, bias: tf.Tensor5D): tf.Tensor5D => {
    const T = keys.shape[2];
    return tf.add(tf.reshape(tf.matMul(stacked, keys, false, true), [B, G, R, S, T]), bias);
  };
  const pastBias = tf.reshape(tf.mul(tf.sub(1, past.mask), -1e9), [B, 1, 1, S, past.keys.shape[2]]);
  const scores = [score(past, pastBias as tf.Tensor5D), score(added, frame.bias)] as const;
  const highest = tf.maximum(tf.max(scores[0], -1, true), tf.max(scores[1], -1, true)); // [B, G, R, S, 1]
  const shares = scores.map((one) => tf.exp(tf.sub(one, highest)));
  const mixed = [past, added].map(({ values }, index) =>
    tf.matMul(tf.reshape(shares[index] as tf.Tensor, [B, G, R * S, values.shape[2]]), values),
  ) as [tf.Tensor4D, tf.Tensor4D]; // [B, G, R S, D]
  const sums = tf.add(
    tf.sum(shares[0] as tf.Tensor, -1, true),
    tf.sum(shares[1] as tf.Tensor, -1, true),
  );
  const whole = tf.div(tf.add(mixed[0], mixed[1]), tf.reshape(sums, [B, G, R * S, 1]));
  const rows = tf.transpose(tf.reshape(whole, [B, N, S, D]), [0, 2, 1, 3]); // [B, S, N, D]
  const flat = tf.reshape(rows, [B, S, N * D]) as tf.Tensor3D;
  const output = dense(params, `${path}.o_proj`, flat, frame);
  return { hidden: feedForward(params, layer, tf.add(hidden, output), frame, config), added };
}

/**
 * The keys and values that block `layer` would have for tokens that stopped with `hidden` before it: the block's own
 * input norm, then the projections, then rotation at the tokens' true places.
 */
export function llamaSkipped(
  params: TensorParams,
  layer: number,
  hidden: tf.Tensor3D,
  frame: LlamaFrame,
  config: LlamaConfig,
): LlamaCache {
  const input = norm(params, `${llamaBlockPath(layer)}.input_layernorm`, hidden, config);
  return llamaKeysAndValues(params, layer, input, frame, config);
}

/** The final norm of some states, of their shape. */
export function llamaNorm<T extends tf.Tensor>(
  params: TensorParams,
  hidden: T,
  config: LlamaConfig,
): T {
  return norm(params, "backbone.norm", hidden as unknown as tf.Tensor3D, config) as unknown as T;
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

/** Rotated keys and values of the new tokens, `[B, G, S, D]`; `input` is behind the block's own input norm. */
function llamaKeysAndValues(
  params: TensorParams,
  layer: number,
  input: tf.Tensor3D,
  frame: LlamaFrame,
  config: LlamaConfig,
): LlamaCache {
  const path = `${llamaBlockPath(layer)}.self_attn`;
  const keys = split(dense(params, `${path}.k_proj`, input, frame), config.kvHeads, config);
  const values = split(dense(params, `${path}.v_proj`, input, frame), config.kvHeads, config);
  return { keys: rotate(keys, frame), values };
}

/** Self-attention of the new tokens over old and new ones, after its output projection, `[B, S, H]`. */
function attention(
  params: TensorParams,
  layer: number,
  input: tf.Tensor3D,
  { keys, values }: LlamaCache,
  frame: LlamaFrame,
  config: LlamaConfig,
): tf.Tensor3D {
  const path = `${llamaBlockPath(layer)}.self_attn`;
  const { heads: N, kvHeads: G, headSize: D } = config;
  const R = N / G;
  const [B, S] = input.shape;
  const T = keys.shape[2];
  const split4 = split(dense(params, `${path}.q_proj`, input, frame), N, config); // [B, N, S, D]
  const queries = tf.mul(rotate(split4, frame), 1 / Math.sqrt(D));
  // Heads that share keys are neighbours, so the keys need no copies: their queries stand below each other.
  const stacked = tf.reshape(queries, [B, G, R * S, D]) as tf.Tensor4D;
  const scores = tf.reshape(tf.matMul(stacked, keys, false, true), [B, G, R, S, T]);
  const weights = tf.softmax(tf.add(scores, frame.bias)); // [B, G, R, S, T]
  const mixed = tf.matMul(tf.reshape(weights, [B, G, R * S, T]), values); // [B, G, R S, D]
  const rows = tf.transpose(tf.reshape(mixed, [B, N, S, D]), [0, 2, 1, 3]); // [B, S, N, D]
  return dense(params, `${path}.o_proj`, tf.reshape(rows, [B, S, N * D]) as tf.Tensor3D, frame);
}

/** `[B, S, heads D]` to `[B, heads, S, D]` */
function split(x: tf.Tensor3D, heads: number, { headSize }: LlamaConfig): tf.Tensor4D {
  const [B, S] = x.shape;
  return tf.transpose(tf.reshape(x, [B, S, heads, headSize]), [0, 2, 1, 3]) as tf.Tensor4D;
}

/** Turns the pairs (i, i + D / 2) of every head by their token's angles, as checkpoints of Hugging Face expect. */
function rotate(x: tf.Tensor4D, { cos, sin }: LlamaFrame): tf.Tensor4D {
  const [first, second] = tf.split(x, 2, 3) as [tf.Tensor4D, tf.Tensor4D]; // [B, heads, S, D / 2]
  return tf.concat(
    [
      tf.sub(tf.mul(first, cos), tf.mul(second, sin)) as tf.Tensor4D,
      tf.add(tf.mul(second, cos), tf.mul(first, sin)) as tf.Tensor4D,
    ],
    3,
  );
}

/** RMSNorm: no mean and no bias, unlike LayerNorm. */
function norm(
  params: TensorParams,
  path: string,
  x: tf.Tensor3D,
  { rmsNormEps }: LlamaConfig,
): tf.Tensor3D {
  const scale = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), rmsNormEps)); // [B, S, 1]
  return tf.mul(tf.mul(x, scale), parameter(params, `${path}.weight`));
}

function dense(
  params: TensorParams,
  path: string,
  x: tf.Tensor3D,
  { adapt }: Pick<LlamaFrame, "adapt"> = {},
): tf.Tensor3D {
  const weight = parameter(params, `${path}.weight`);
  const output = linear(x, weight, tf.zeros([weight.shape[0] as number]));
  const added = adapt?.(path, x);
  return added ? tf.add(output, added) : output;
}

function parameter(params: TensorParams, path: string): tf.Tensor {
  const tensor = params[path];
  if (tensor) return tensor;
  throw new BackboneError(
    "MISSING_TENSOR",
    path,
    "is not among the parameters. Pass the decoder's whole record, or this block's part of it.",
  );
}

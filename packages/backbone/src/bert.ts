/**
 * @file BERT's encoder as plain functions of a parameter record (post-LN blocks, absolute positions).
 *
 * Shapes: B = rows, S = sequence, H = hidden size, N = attention heads, D = H / N, F = feed-forward width.
 */
import { dropout, type TensorParams } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import type { BertConfig } from "./config.js";
import { BackboneError } from "./errors.js";
import { activation, embedding, layerNorm, linear } from "./ops.js";

/** One padded batch on the device. */
export interface BertInputs {
  /** Token ids, int32 `[B, S]`. */
  readonly ids: tf.Tensor2D;
  /** Token types, int32 `[B, S]`. */
  readonly types: tf.Tensor2D;
  /** 0, 1, … S - 1, int32 `[S]` (or one row per input, `[B, S]`): fed, so that no length is baked into a graph. */
  readonly positions: tf.Tensor1D | tf.Tensor2D;
  /** 1 for a token, 0 for padding, float32 `[B, S]`. */
  readonly mask: tf.Tensor2D;
}

export interface BertContext {
  readonly config: BertConfig;
  /** Switches training-time dropout on; `seed` is int32 `[2]`, fresh for every step. */
  readonly dropout?: { readonly seed: tf.Tensor1D } | undefined;
}

/** The shape of every encoder parameter by path, in the order of a checkpoint. */
export function bertParameters(config: BertConfig): ReadonlyMap<string, readonly number[]> {
  const { hidden, intermediate } = config;
  const shapes = new Map<string, readonly number[]>();
  const norm = (path: string) => {
    shapes.set(`${path}.weight`, [hidden]);
    shapes.set(`${path}.bias`, [hidden]);
  };
  const dense = (path: string, inputs: number, outputs: number) => {
    shapes.set(`${path}.weight`, [outputs, inputs]);
    shapes.set(`${path}.bias`, [outputs]);
  };
  const embeddings = "backbone.embeddings";
  shapes.set(`${embeddings}.word_embeddings.weight`, [config.vocabSize, hidden]);
  shapes.set(`${embeddings}.position_embeddings.weight`, [config.maxPositions, hidden]);
  shapes.set(`${embeddings}.token_type_embeddings.weight`, [config.typeVocab, hidden]);
  norm(`${embeddings}.LayerNorm`);
  for (let layer = 1; layer <= config.depth; layer += 1) {
    const path = blockPath(layer);
    dense(`${path}.attention.self.query`, hidden, hidden);
    dense(`${path}.attention.self.key`, hidden, hidden);
    dense(`${path}.attention.self.value`, hidden, hidden);
    dense(`${path}.attention.output.dense`, hidden, hidden);
    norm(`${path}.attention.output.LayerNorm`);
    dense(`${path}.intermediate.dense`, hidden, intermediate);
    dense(`${path}.output.dense`, intermediate, hidden);
    norm(`${path}.output.LayerNorm`);
  }
  dense("backbone.pooler.dense", hidden, hidden);
  return shapes;
}

/** Where the parameters of a block (1..depth) live; the names in checkpoints count blocks from 0. */
export function blockPath(layer: number): string {
  return `backbone.encoder.layer.${layer - 1}`;
}

const DROPOUT_SITES = ["attention", "attentionOutput", "output"] as const;
export type DropoutSite = (typeof DROPOUT_SITES)[number];

/** A number that no other dropout of the encoder has; layer 0 is the embedding. Heads count from 2^20 on. */
export function dropoutSite(layer: number, site: DropoutSite): number {
  return layer * DROPOUT_SITES.length + DROPOUT_SITES.indexOf(site);
}

/** Sums word, position and type embeddings and normalises: `[B, S, H]`. */
export function embed(params: TensorParams, inputs: BertInputs, ctx: BertContext): tf.Tensor3D {
  const path = "backbone.embeddings";
  const table = (name: string) => parameter(params, `${path}.${name}_embeddings.weight`);
  const words = embedding(table("word"), inputs.ids);
  const types = embedding(table("token_type"), inputs.types);
  const positions = embedding(table("position"), inputs.positions); // [S, H] or [B, S, H]
  const sum = tf.add(tf.add(words, types), positions) as tf.Tensor3D;
  return maybeDropout(norm(params, `${path}.LayerNorm`, sum, ctx), 0, "output", ctx);
}

/** What is added to attention scores: 0 for tokens, a large negative number for padding, `[B, 1, 1, S]`. */
export function attentionBias(mask: tf.Tensor2D): tf.Tensor4D {
  const [B, S] = mask.shape;
  // -10000 as in the released BERT: exp underflows to exactly 0 beside any token, so padding changes nothing;
  // finite, so that a row without tokens gives numbers and not NaN; and it fits in half precision.
  return tf.reshape(tf.mul(tf.sub(1, mask), -10000), [B, 1, 1, S]);
}

/**
 * Block `layer` (1..depth): self-attention and feed-forward, each with residual and LayerNorm; `[B, S, H]`.
 * @param all where keys and values come from, `[B, S', H]` with a bias for S' tokens: then only the tokens in `hidden`
 * are updated, and only they cost queries, rows of attention and a feed-forward; @default `hidden`
 */
export function block(
  params: TensorParams,
  layer: number,
  hidden: tf.Tensor3D,
  bias: tf.Tensor4D,
  ctx: BertContext,
  all: tf.Tensor3D = hidden,
): tf.Tensor3D {
  const path = blockPath(layer);
  const mixed = attention(params, layer, hidden, all, bias, ctx);
  const attended = norm(
    params,
    `${path}.attention.output.LayerNorm`,
    tf.add(
      maybeDropout(
        dense(params, `${path}.attention.output.dense`, mixed),
        layer,
        "attentionOutput",
        ctx,
      ),
      hidden,
    ),
    ctx,
  );
  const inner = activation(
    dense(params, `${path}.intermediate.dense`, attended), // [B, S, F]
    ctx.config.act,
  );
  const outer = maybeDropout(dense(params, `${path}.output.dense`, inner), layer, "output", ctx);
  return norm(params, `${path}.output.LayerNorm`, tf.add(outer, attended), ctx);
}

/** BERT's pooler on the `[CLS]` state: `tanh(W c + b)`, `[B, H]`. */
export function pool(params: TensorParams, hidden: tf.Tensor3D): tf.Tensor2D {
  return tf.tanh(dense(params, "backbone.pooler.dense", firstToken(hidden)));
}

/** The `[CLS]` state of each row, `[B, H]`. */
export function firstToken(hidden: tf.Tensor3D): tf.Tensor2D {
  // A gather and not a slice: the gradient of a slice pads by S - 1, which a symbolic length cannot express.
  return tf.squeeze(tf.gather(hidden, tf.tensor1d([0], "int32"), 1), [1]); // [B, H]
}

/** Runs the whole encoder; entry `layer - 1` is the output of block `layer`, `[B, S, H]`. */
export function encoder(
  params: TensorParams,
  inputs: BertInputs,
  ctx: BertContext,
): readonly tf.Tensor3D[] {
  const bias = attentionBias(inputs.mask);
  let hidden = embed(params, inputs, ctx);
  return Array.from({ length: ctx.config.depth }, (_, index) => {
    hidden = block(params, index + 1, hidden, bias, ctx);
    return hidden;
  });
}

/** Multi-head self-attention before its output projection, `[B, S, H]`. */
function attention(
  params: TensorParams,
  layer: number,
  hidden: tf.Tensor3D,
  all: tf.Tensor3D,
  bias: tf.Tensor4D,
  ctx: BertContext,
): tf.Tensor3D {
  const path = `${blockPath(layer)}.attention.self`;
  const [B, S, H] = hidden.shape;
  const N = ctx.config.heads;
  const D = H / N;
  const split = (name: string, x: tf.Tensor3D): tf.Tensor4D =>
    tf.transpose(
      tf.reshape(dense(params, `${path}.${name}`, x), [B, x.shape[1], N, D]),
      [0, 2, 1, 3],
    ) as tf.Tensor4D; // [B, N, S, D]
  // Scaling the queries costs S x D products per head instead of S x S.
  const queries = tf.mul(split("query", hidden), 1 / Math.sqrt(D)) as tf.Tensor4D;
  const scores = tf.add(tf.matMul(queries, split("key", all), false, true), bias); // [B, N, S, S]
  const weights = maybeDropout(tf.softmax(scores), layer, "attention", ctx) as tf.Tensor4D;
  const mixed = tf.matMul(weights, split("value", all)); // [B, N, S, D]
  return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [B, S, H]);
}

function dense<T extends tf.Tensor>(params: TensorParams, path: string, x: T): T {
  return linear(x, parameter(params, `${path}.weight`), parameter(params, `${path}.bias`));
}

function norm<T extends tf.Tensor>(
  params: TensorParams,
  path: string,
  x: T,
  { config }: BertContext,
): T {
  const scale = parameter(params, `${path}.weight`);
  return layerNorm(x, scale, parameter(params, `${path}.bias`), config.layerNormEps);
}

function maybeDropout<T extends tf.Tensor>(
  x: T,
  layer: number,
  site: DropoutSite,
  { config, dropout: plan }: BertContext,
): T {
  const rate = site === "attention" ? config.attentionDropout : config.hiddenDropout;
  if (!plan || rate === 0) return x;
  return dropout(x, { rate, seed: plan.seed, site: dropoutSite(layer, site) });
}

function parameter(params: TensorParams, path: string): tf.Tensor {
  const tensor = params[path];
  if (tensor) return tensor;
  throw new BackboneError(
    "MISSING_TENSOR",
    path,
    "is not among the parameters. Pass the encoder's whole record, or this block's part of it.",
  );
}

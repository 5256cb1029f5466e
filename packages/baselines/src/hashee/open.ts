/**
 * @file Runs HashEE for real: at each layer, queries, attention rows, output projection and feed-forward are computed for
 * the tokens that are still updated, keys and values for all.
 *
 * Tokens are put in the order of their last layer before the embedding, so that the tokens of a layer are always the first
 * ones of a row: attention does not look at order, and positions are fed. A batch computes, per layer, as many tokens as
 * its longest row needs; rows that need fewer keep what they have.
 *
 * Shapes: B = rows, S = length, n = tokens computed at a layer, H = hidden size, C = classes, T = layers.
 */
import {
  attentionBias,
  BackboneError,
  batchSpecs,
  block,
  checkBatch,
  embed,
  type ModelPlan,
  type TokenBatch,
} from "@cee/backbone";
import type {
  CompiledFunction,
  Engine,
  HostParams,
  HostTensor,
  SpecTree,
  TensorParams,
} from "@cee/engine";
import { predictionOf } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { layers } from "../losses.js";
import { answer, asColumn, choose } from "../own-forward.js";
import { lengthsOf } from "../token-batch.js";
import { frozenTokenMacs } from "../token-cost.js";
import type { HashEeOptions } from "./options.js";
import type { TokenMap } from "./token-map.js";
import { checkHashEe } from "./training.js";

export interface TokenwiseOutcome {
  /** Before softmax, shape `[N, C]`. */
  readonly logits: Float32Array;
  /** Class per row, shape `[N]`. */
  readonly predictions: Float32Array;
  /** Tokens of each row that each layer updates, shape `[N, T]`. */
  readonly active: Int32Array;
  /** Multiply-adds of each row's blocks, by the cost model, shape `[N]`. */
  readonly macs: Float64Array;
}

export interface TokenwiseModel {
  classify(batch: TokenBatch): Promise<TokenwiseOutcome>;
  dispose(): Promise<void>;
}

/** Layers in one graph: each has a symbolic size of its own, and there are only so many that can be told apart. */
const LAYERS_PER_GRAPH = 12;

/**
 * Compiles the model, weights baked in.
 * @throws BackboneError `BAD_OPTION` for a regression, a model with too few layers, or a map of another vocabulary
 */
export function openHashEe(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  map: TokenMap,
  options: HashEeOptions,
): TokenwiseModel {
  checkHashEe(model, options, map);
  const { config, shape } = model;
  const last = options.maxLayer - 1;
  const programs: CompiledFunction[] = [];
  for (let first = 1; first <= last; first += LAYERS_PER_GRAPH)
    programs.push(
      compilePart(engine, model, params, first, Math.min(last, first + LAYERS_PER_GRAPH - 1), last),
    );
  return {
    async classify(batch) {
      checkBatch(batch, config, "hashee");
      const plan = planTokens(batch, map, last);
      let hidden: HostTensor | undefined;
      for (const [index, program] of programs.entries()) {
        const first = 1 + index * LAYERS_PER_GRAPH;
        const own = layers(first, Math.min(last, first + LAYERS_PER_GRAPH - 1));
        hidden = await program.run<HostTensor>({
          ...(hidden ? { hidden } : plan.tokens),
          mask: plan.mask,
          until: plan.until,
          first: Object.fromEntries(
            own.map((layer) => [layer, plan.first[layer - 1] as HostTensor]),
          ),
          spread: Object.fromEntries(
            own.map((layer) => [layer, plan.spread[layer - 1] as HostTensor]),
          ),
        });
      }
      const logits = (hidden as HostTensor).data as Float32Array;
      const { classes, task } = shape;
      const tokens = lengthsOf(batch);
      return {
        logits,
        predictions: Float32Array.from({ length: batch.rows }, (_, row) =>
          predictionOf(task, logits, row * classes, classes),
        ),
        active: plan.active,
        macs: Float64Array.from({ length: batch.rows }, (_, row) =>
          frozenTokenMacs(
            plan.active.subarray(row * last, (row + 1) * last),
            tokens[row] as number,
            config,
          ),
        ),
      };
    },
    async dispose() {
      for (const program of programs) await program.dispose();
    },
  };
}

/** A stretch of layers; the first takes tokens, the last gives logits `[B, C]`, others states `[B, S, H]`. */
function compilePart(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  first: number,
  to: number,
  last: number,
): CompiledFunction {
  const { config } = model;
  const own = layers(first, to);
  const index: SpecTree = Object.fromEntries(
    own.map((layer) => [layer, { dtype: "int32", shape: [`active${layer}`] } as const]),
  );
  const spread: SpecTree = Object.fromEntries(
    own.map((layer) => [layer, { dtype: "int32", shape: ["length"] } as const]),
  );
  const start: Record<string, SpecTree> =
    first === 1
      ? {
          ids: batchSpecs.ids,
          types: batchSpecs.types,
          positions: { dtype: "int32", shape: ["batch", "length"] },
        }
      : { hidden: { dtype: "float32", shape: ["batch", "length", config.hidden] } };
  const context = { config };
  return engine.compile(
    ({
      params: weights,
      mask,
      until,
      first: firstOf,
      spread: spreadOf,
      hidden: before,
      ...tokens
    }) => {
      const bias = attentionBias(mask);
      let hidden: tf.Tensor3D =
        before ?? embed(weights as TensorParams, { ...tokens, mask }, context);
      for (const layer of own) {
        const active = tf.gather(hidden, firstOf[layer], 1); // [B, n, H]
        const next = block(weights, layer, active, bias, context, hidden);
        const back = tf.gather(next, spreadOf[layer], 1); // [B, S, H]
        hidden = choose(asColumn(tf.greaterEqual(until, layer)), back, hidden);
      }
      return to === last ? answer(model, { weights, context }, hidden, mask, last) : hidden;
    },
    {
      name: `hashee ${first}-${to}`,
      inputs: {
        ...start,
        mask: batchSpecs.mask,
        until: { dtype: "float32", shape: ["batch", "length"] },
        first: index,
        spread,
      },
      constants: { params: partOf(params, own, first === 1, to === last ? last : undefined) },
    },
  );
}

/** Parameters of some blocks, of the embeddings, and of the answer at a layer. */
export function partOf(
  params: HostParams,
  blocks: readonly number[],
  withEmbeddings: boolean,
  answerAt: number | undefined,
): HostParams {
  const prefixes = [
    ...blocks.map((layer) => `backbone.encoder.layer.${layer - 1}.`),
    ...(withEmbeddings ? ["backbone.embeddings."] : []),
    ...(answerAt === undefined ? [] : ["backbone.pooler.", `heads.${answerAt}.`, "heads.shared."]),
  ];
  return Object.fromEntries(
    Object.entries(params).filter(([path]) => prefixes.some((prefix) => path.startsWith(prefix))),
  );
}

/** The batch with tokens in order of their last layer, and what each layer computes. */
export function planTokens(batch: TokenBatch, map: TokenMap, last: number) {
  const { rows, length } = batch;
  const size = rows * length;
  const tokens = lengthsOf(batch);
  const [ids, types, positions] = [
    new Int32Array(size),
    new Int32Array(size),
    new Int32Array(size),
  ];
  const [mask, until] = [new Float32Array(size), new Float32Array(size)];
  const active = new Int32Array(rows * last);
  for (let row = 0; row < rows; row += 1) {
    const start = row * length;
    const own = tokens[row] as number;
    const lastOf = (at: number): number =>
      // The answer is read from the first token, whatever it is.
      at === 0 ? last : at < own ? (map[batch.ids[start + at] as number] as number) : 0;
    const order = Array.from({ length }, (_, at) => at).sort(
      (a, b) => lastOf(b) - lastOf(a) || a - b,
    );
    order.forEach((at, place) => {
      ids[start + place] = batch.ids[start + at] as number;
      types[start + place] = batch.types[start + at] as number;
      positions[start + place] = at;
      mask[start + place] = batch.mask[start + at] as number;
      until[start + place] = lastOf(at);
    });
    for (const layer of layers(1, last))
      active[row * last + layer - 1] = order.filter((at) => lastOf(at) >= layer).length;
  }
  const int32 = (data: Int32Array, shape: readonly number[]): HostTensor => ({
    dtype: "int32",
    shape,
    data,
  });
  const float32 = (data: Float32Array): HostTensor => ({
    dtype: "float32",
    shape: [rows, length],
    data,
  });
  const widest = layers(1, last).map((layer) => {
    let most = 1;
    for (let row = 0; row < rows; row += 1)
      most = Math.max(most, active[row * last + layer - 1] as number);
    return most;
  });
  return {
    tokens: {
      ids: int32(ids, [rows, length]),
      types: int32(types, [rows, length]),
      positions: int32(positions, [rows, length]),
    },
    mask: float32(mask),
    until: float32(until),
    active,
    first: widest.map((count) =>
      int32(
        Int32Array.from({ length: count }, (_, at) => at),
        [count],
      ),
    ),
    spread: widest.map((count) =>
      int32(
        Int32Array.from({ length }, (_, at) => Math.min(at, count - 1)),
        [length],
      ),
    ),
  };
}

/** Complains of a token id that the map does not have. */
export function refuseMap(path: string, map: TokenMap, last: number): void {
  const wrong = map.find((layer) => layer < 1 || layer > last);
  if (wrong !== undefined)
    throw new BackboneError(
      "BAD_FILE",
      path,
      `the map must send tokens to layers from 1 to ${last}, got ${wrong}. Save the method again.`,
    );
}

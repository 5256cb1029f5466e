/**
 * @file The graphs of a decoder: one for the blocks up to each exit, one for the keys and values that they would leave,
 * and one for each projection onto the vocabulary.
 *
 * Shapes: B = rows, S = new tokens, P = cached tokens, H = hidden size, V = vocabulary, K = values observed.
 */
import type { CompiledFunction, Engine, HostParams, SpecTree, TensorParams } from "@cee/engine";
import type { Carry, Observer, Signals } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import {
  joinProjections,
  llamaAngles,
  llamaBlockPath,
  llamaEmbed,
  llamaFrame,
  llamaNorm,
  llamaSkipped,
  llamaStep,
} from "../llama.js";
import { linear } from "../ops.js";
import { pickParams } from "../runner/layer.js";
import { observeAt } from "../runner/observation.js";
import { memoise, strategyParams } from "../runner/signals.js";
import { type CausalDecoder, projectionPath } from "./decoder.js";

/** Blocks `from + 1` to `to`; a token may stop at `to`. */
export interface Group {
  readonly from: number;
  readonly to: number;
}

/** Cuts the blocks at the exits. */
export function groupsOf(exits: readonly number[]): readonly Group[] {
  return exits.map((to, index) => ({ from: exits[index - 1] ?? 0, to }));
}

/** The layers of a group's blocks. */
export function blocksOf({ from, to }: Group): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index + 1);
}

type Compile = Engine["compile"];

/** What says how states come to logits. */
type Projected = Pick<CausalDecoder, "config" | "heads">;

const TOKENS = ["batch", "length"] as const;

interface Tensors {
  readonly params: TensorParams;
  readonly ids: tf.Tensor2D;
  readonly hidden: tf.Tensor3D;
  readonly positions: tf.Tensor2D;
  readonly mask: tf.Tensor3D;
  readonly last: tf.Tensor2D;
  readonly caches: readonly { readonly keys: tf.Tensor4D; readonly values: tf.Tensor4D }[];
  readonly carry: Carry | undefined;
}

/** What a group says of each row's last token: what an observer sees, or the answer of the last layer's head. */
export type LastTokens =
  | { readonly observer: Observer; readonly carry: SpecTree | undefined }
  | "answer"
  | undefined;

/**
 * A group of blocks over new tokens: ids (the first group) or states in, states and the new keys and values out, and what
 * there is to say of each row's last token.
 */
export function compileGroup(
  compile: Compile,
  decoder: CausalDecoder,
  params: HostParams,
  { from, to }: Group,
  lastTokens: LastTokens,
): CompiledFunction {
  const { config, heads } = decoder;
  const { kvHeads, headSize, hidden: H } = config;
  const isFirst = from === 0;
  const cache = { dtype: "float32", shape: ["batch", kvHeads, "past", headSize] } as const;
  const prefixes = blocksOf({ from, to }).map((layer) => `${llamaBlockPath(layer)}.`);
  const { observer, carry } = typeof lastTokens === "object" ? lastTokens : {};
  const readsLogits =
    lastTokens === "answer" ||
    (observer?.needs.some((name) => name === "logits" || name === "probs") ?? false);
  const constants = pickParams(
    params,
    (path) =>
      prefixes.some((prefix) => path.startsWith(prefix)) ||
      (isFirst && path === "backbone.embed_tokens.weight") ||
      (lastTokens !== undefined &&
        (path === "backbone.norm.weight" || path.startsWith("strategy."))) ||
      (readsLogits && path === projectionPath(heads, to, config)),
  );
  return compile(
    (tensors: Tensors) => {
      const weights = tensors.params;
      const frame = llamaFrame(tensors, config);
      let hidden = isFirst ? llamaEmbed(weights, tensors.ids) : tensors.hidden;
      const added: { keys: tf.Tensor; values: tf.Tensor }[] = [];
      for (const [index, layer] of blocksOf({ from, to }).entries()) {
        const past = tensors.caches[index] as Tensors["caches"][number];
        const result = llamaStep(weights, layer, hidden, past, frame, config);
        hidden = result.hidden;
        added.push({ ...result.added });
      }
      if (!lastTokens) return { hidden, added };
      const newest = hidden;
      const signals = signalsOf(decoder, weights, to, () => lastOf(newest, tensors.last));
      if (!observer) return { hidden, added, logits: signals.logits };
      const own = strategyParams(weights);
      const observed = observeAt(observer, decoder, to, signals, own, tensors.carry);
      const logits = observed.logits ?? (readsLogits ? signals.logits : undefined);
      return {
        hidden,
        added,
        values: observed.values,
        ...(logits === undefined ? {} : { logits }),
        ...(observed.carry === undefined ? {} : { carry: observed.carry }),
      };
    },
    {
      name: `blocks ${from + 1} to ${to}`,
      inputs: {
        ...(isFirst
          ? { ids: { dtype: "int32", shape: TOKENS } }
          : { hidden: { dtype: "float32", shape: [...TOKENS, H] } }),
        positions: { dtype: "int32", shape: TOKENS },
        mask: { dtype: "float32", shape: [...TOKENS, "past+length"] },
        caches: blocksOf({ from, to }).map(() => ({ keys: cache, values: cache })),
        ...(lastTokens ? { last: { dtype: "float32", shape: TOKENS } } : {}),
        ...(carry === undefined ? {} : { carry }),
      },
      constants: { params: joinProjections(constants, blocksOf({ from, to })) },
    },
  );
}

/** Keys and values of a group's blocks for tokens that stopped before it. */
export function compileFill(
  compile: Compile,
  { config }: CausalDecoder,
  params: HostParams,
  group: Group,
): CompiledFunction {
  const names = ["input_layernorm", "self_attn.k_proj", "self_attn.v_proj"];
  const paths = blocksOf(group).flatMap((layer) =>
    names.map((name) => `${llamaBlockPath(layer)}.${name}.weight`),
  );
  return compile(
    ({ params: weights, hidden, positions }: Tensors) => {
      const angles = llamaAngles(positions, config);
      return {
        added: blocksOf(group).map((layer) => ({
          ...llamaSkipped(weights, layer, hidden, angles, config),
        })),
      };
    },
    {
      name: `keys and values ${group.from + 1} to ${group.to}`,
      inputs: {
        hidden: { dtype: "float32", shape: [...TOKENS, config.hidden] },
        positions: { dtype: "int32", shape: TOKENS },
      },
      constants: { params: pickParams(params, (path) => paths.includes(path)) },
    },
  );
}

/** The final norm and the projection of the exit at `layer`: states `[B, H]` to logits `[B, V]`. */
export function compileProjection(
  compile: Compile,
  decoder: CausalDecoder,
  params: HostParams,
  layer: number,
): CompiledFunction {
  const { config, heads } = decoder;
  const paths = ["backbone.norm.weight", projectionPath(heads, layer, config)];
  return compile(
    ({ params: weights, states }) => ({
      logits: project(decoder, weights, layer, llamaNorm(weights, states, config)),
    }),
    {
      name: `logits ${layer}`,
      inputs: { states: { dtype: "float32", shape: ["batch", config.hidden] } },
      constants: { params: pickParams(params, (path) => paths.includes(path)) },
    },
  );
}

/** Signals of single tokens' states `[B, H]`, computed when first read. */
export function signalsOf(
  decoder: Projected,
  params: TensorParams,
  layer: number,
  state: () => tf.Tensor2D,
): Signals {
  const memo = memoise();
  const hidden = () => memo("hidden", state);
  const pooled = () => memo("pooled", () => llamaNorm(params, hidden(), decoder.config));
  const logits = () => memo("logits", () => project(decoder, params, layer, pooled()));
  return {
    get hidden() {
      return hidden();
    },
    get pooled() {
      return pooled();
    },
    get features() {
      return pooled();
    },
    get logits() {
      return logits();
    },
    get probs() {
      return memo("probs", () => tf.softmax(logits()));
    },
  };
}

/** States behind the final norm to logits, both over the last axis. */
export function project<T extends tf.Tensor>(
  { heads, config }: Projected,
  params: TensorParams,
  layer: number,
  normed: T,
): T {
  const table = params[projectionPath(heads, layer, config)] as tf.Tensor;
  return linear(normed, table, tf.zeros([config.vocabSize]));
}

/** Each row's last token, `[B, H]`: a product with 0 and 1, since rows end at different places. */
function lastOf(hidden: tf.Tensor3D, last: tf.Tensor2D): tf.Tensor2D {
  const [B, S, H] = hidden.shape;
  return tf.reshape(tf.matMul(tf.reshape(last, [B, 1, S]) as tf.Tensor3D, hidden), [B, H]);
}

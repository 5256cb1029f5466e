/**
 * @file A decoder at full depth as ONNX, with the cache as inputs and outputs.
 *
 * B = rows, S = new tokens, P = cached tokens, T = P + S, G = key and value heads, D = head size, V = vocabulary.
 */
import {
  assembleOnnx,
  type OnnxPort,
  type OnnxScope,
  type OnnxValue,
  PART_OPSET,
  type TensorSpec,
  traceOnnx,
} from "@cee/engine";
import type { CausalDecoder } from "../decoder/decoder.js";
import { projectionPath } from "../decoder/decoder.js";
import { project } from "../decoder/programs.js";
import { llama, llamaNorm, llamaParameters } from "../llama.js";
import { pickParams } from "../runner/layer.js";
import { cast, EXPORT_INPUTS, rangeOf, sizeOf, type Values } from "./exit-graph.js";

const POSITIONS = "position_ids";
const HALVES = [
  ["key", "keys"],
  ["value", "values"],
] as const;

/**
 * Builds the model: `input_ids` and `position_ids` (int64 `[B, S]`), `attention_mask` (int64 `[B, T]`),
 * `past_key_values.<block>.key` and `.value` (`[B, G, P, D]`, blocks from 0) to `logits` `[B, S, V]` and
 * `present.<block>.key` and `.value` (`[B, G, T, D]`), which is what Hugging Face's libraries read from
 * `onnx/model.onnx`. The last layer's head answers.
 * @throws EngineError `BAD_OPTION` for weights above 1.5 GB
 */
export function exportDecoderOnnx(decoder: CausalDecoder): Uint8Array {
  const { config, params, heads } = decoder;
  const { depth, kvHeads, headSize, vocabSize } = config;
  const blocks = Array.from({ length: depth }, (_, block) => block);
  const table = projectionPath(heads, depth, config);
  const own = llamaParameters(config);
  const cache: TensorSpec = { dtype: "float32", shape: ["batch", kvHeads, "past", headSize] };
  const part = traceOnnx(
    ({ params: weights, inputs, caches }) => {
      const { states, caches: grown } = llama(weights, inputs, caches, config);
      const normed = llamaNorm(weights, states[depth - 1] as (typeof states)[number], config);
      return {
        logits: project(decoder, weights, depth, normed),
        caches: grown.map((one) => ({ ...one })),
      };
    },
    {
      name: "decoder",
      inputs: {
        inputs: {
          ids: { dtype: "int32", shape: ["batch", "length"] },
          positions: { dtype: "int32", shape: ["batch", "length"] },
          mask: { dtype: "float32", shape: ["batch", "length", "past+length"] },
        },
        caches: blocks.map(() => ({ keys: cache, values: cache })),
      },
      constants: { params: pickParams(params, (path) => own.has(path) || path === table) },
    },
  );
  // Transformers.js makes the empty cache itself, from these very names of sizes.
  const tokens: OnnxPort = { type: "int64", dims: ["batch_size", "sequence_length"] };
  const total = "past_sequence_length + sequence_length";
  const ofCache = (name: string, length: string): Record<string, OnnxPort> =>
    Object.fromEntries(
      blocks.flatMap((block) =>
        HALVES.map(([half]) => [
          `${name}.${block}.${half}`,
          { type: "float32", dims: ["batch_size", kvHeads, length, headSize] },
        ]),
      ),
    );
  return assembleOnnx({
    opset: PART_OPSET,
    description: `${depth} layers without exits`,
    inputs: {
      [EXPORT_INPUTS.ids]: tokens,
      [EXPORT_INPUTS.mask]: { type: "int64", dims: ["batch_size", total] },
      [POSITIONS]: tokens,
      ...ofCache("past_key_values", "past_sequence_length"),
    },
    outputs: {
      logits: { type: "float32", dims: ["batch_size", "sequence_length", vocabSize] },
      ...ofCache("present", total),
    },
    build(scope, inputs) {
      const ids = inputs[EXPORT_INPUTS.ids] as OnnxValue;
      const made = scope.inline(part, {
        "inputs/ids": cast(scope, ids, "int32"),
        "inputs/positions": cast(scope, inputs[POSITIONS] as OnnxValue, "int32"),
        "inputs/mask": lookable(scope, ids, inputs[EXPORT_INPUTS.mask] as OnnxValue),
        ...Object.fromEntries(
          blocks.flatMap((block) =>
            HALVES.map(([half, path]) => [
              `caches/${block}/${path}`,
              inputs[`past_key_values.${block}.${half}`] as OnnxValue,
            ]),
          ),
        ),
      });
      return {
        logits: made.logits as OnnxValue,
        ...Object.fromEntries(
          blocks.flatMap((block) =>
            HALVES.map(([half, path]) => [
              `present.${block}.${half}`,
              made[`caches/${block}/${path}`] as OnnxValue,
            ]),
          ),
        ),
      } satisfies Values;
    },
  });
}

/** 1 where a new token may look, float32 `[B, S, T]`: at what `mask` `[B, T]` keeps, up to its own place. */
function lookable(scope: OnnxScope, ids: OnnxValue, mask: OnnxValue): OnnxValue {
  const axis = (number: number) => scope.constant("int64", [1], [number]);
  const [total, added] = [sizeOf(scope, mask, 1), sizeOf(scope, ids, 1)];
  const cached = scope.node("Sub", [total, added], "int64");
  const columns = rangeOf(scope, total); // [T]
  const rows = scope.node("Add", [rangeOf(scope, added), cached], "int64"); // [S]
  const isBefore = scope.node(
    "LessOrEqual",
    [columns, scope.node("Unsqueeze", [rows, axis(1)], "int64")],
    "bool",
  ); // [S, T]
  const kept = scope.node("Unsqueeze", [cast(scope, mask, "float32"), axis(1)], "float32"); // [B, 1, T]
  return scope.node("Mul", [kept, cast(scope, isBefore, "float32")], "float32");
}

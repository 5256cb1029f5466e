/** @file An encoder with one classifier and no exits as ONNX: full depth, or truncated after a layer. */
import { assembleOnnx, type OnnxPart, type OnnxPort, PART_OPSET, traceOnnx } from "@cee/engine";
import type { ExitEncoder } from "../encoder.js";
import { BackboneError } from "../errors.js";
import { type BatchTensors, exitSignals } from "../runner/signals.js";
import { EXPORT_INPUTS, type Values, withTokens } from "./exit-graph.js";

export interface ExportFlatOptions {
  /** Whose head answers; blocks above it are left out. @default the last layer */
  readonly layer?: number;
}

/**
 * Builds the model: `input_ids`, `attention_mask` and `token_type_ids` (int64 `[batch, sequence]`) to `logits`
 * `[batch, classes]`, which is what Hugging Face's pipelines read from `onnx/model.onnx`.
 * @throws BackboneError `BAD_OPTION`, `NOT_TRAINED`
 */
export function exportFlatOnnx(
  encoder: ExitEncoder,
  { layer = encoder.shape.depth }: ExportFlatOptions = {},
): Uint8Array {
  const { shape, params, trainedHeads } = encoder;
  if (!Number.isInteger(layer) || layer < 1 || layer > shape.depth)
    throw new BackboneError(
      "BAD_OPTION",
      "layer",
      `must be an integer from 1 to ${shape.depth}, got ${layer}.`,
    );
  if (!trainedHeads.includes(layer))
    throw new BackboneError(
      "NOT_TRAINED",
      "exportFlatOnnx",
      `the head of layer ${layer} must be trained, got initial values. Train the model first.`,
    );
  const part: OnnxPart = traceOnnx(
    ({ params: weights, ...batch }) => {
      const exits = exitSignals(encoder, weights, batch as unknown as BatchTensors);
      return { logits: (exits[layer - 1] as (typeof exits)[number]).logits };
    },
    {
      name: "encoder",
      inputs: {
        ids: { dtype: "int32", shape: ["batch", "length"] },
        types: { dtype: "int32", shape: ["batch", "length"] },
        mask: { dtype: "float32", shape: ["batch", "length"] },
        positions: { dtype: "int32", shape: ["length"] },
      },
      constants: { params },
    },
  );
  const tokens: OnnxPort = { type: "int64", dims: ["batch", "sequence"] };
  return assembleOnnx({
    opset: PART_OPSET,
    description: `${layer} layers without exits`,
    inputs: {
      [EXPORT_INPUTS.ids]: tokens,
      [EXPORT_INPUTS.mask]: tokens,
      [EXPORT_INPUTS.types]: tokens,
    },
    outputs: { logits: { type: "float32", dims: ["batch", shape.classes] } },
    build: (scope, inputs): Values => ({
      logits: scope.inline(part, withTokens(scope, inputs)).logits as Values[string],
    }),
  });
}

/** @file Full depth in one graph, without exits: what early exit is compared with. B = rows, C = classes. */
import type { Engine, HostParams, HostTensor } from "@cee/engine";
import { BackboneError } from "../errors.js";
import { batchInputs, batchSpecs, checkBatch, type TokenBatch } from "./batch.js";
import { compileClearly } from "./compile.js";
import { exitSignals, type ModelPlan } from "./signals.js";

export interface FlatModel {
  /** The last layer's logits, shape `[B, C]`. */
  logits(batch: TokenBatch): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/**
 * Compiles the encoder with the head of one layer alone, weights baked in.
 * @param layer the depth to stop at: the truncated model; @default the last layer
 * @throws BackboneError `BAD_OPTION` for a layer that the model does not have
 */
export function openFlat(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  layer = model.shape.depth,
): FlatModel {
  const { depth } = model.shape;
  if (!Number.isInteger(layer) || layer < 1 || layer > depth)
    throw new BackboneError(
      "BAD_OPTION",
      "layer",
      `must be an integer from 1 to ${depth}, got ${layer}.`,
    );
  const compiled = compileClearly(
    engine,
    ({ params: weights, ...batch }) => {
      const exits = exitSignals(model, weights, batch);
      return { logits: (exits[layer - 1] as (typeof exits)[number]).logits };
    },
    { name: `flat ${layer}`, inputs: batchSpecs, constants: { params } },
  );
  return {
    async logits(batch) {
      checkBatch(batch, model.config, "flat");
      const output = await compiled.run<{ readonly logits: HostTensor }>(batchInputs(batch));
      return output.logits.data as Float32Array;
    },
    dispose: () => compiled.dispose(),
  };
}

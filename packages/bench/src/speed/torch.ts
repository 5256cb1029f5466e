/** @file PyTorch with the benchmark's weights. */
import type { ExitEncoder, TokenBatch } from "@cee/backbone";
import type { HostTensor } from "@cee/engine";
import { findTorch, startTorch } from "../engine/torch.js";
import type { SpeedSizes } from "./model.js";

export interface SpeedTorch {
  readonly version: string;
  readonly warning: string | undefined;
  answer(
    batch: TokenBatch,
    layer: number,
  ): Promise<{ readonly milliseconds: number; readonly logits: Float32Array }>;
  close(): Promise<void>;
}

/** Starts PyTorch, or says why not. */
export async function startSpeedTorch(
  { params, config }: ExitEncoder,
  { width, depth, length }: SpeedSizes,
  threads: number,
): Promise<SpeedTorch | { readonly missing: string }> {
  const found = await findTorch();
  if ("missing" in found) return found;
  const int = (shape: readonly number[], data: Int32Array): HostTensor => ({
    dtype: "int32",
    shape,
    data,
  });
  const torch = await startTorch(
    found.python,
    {
      ...params,
      "batch.ids": int([1, length], new Int32Array(length)),
      "batch.types": int([1, length], new Int32Array(length)),
      "batch.positions": int(
        [length],
        Int32Array.from({ length }, (_, index) => index),
      ),
      "batch.labels": int([1], new Int32Array(1)),
      "batch.mask": { dtype: "float32", shape: [1, length], data: new Float32Array(length) },
    },
    {
      sizes: { width, depth, heads: config.heads, dropout: 0 },
      threads,
      adamw: { learningRate: 0, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 },
    },
  );
  return {
    version: found.version,
    warning: torch.warning,
    async answer(batch, layer) {
      const { milliseconds, logits } = await torch.answer(
        { ids: rowsOf(batch, "ids"), types: rowsOf(batch, "types"), mask: rowsOf(batch, "mask") },
        layer,
      );
      return { milliseconds, logits: Float32Array.from(logits) };
    },
    close: torch.close,
  };
}

function rowsOf(batch: TokenBatch, name: "ids" | "types" | "mask"): number[][] {
  const { rows, length } = batch;
  return Array.from({ length: rows }, (_, row) => [
    ...batch[name].subarray(row * length, (row + 1) * length),
  ]);
}

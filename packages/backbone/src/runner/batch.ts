/**
 * @file Token batches in host memory: what every program of this package takes.
 *
 * N = rows, S = padded length.
 */
import type { HostTensor, TensorSpec } from "@cee/engine";

/** One tokenised input, not padded. */
export interface TokenRow {
  readonly id: string;
  readonly ids: Int32Array;
  /** Token types (segments): 0 for the first text, 1 for the second. */
  readonly types: Int32Array;
}

/** Padded rows, row-major `[N, S]`. */
export interface TokenBatch {
  readonly rows: number;
  readonly length: number;
  readonly ids: Int32Array;
  readonly types: Int32Array;
  /** 1 for a token, 0 for padding. */
  readonly mask: Float32Array;
}

/**
 * Pads rows to the longest of them.
 * @param multiple rounds the length up, so that fewer distinct shapes reach the runtime's memory planner
 */
export function toBatch(
  rows: readonly { readonly ids: Int32Array; readonly types: Int32Array }[],
  { multiple = 1, padId = 0, maxLength = Number.POSITIVE_INFINITY } = {},
): TokenBatch {
  let longest = 1;
  for (const row of rows) longest = Math.max(longest, row.ids.length);
  const length = Math.min(Math.ceil(longest / multiple) * multiple, Math.max(longest, maxLength));
  const ids = new Int32Array(rows.length * length).fill(padId);
  const types = new Int32Array(rows.length * length);
  const mask = new Float32Array(rows.length * length);
  rows.forEach((row, index) => {
    ids.set(row.ids, index * length);
    types.set(row.types, index * length);
    mask.fill(1, index * length, index * length + row.ids.length);
  });
  return { rows: rows.length, length, ids, types, mask };
}

/** The input specs that go with {@link batchInputs}. */
export const batchSpecs = {
  ids: { dtype: "int32", shape: ["batch", "length"] },
  types: { dtype: "int32", shape: ["batch", "length"] },
  mask: { dtype: "float32", shape: ["batch", "length"] },
  positions: { dtype: "int32", shape: ["length"] },
} as const satisfies Record<string, TensorSpec>;

/** The batch as inputs of a compiled function; positions are fed so that no length is baked into a graph. */
export function batchInputs(batch: TokenBatch): Record<keyof typeof batchSpecs, HostTensor> {
  const { rows, length } = batch;
  return {
    ids: { dtype: "int32", shape: [rows, length], data: batch.ids },
    types: { dtype: "int32", shape: [rows, length], data: batch.types },
    mask: { dtype: "float32", shape: [rows, length], data: batch.mask },
    positions: { dtype: "int32", shape: [length], data: positions(length) },
  };
}

function positions(length: number): Int32Array {
  const data = new Int32Array(length);
  for (let index = 0; index < length; index += 1) data[index] = index;
  return data;
}

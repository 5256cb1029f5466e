/**
 * @file Token batches in host memory: what every program of this package takes.
 *
 * N = rows, S = padded length.
 */
import type { HostTensor, TensorSpec } from "@cee/engine";
import type { BertConfig } from "../config.js";
import { BackboneError } from "../errors.js";

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
 * Pads rows to the longest of them. `multiple` rounds the length up, so that fewer distinct shapes reach the runtime's
 * memory planner; `maxLength` limits the rounding, not the rows.
 * @throws BackboneError `BAD_INPUT` when a row has more or fewer token types than tokens
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
    if (row.types.length !== row.ids.length)
      throw new BackboneError(
        "BAD_INPUT",
        "toBatch",
        `row ${index} has ${row.ids.length} tokens and ${row.types.length} token types. Give one type per token.`,
      );
    ids.set(row.ids, index * length);
    types.set(row.types, index * length);
    mask.fill(1, index * length, index * length + row.ids.length);
  });
  return { rows: rows.length, length, ids, types, mask };
}

type Limits = Pick<BertConfig, "vocabSize" | "maxPositions" | "typeVocab">;

/** @throws BackboneError `BAD_INPUT` when the model has no embedding for a row */
export function checkRow(
  { ids, types }: { readonly ids: Int32Array; readonly types: Int32Array },
  limits: Limits,
  who: string,
): void {
  if (types.length !== ids.length)
    refuse(
      who,
      `there are ${ids.length} tokens and ${types.length} token types. Give one type per token.`,
    );
  checkLength(ids.length, limits, who);
  checkIds(ids, types, limits, who);
}

/** @throws BackboneError `BAD_INPUT` when the arrays do not fit each other, or the model has no embedding for a token */
export function checkBatch(batch: TokenBatch, limits: Limits, who: string): void {
  const { rows, length, ids, types, mask } = batch;
  for (const [name, { length: size }] of Object.entries({ ids, types, mask }))
    if (size !== rows * length)
      refuse(
        who,
        `a batch of ${rows} rows of ${length} tokens must have ${rows * length} ${name}, got ${size}.`,
      );
  checkLength(length, limits, who);
  checkIds(ids, types, limits, who);
}

function checkLength(length: number, { maxPositions }: Limits, who: string): void {
  if (length > maxPositions)
    refuse(
      who,
      `a text has ${length} tokens, the model has positions for ${maxPositions}. Truncate texts to ${maxPositions} tokens.`,
    );
}

/** A negative id would be taken from the end of the table, silently. */
function checkIds(
  ids: Int32Array,
  types: Int32Array,
  { vocabSize, typeVocab }: Limits,
  who: string,
): void {
  for (let index = 0; index < ids.length; index += 1) {
    const [id, type] = [ids[index] as number, types[index] as number];
    if (id < 0 || id >= vocabSize)
      refuse(
        who,
        `token ids must be from 0 to ${vocabSize - 1}, got ${id}. Use the tokenizer that belongs to the model.`,
      );
    if (type < 0 || type >= typeVocab)
      refuse(who, `token types must be from 0 to ${typeVocab - 1}, got ${type}.`);
  }
}

function refuse(who: string, message: string): never {
  throw new BackboneError("BAD_INPUT", who, message);
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

/** @file The golden decoder and inputs for it. */
import { readFileSync } from "node:fs";
import type { HostTensor } from "@cee/engine";
import { type LlamaConfig, parseLlamaConfig } from "../../src/llama-config.js";

interface GoldenLlama {
  readonly config: Record<string, unknown>;
  readonly weights: Record<string, { shape: number[]; data: number[] }>;
  readonly cases: readonly {
    readonly name: string;
    readonly tied: boolean;
    readonly texts: readonly { ids: number[]; hidden: number[]; logits: number[] }[];
  }[];
}

export const golden = JSON.parse(
  readFileSync(new URL("../golden/llama.json", import.meta.url), "utf8"),
) as GoldenLlama;

/** The golden weights under this package's paths. */
export function goldenModel(tied: boolean): {
  config: LlamaConfig;
  params: Record<string, HostTensor>;
} {
  const config = parseLlamaConfig({ ...golden.config, tie_word_embeddings: tied }, "golden");
  const params = Object.fromEntries(
    Object.entries(golden.weights)
      .filter(([name]) => !(tied && name === "lm_head.weight"))
      .map(([name, { shape, data }]): [string, HostTensor] => [
        `backbone.${name.replace(/^model\./, "")}`,
        { dtype: "float32", shape, data: Float32Array.from(data) },
      ]),
  );
  return { config, params };
}

/**
 * New tokens behind `past` cached ones, all rows left-padded to one length; `padding` holds each row's padding, which
 * the past contains if there is one.
 */
export function stepInputs(
  rows: readonly (readonly number[])[],
  past: number,
  padding: readonly number[] = rows.map(() => 0),
): { ids: HostTensor; positions: HostTensor; mask: HostTensor } {
  const B = rows.length;
  const S = rows[0]?.length ?? 0;
  const T = past + S;
  const positions = Int32Array.from({ length: B * S }, (_, at) =>
    Math.max(0, past + (at % S) - (padding[Math.floor(at / S)] as number)),
  );
  const mask = Float32Array.from({ length: B * S * T }, (_, at) => {
    const [row, place, other] = [Math.floor(at / (S * T)), Math.floor(at / T) % S, at % T];
    return Number(other >= (padding[row] as number) && other <= past + place);
  });
  return {
    ids: { dtype: "int32", shape: [B, S], data: Int32Array.from(rows.flat()) },
    positions: { dtype: "int32", shape: [B, S], data: positions },
    mask: { dtype: "float32", shape: [B, S, T], data: mask },
  };
}

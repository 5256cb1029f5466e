/** @file The encoder against numbers from an independent implementation (scripts/golden_bert.py). */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HostTensor } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { attentionBias, block, embed, encoder, pool } from "../src/bert.js";
import { parseBertConfig } from "../src/config.js";
import { loadExitEncoder } from "../src/encoder-folder.js";
import { linear } from "../src/ops.js";
import { writeSafetensors } from "../src/safetensors.js";
import { toInputs, toTensors } from "../src/testing.js";
import { scratchFolder } from "./helpers/scratch.js";

interface Golden {
  readonly config: Record<string, unknown>;
  readonly weights: Record<string, { shape: number[]; data: number[] }>;
  readonly cases: readonly {
    readonly name: string;
    readonly rows: number;
    readonly length: number;
    readonly ids: number[];
    readonly types: number[];
    readonly mask: number[];
    readonly hidden: number[][];
    readonly pooled: number[][];
    readonly logits: number[][];
  }[];
}

const golden = JSON.parse(
  readFileSync(new URL("./golden/bert.json", import.meta.url), "utf8"),
) as Golden;
const close = { rtol: 1e-5, atol: 1e-5 };

function writeGoldenFolder(): string {
  const folder = scratchFolder();
  const tensors = Object.fromEntries(
    Object.entries(golden.weights).map(([name, { shape, data }]): [string, HostTensor] => [
      name,
      { dtype: "float32", shape, data: Float32Array.from(data) },
    ]),
  );
  writeSafetensors(join(folder, "model.safetensors"), tensors);
  writeFileSync(join(folder, "config.json"), JSON.stringify(golden.config));
  return folder;
}

describe("BERT against PyTorch", () => {
  beforeEach(async () => {
    await tf.setBackend("cpu");
    tf.engine().startScope();
  });
  afterEach(() => tf.engine().endScope());

  it.each(golden.cases)(
    "gives the hidden states, pooled vectors and logits of $name",
    async (run) => {
      const model = await loadExitEncoder(writeGoldenFolder());
      expect(model.notes).toEqual([
        "not used: cls.seq_relationship.bias, cls.seq_relationship.weight",
        "the checkpoint's classifier is the head of layer 3",
      ]);
      const params = toTensors(model.params);
      const inputs = toInputs(run);
      const ctx = { config: model.config };
      // What padding positions hold is nobody's business: compare tokens only.
      const tokens = (values: ArrayLike<number>) =>
        Array.from(values).filter(
          (_, index) => run.mask[Math.floor(index / model.config.hidden)] === 1,
        );
      const start = await embed(params, inputs, ctx).data();
      expect(tokens(start)).toBeAllclose(tokens(run.hidden[0] as number[]), close);
      const states = encoder(params, inputs, ctx);
      for (const [index, hidden] of states.entries()) {
        expect(tokens(await hidden.data())).toBeAllclose(
          tokens(run.hidden[index + 1] as number[]),
          close,
        );
        const pooled = pool(params, hidden);
        expect(await pooled.data()).toBeAllclose(run.pooled[index] as number[], close);
        const logits = linear(
          pooled,
          params["heads.3.classifier.weight"] as tf.Tensor,
          params["heads.3.classifier.bias"] as tf.Tensor,
        );
        expect(await logits.data()).toBeAllclose(run.logits[index] as number[], close);
      }
    },
  );

  it("gives a row the same states alone as padded beside longer rows", async () => {
    const model = await loadExitEncoder(writeGoldenFolder());
    const params = toTensors(model.params);
    const run = golden.cases[0] as Golden["cases"][number];
    const ctx = { config: parseBertConfig(golden.config, "golden") };
    const alone = toInputs({
      rows: 1,
      length: 4,
      ids: run.ids.slice(7, 11),
      types: run.types.slice(7, 11),
      mask: run.mask.slice(7, 11),
    });
    const bias = attentionBias(alone.mask);
    const first = await block(params, 1, embed(params, alone, ctx), bias, ctx).data();
    const both = encoder(params, toInputs(run), ctx)[0] as tf.Tensor3D;
    const padded = await tf.slice(both, [1, 0, 0], [1, 4, 16]).data();
    expect(first).toBeAllclose(padded, { rtol: 1e-5, atol: 1e-6 });
  });
});

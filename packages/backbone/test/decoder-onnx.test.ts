/** @file A decoder as an ONNX file with its cache as inputs and outputs, against the golden logits. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createEngine, type Engine, type OnnxTensor } from "@cee/engine";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { needs, pathOf } from "../../../test/needs.js";
import { type CausalDecoder, decoderShape, withOwnHeads } from "../src/decoder/decoder.js";
import { exportDecoderOnnx } from "../src/export/decoder-onnx.js";
import { golden, goldenModel } from "./helpers/llama.js";
import { scratchFolder } from "./helpers/scratch.js";

const close = { rtol: 1e-3, atol: 1e-4 };

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ runtime: "onnxruntime-node", threads: 1 });
});
afterAll(() => engine.dispose());

function goldenDecoder(tied: boolean): CausalDecoder {
  const { config, params } = goldenModel(tied);
  return {
    config,
    params,
    shape: decoderShape(config),
    heads: "shared",
    tokenizer: undefined,
    trainedHeads: [config.depth],
    notes: [],
  };
}

const textsOf = (tied: boolean) =>
  golden.cases.filter((one) => one.tied === tied).flatMap(({ texts }) => texts);

type Cache = Record<string, OnnxTensor>;

function emptyCache({ config }: CausalDecoder, rows: number): Cache {
  const shape = [rows, config.kvHeads, 0, config.headSize];
  const empty: OnnxTensor = { type: "float32", shape, data: new Float32Array(0) };
  return Object.fromEntries(
    Array.from({ length: config.depth }, (_, block) =>
      ["key", "value"].map((half) => [`past_key_values.${block}.${half}`, empty]),
    ).flat(),
  );
}

/** Feeds of rows of equal length behind a cache; `mask` is of old and new tokens. */
function feedsOf(
  rows: readonly (readonly number[])[],
  mask: readonly (readonly number[])[],
  cache: Cache,
): Record<string, OnnxTensor> {
  const int64 = (values: readonly (readonly number[])[]): OnnxTensor => ({
    type: "int64",
    shape: [values.length, values[0]?.length ?? 0],
    data: BigInt64Array.from(values.flat(), (value) => BigInt(value)),
  });
  // The places of Hugging Face: how many tokens count before.
  const positions = rows.map(({ length }, row) => {
    const kept = mask[row] as readonly number[];
    return Array.from({ length }, (_, at) => {
      const before = kept.slice(0, kept.length - length + at);
      return before.reduce((sum, one) => sum + one, 0);
    });
  });
  return {
    input_ids: int64(rows),
    attention_mask: int64(mask),
    position_ids: int64(positions),
    ...cache,
  };
}

function grown(outputs: Readonly<Record<string, OnnxTensor>>): Cache {
  return Object.fromEntries(
    Object.entries(outputs)
      .filter(([name]) => name.startsWith("present."))
      .map(([name, tensor]) => [name.replace("present", "past_key_values"), tensor]),
  );
}

describe("a decoder's file", () => {
  it.each([false, true])("gives the logits of a text in pieces, tied: %s", async (tied) => {
    const decoder = goldenDecoder(tied);
    const file = await engine.open(exportDecoderOnnx(decoder), { name: "decoder" });
    for (const { ids, logits: expected } of textsOf(tied)) {
      let cache = emptyCache(decoder, 1);
      const found: number[] = [];
      // The first three tokens at once, then one by one.
      for (let at = 0; at < ids.length; ) {
        const end = at === 0 ? Math.min(3, ids.length) : at + 1;
        const mask = [new Array<number>(end).fill(1)];
        const outputs = await file.run(feedsOf([ids.slice(at, end)], mask, cache));
        const logits = outputs.logits as OnnxTensor;
        expect(logits.shape).toEqual([1, end - at, decoder.config.vocabSize]);
        found.push(...(logits.data as Float32Array));
        cache = grown(outputs);
        at = end;
      }
      expect(found).toBeAllclose(expected, close);
    }
    await file.dispose();
  });

  it("looks at no padding, in the prompt nor behind it", async () => {
    const decoder = goldenDecoder(false);
    const [long, short] = textsOf(false);
    if (!long || !short) throw new Error("the golden file lacks a text");
    const file = await engine.open(exportDecoderOnnx(decoder), { name: "decoder" });
    const pad = long.ids.length - short.ids.length;
    const rows = [long.ids, [...new Array<number>(pad).fill(3), ...short.ids]];
    const mask = [long.ids.map(() => 1), rows[1]?.map((_, at) => Number(at >= pad)) ?? []];
    const cut = long.ids.length - 1;
    const first = await file.run(
      feedsOf(
        rows.map((row) => row.slice(0, cut)),
        mask.map((row) => row.slice(0, cut)),
        emptyCache(decoder, 2),
      ),
    );
    const last = await file.run(
      feedsOf(
        rows.map((row) => row.slice(cut)),
        mask,
        grown(first),
      ),
    );
    const V = decoder.config.vocabSize;
    const logits = last.logits?.data as Float32Array;
    expect(logits.slice(0, V)).toBeAllclose(long.logits.slice(-V), close);
    expect(logits.slice(V)).toBeAllclose(short.logits.slice(-V), close);
    await file.dispose();
  });

  it("answers with the last layer's own head where layers have heads", async () => {
    const decoder = withOwnHeads(goldenDecoder(true));
    const path = `heads.${decoder.config.depth}.weight`;
    const head = decoder.params[path] as (typeof decoder.params)[string];
    const doubled = { ...head, data: (head.data as Float32Array).map((value) => 2 * value) };
    const [text] = textsOf(true);
    if (!text) throw new Error("the golden file lacks a text");
    const model = { ...decoder, params: { ...decoder.params, [path]: doubled } };
    const file = await engine.open(exportDecoderOnnx(model), { name: "decoder" });
    const mask = [text.ids.map(() => 1)];
    const { logits } = await file.run(feedsOf([text.ids], mask, emptyCache(decoder, 1)));
    const expected = text.logits.map((value) => 2 * value);
    expect(logits?.data as Float32Array).toBeAllclose(expected, close);
    await file.dispose();
  });

  it.runIf(needs("onnx"))("passes ONNX's checker", () => {
    const path = join(scratchFolder(), "model.onnx");
    writeFileSync(path, exportDecoderOnnx(goldenDecoder(false)));
    const script = join(import.meta.dirname, "../scripts/check_onnx.py");
    const checked = spawnSync(pathOf("onnx") as string, [script, path], { encoding: "utf8" });
    expect(checked.stderr).toBe("");
    const { inputs, outputs } = JSON.parse(checked.stdout);
    expect(inputs.slice(0, 4)).toEqual([
      "input_ids",
      "attention_mask",
      "position_ids",
      "past_key_values.0.key",
    ]);
    expect(outputs.slice(0, 3)).toEqual(["logits", "present.0.key", "present.0.value"]);
  });
});

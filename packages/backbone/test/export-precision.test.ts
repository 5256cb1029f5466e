/** @file Exported files with smaller numbers, and with weights in a file of their own: that they run, their size, and how far they agree. */
import { spawnSync } from "node:child_process";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createEngine, type Engine, type Precision } from "@cee/engine";
import { type Classification, entropy, toObserver } from "@cee/exit-policies";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { needs, pathOf } from "../../../test/needs.js";
import type { ExitEncoder } from "../src/encoder.js";
import { exportOnnx } from "../src/export/export-onnx.js";
import { openExported } from "../src/export/in-graph.js";
import { saveOnnx } from "../src/export/save-onnx.js";
import { toBatch } from "../src/runner/batch.js";
import { tinyBert } from "../src/testing.js";
import { scratchFolder } from "./helpers/scratch.js";
import { inventRows } from "./helpers/tiny-training.js";

let node: Engine;
let web: Engine;
beforeAll(async () => {
  node = await createEngine({ runtime: "onnxruntime-node", threads: 1 });
  web = await createEngine({ runtime: "onnxruntime-web" });
});
afterAll(async () => {
  await node.dispose();
  await web.dispose();
});

const DEPTH = 4;
const strategy = entropy({ threshold: 0.35 });
const observer = toObserver(strategy);

/** Wide enough for its weights to count as large; heads that are certain of something. */
const model = ((): ExitEncoder => {
  const fresh = tinyBert({ depth: DEPTH, hidden: 64, heads: 4, classes: 3, seed: 4, spread: 0.25 });
  const params = Object.fromEntries(
    Object.entries(fresh.params).map(([path, tensor]) => [
      path,
      path.startsWith("heads.")
        ? { ...tensor, data: (tensor.data as Float32Array).map((value) => 30 * value) }
        : tensor,
    ]),
  );
  return { ...fresh, params, trainedHeads: [1, 2, 3, 4] };
})();

const rows = inventRows(10_000, "precision", 12);

async function outcome(
  engine: Engine,
  file: Uint8Array | string,
  count = 400,
  size = 50,
): Promise<{ exits: number[]; answers: number[]; logits: number[] }> {
  const exits = await openExported(engine, file, model.shape);
  try {
    const parts: Classification[] = [];
    for (let from = 0; from < count; from += size)
      parts.push(await exits.classify(toBatch(rows.slice(from, from + size)), 0.35));
    return {
      exits: parts.flatMap(({ exitLayers }) => [...exitLayers]),
      answers: parts.flatMap(({ predictions }) => [...predictions]),
      logits: parts.flatMap(({ logits }) => [...logits]),
    };
  } finally {
    await exits.dispose();
  }
}

const fileOf = (precision: Precision) => exportOnnx(model, strategy, observer, { precision });

/** Share of rows with the same layer and answer. */
function share(a: Awaited<ReturnType<typeof outcome>>, b: Awaited<ReturnType<typeof outcome>>) {
  const same = a.exits.filter(
    (layer, row) => layer === b.exits[row] && a.answers[row] === b.answers[row],
  );
  return same.length / a.exits.length;
}

describe("a file in half precision", () => {
  it("is half as large, runs on both runtimes and agrees on nearly all of 10,000 rows", async () => {
    const [whole, half] = [fileOf("float32"), fileOf("float16")];
    expect(half.length / whole.length).toBeLessThan(0.6);
    const reference = await outcome(node, whole, 10_000, 250);
    expect(new Set(reference.exits).size).toBe(DEPTH);
    for (const engine of [node, web]) {
      const own = await outcome(engine, half, 10_000, 250);
      expect(share(reference, own)).toBeGreaterThan(0.985);
      // It is rounded: equal numbers would be the other file's.
      expect(own.logits).not.toEqual(reference.logits);
    }
  });
});

describe("a file in 8-bit integers", () => {
  it("is smaller still, agrees on most rows, and keeps its exits in full precision", async () => {
    const [whole, small] = [fileOf("float32"), fileOf("int8")];
    expect(small.length / whole.length).toBeLessThan(0.45);
    const reference = await outcome(node, whole, 2000);
    const own = await outcome(node, small, 2000);
    const agreed = share(reference, own);
    expect(agreed).toBeGreaterThan(0.85);
    expect(agreed).toBeLessThan(1);
    expect(share(own, await outcome(web, small, 2000))).toBeGreaterThan(0.97);
  });

  it("couples the rows of a batch through their scale, which others do not", async () => {
    const alone = async (precision: Precision) =>
      (await outcome(node, fileOf(precision), 60, 1)).logits;
    const together = async (precision: Precision) =>
      (await outcome(node, fileOf(precision), 60, 60)).logits;
    const gap = (a: readonly number[], b: readonly number[]) =>
      Math.max(...a.map((value, index) => Math.abs(value - (b[index] as number))));
    expect(gap(await alone("float32"), await together("float32"))).toBeLessThan(1e-3);
    expect(gap(await alone("int8"), await together("int8"))).toBeGreaterThan(1e-2);
  });
});

describe("weights in a file of their own", () => {
  it("are found beside the model, and decide as those inside", async () => {
    const folder = scratchFolder();
    const file = join(folder, "model.onnx");
    const saved = saveOnnx(file, model, strategy, observer, { largest: 1000 });
    expect(saved.files.map((path) => basename(path))).toEqual(["model.onnx", "model.onnx.data"]);
    expect(readdirSync(folder).sort()).toEqual(["model.onnx", "model.onnx.data"]);
    expect(saved.bytes).toBe(saved.files.reduce((sum, path) => sum + statSync(path).size, 0));
    expect(statSync(file).size).toBeLessThan(0.4 * statSync(`${file}.data`).size);
    const reference = await outcome(node, fileOf("float32"));
    const own = await outcome(node, file);
    expect(own.exits).toEqual(reference.exits);
    expect(own.answers).toEqual(reference.answers);
    // The WebAssembly runtime looks for weights of branches nowhere; it says so.
    await expect(outcome(web, file)).rejects.toMatchObject({ code: "RUN_FAILED" });
    const whole = join(folder, "whole.onnx");
    saveOnnx(whole, model, strategy, observer);
    expect((await outcome(web, whole)).exits).toEqual(reference.exits);
  });

  it("are not made where one file will do", () => {
    const folder = scratchFolder();
    const saved = saveOnnx(join(folder, "model.onnx"), model, strategy, observer);
    expect(saved.files).toHaveLength(1);
    expect(readdirSync(folder)).toEqual(["model.onnx"]);
  });

  it("are missed with a clear error", async () => {
    await expect(
      node.open(join(scratchFolder(), "none.onnx"), { name: "none" }),
    ).rejects.toMatchObject({
      code: "RUN_FAILED",
    });
  });
});

describe.runIf(needs("onnx"))("ONNX's checker", () => {
  it("passes files of every precision, and those with weights beside them", () => {
    const folder = scratchFolder();
    const paths = (["float16", "int8"] as const).map((precision) => {
      const path = join(folder, `${precision}.onnx`);
      writeFileSync(path, fileOf(precision));
      return path;
    });
    const beside = join(folder, "beside.onnx");
    saveOnnx(beside, model, strategy, observer, { largest: 1000 });
    const script = join(import.meta.dirname, "../scripts/check_onnx.py");
    const args = [script, ...paths, beside];
    const checked = spawnSync(pathOf("onnx") as string, args, { encoding: "utf8" });
    expect(checked.stderr).toBe("");
    const files = checked.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(files).toHaveLength(3);
    for (const file of files) expect(file).toMatchObject({ irVersion: 8, branches: DEPTH - 1 });
    expect(files.map(({ metadata }) => metadata["cee.precision"])).toEqual([
      "float16",
      "int8",
      "float32",
    ]);
  });
});

/** @file An exported file in a real browser: onnxruntime-web in headless Chromium decides as the library does, row by row. */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { type ExitEncoder, exportOnnx, openEncoder, type TokenBatch, toBatch } from "@cee/backbone";
import { tinyBert } from "@cee/backbone/testing";
import { createEngine, createRng } from "@cee/engine";
import {
  agreement,
  type Classification,
  classify,
  entropy,
  nearTies,
  record,
  toObserver,
} from "@cee/exit-policies";
import { chromium, type Page } from "playwright-core";
import { describe, expect, it, onTestFinished } from "vitest";
import { needs, pathOf } from "../../../test/needs.js";

const ROWS = 10_000;
const SIZE = 250;
const ORIGIN = "https://page.test";
const strategy = entropy({ threshold: 0.3 });
const observer = toObserver(strategy);

/** Fresh heads are certain of nothing; these let rows go at every layer. */
function certain(): ExitEncoder {
  const fresh = tinyBert({ depth: 4, hidden: 16, heads: 4, spread: 0.95, classes: 3, seed: 2 });
  const params = Object.fromEntries(
    Object.entries(fresh.params).map(([path, tensor]) => [
      path,
      path.startsWith("heads.")
        ? { ...tensor, data: (tensor.data as Float32Array).map((value) => 40 * value) }
        : tensor,
    ]),
  );
  return { ...fresh, params, trainedHeads: [1, 2, 3, 4] };
}

const model = certain();
const rng = createRng("rows for the browser");
const batches: readonly TokenBatch[] = Array.from({ length: ROWS / SIZE }, () =>
  toBatch(
    Array.from({ length: SIZE }, () => {
      const ids = Int32Array.from({ length: 2 + rng.int(18) }, () => rng.int(20));
      return { ids, types: new Int32Array(ids.length) };
    }),
  ),
);

/** Where the engine finds the runtime's files for browsers. */
function runtimeFolder(): string {
  const engine = createRequire(import.meta.resolve("@cee/engine"));
  return dirname(engine.resolve("onnxruntime-web"));
}

/** A page whose only files are the runtime's and the model. */
async function openPage(file: Uint8Array): Promise<{ page: Page; problems: string[] }> {
  const browser = await chromium.launch({
    executablePath: pathOf("chromium") as string,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
  });
  onTestFinished(() => browser.close());
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(error.message));
  await page.route(`${ORIGIN}/**`, async (route) => {
    const name = basename(new URL(route.request().url()).pathname);
    if (name === "") return route.fulfill({ contentType: "text/html", body: "<!doctype html>" });
    if (name === "model.onnx") return route.fulfill({ body: Buffer.from(file) });
    const contentType = name.endsWith(".wasm") ? "application/wasm" : "text/javascript";
    return route.fulfill({ contentType, body: await readFile(join(runtimeFolder(), name)) });
  });
  await page.goto(`${ORIGIN}/`);
  return { page, problems };
}

describe.runIf(needs("chromium"))("an exported file in a browser", () => {
  it("leaves where the library does, on 10,000 rows", async () => {
    const { page, problems } = await openPage(exportOnnx(model, strategy, observer));
    const plain = batches.map(({ rows, length, ids, types, mask }) => ({
      dims: [rows, length],
      ids: [...ids],
      types: [...types],
      mask: [...mask],
    }));
    await page.addScriptTag({ url: `${ORIGIN}/ort.wasm.min.js` });
    const answers = await page.evaluate(
      async ({ given, knob, origin }) => {
        // biome-ignore lint/suspicious/noExplicitAny: the script's global, which has no types here
        const { ort } = globalThis as any;
        ort.env.wasm.numThreads = 1;
        ort.env.wasm.wasmPaths = `${origin}/`;
        const session = await ort.InferenceSession.create(`${origin}/model.onnx`);
        const found: { layers: number[]; predictions: number[] } = { layers: [], predictions: [] };
        for (const { dims, ids, types, mask } of given) {
          const whole = (numbers: number[]) =>
            new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), dims);
          const output = await session.run({
            input_ids: whole(ids),
            attention_mask: whole(mask),
            token_type_ids: whole(types),
            knob: new ort.Tensor("float32", Float32Array.of(knob), []),
          });
          found.layers.push(...Array.from(output.exit_layer.data as BigInt64Array, Number));
          found.predictions.push(...Array.from(output.prediction.data as BigInt64Array, Number));
        }
        return found;
      },
      { given: plain, knob: strategy.options.threshold as number, origin: ORIGIN },
    );
    expect(problems).toEqual([]);

    const engine = await createEngine({ runtime: "onnxruntime-node", threads: 1 });
    onTestFinished(() => engine.dispose());
    const runner = await openEncoder(engine, model, model.params, observer);
    const parts: Classification[] = [];
    for (const batch of batches) parts.push(await classify(runner, batch, strategy));
    const made = await record(runner, batches, {
      ids: Array.from({ length: ROWS }, (_, row) => String(row)),
      labels: new Float32Array(ROWS).fill(Number.NaN),
    });
    await runner.dispose();
    const library = {
      rows: ROWS,
      exitLayers: Int32Array.from(parts.flatMap(({ exitLayers }) => [...exitLayers])),
      predictions: Float32Array.from(parts.flatMap(({ predictions }) => [...predictions])),
      logits: new Float32Array(0),
      nonFinite: 0,
    };
    expect(new Set(library.exitLayers).size).toBe(4);
    const browser = {
      ...library,
      exitLayers: Int32Array.from(answers.layers),
      predictions: Float32Array.from(answers.predictions),
    };
    const found = agreement(library, browser, nearTies(made, strategy));
    expect(found.rows).toBe(ROWS);
    expect(found.unexplained).toEqual([]);
    expect(found.nearTieShare).toBeLessThan(0.01);
  }, 300_000);
});

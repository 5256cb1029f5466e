/**
 * @file Makes a folder of static files: the page, the runtime, and a trained model as one ONNX file with its exits inside.
 *
 *     tsx build.ts [model [site]]
 */
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { EarlyExitModel } from "@cee/consistentee";
import { build } from "esbuild";
import type { Description } from "./page.js";

const [folder = "../train/model", site = "site"] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
await mkdir(site, { recursive: true });

// One text per run, and the logits of every exit that a text passes: the path that the page draws.
const model = await EarlyExitModel.fromPretrained(folder);
const { bytes, strategy, knob } = model.exportOnnx(join(site, "model.onnx"), {
  rows: "one",
  precision: "float16",
  exitLogits: true,
});
const { grid = [], direction } = model.strategy.definition.knob ?? {};
const description: Description = {
  labels: model.labels ?? null,
  layers: model.layers,
  strategy,
  knob: knob
    ? { ...knob, least: Math.min(...grid), most: Math.max(...grid), direction: direction ?? "" }
    : null,
};
await writeFile(join(site, "model.json"), `${JSON.stringify(description, null, 2)}\n`);
await copyFile(join(folder, "tokenizer.json"), join(site, "tokenizer.json"));
await model.dispose();

await build({
  entryPoints: [join(here, "page.ts")],
  outfile: join(site, "page.js"),
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  // In this repository packages are read from their sources, as `tsx --conditions` does.
  conditions: process.execArgv.some((word) => word.includes("@cee/source")) ? ["@cee/source"] : [],
});
const runtime = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
for (const name of ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"])
  await copyFile(join(runtime, name), join(site, name));
for (const name of ["index.html", "style.css"]) await copyFile(join(here, name), join(site, name));
console.log(`${site}: a model of ${(bytes / 2 ** 20).toFixed(1)} MiB. Next: pnpm start ${site}`);

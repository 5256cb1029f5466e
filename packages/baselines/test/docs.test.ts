/** @file Runs the programs of the methods' pages and of the README that need a model, an engine and rows. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { tinyBert } from "@cee/backbone/testing";
import { createEngine, type Engine } from "@cee/engine";
import { afterAll, beforeAll, expect, it } from "vitest";
import { inventRows } from "./support.js";

const root = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
const cache = join(root, "packages/baselines/.cache");
mkdirSync(cache, { recursive: true });
const folder = mkdtempSync(join(cache, "docs-"));
let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 1 });
});
afterAll(async () => {
  await engine.dispose();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs what a document shows, given what its text speaks of, and gives back what it calls `result`. */
async function resultOf(
  document: string,
  result: string,
  given: Readonly<Record<string, unknown>>,
) {
  const markdown = readFileSync(join(root, document), "utf8");
  const code = [...markdown.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, block]) => block).join("\n");
  const imports = code.match(/^import .*;$/gm) ?? [];
  const program = code.replace(/^import .*;$/gm, "");
  const path = join(folder, `${document.replaceAll("/", "-")}.ts`);
  writeFileSync(
    path,
    `${imports.join("\n")}\nexport async function run({ ${Object.keys(given)} }) {\n${program}\nreturn ${result};\n}\n`,
  );
  const { run } = await import(/* @vite-ignore */ path);
  return run(given);
}

it.each(["hashee", "tr-bert", "cascade", "controls"])(
  "%s.md",
  async (page) => {
    const predictions = await resultOf(`docs/methods/${page}.md`, "predictions", {
      engine,
      model: tinyBert({ depth: 4, hidden: 16 }),
      train: inventRows(),
      folder: join(folder, page),
    });
    expect(predictions).toHaveLength(12);
    for (const answer of predictions) expect([0, 1]).toContain(answer);
  },
  240_000,
);

it("README.md", async () => {
  const { config } = tinyBert({ depth: 2, hidden: 16 });
  const { reports, trained } = await resultOf("packages/baselines/README.md", "trained", {
    engine,
    config,
    train: inventRows(),
    dev: inventRows(),
  });
  expect(reports.map(({ phase }: { readonly phase: string }) => phase)).toEqual([
    "final",
    "highways",
  ]);
  expect(trained).toBeDefined();
}, 240_000);

/** @file Runs the program of each method's page. */
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

it.each(["hashee", "tr-bert", "cascade", "controls"])(
  "%s.md",
  async (page) => {
    const markdown = readFileSync(join(root, "docs/methods", `${page}.md`), "utf8");
    const code = [...markdown.matchAll(/```ts\n([\s\S]*?)```/g)]
      .map(([, block]) => block)
      .join("\n");
    const imports = code.match(/^import .*;$/gm) ?? [];
    const program = code.replace(/^import .*;$/gm, "");
    const path = join(folder, `${page}.ts`);
    writeFileSync(
      path,
      `${imports.join("\n")}\nexport async function run({ engine, model, train, folder }) {\n${program}\nreturn predictions;\n}\n`,
    );
    const { run } = await import(/* @vite-ignore */ path);
    const model = tinyBert({ depth: 4, hidden: 16 });
    const predictions = await run({
      engine,
      model,
      train: inventRows(),
      folder: join(folder, page),
    });
    expect(predictions).toHaveLength(12);
    for (const answer of predictions) expect([0, 1]).toContain(answer);
  },
  240_000,
);

/** @file Cells that outlive their run: small, taken as done, and refused when they were made from something else. */
import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { bench, timeless } from "./glue-helpers.js";
import { temporaryFolder } from "./helpers.js";

const words = ["--tasks=sentiment", "--methods=entropy,patience"];

describe("--cells", () => {
  it("keeps finished cells, small, and gives them to a later run without a step of training", async () => {
    const folder = await temporaryFolder();
    const cells = path.join(folder, "cells");
    const run = (out: string, ...more: string[]) =>
      bench([...words, `--cells=${cells}`, `--out=${path.join(folder, out)}`, ...more]);
    const first = await run("a");
    expect(first.steps.length).toBeGreaterThan(0);
    const names = (await readdir(cells)).sort();
    expect(names).toEqual([
      "sentiment.entropy.42.json",
      "sentiment.full.42.json",
      "sentiment.patience.42.json",
    ]);
    for (const name of names) {
      const file = path.join(cells, name);
      expect((await stat(file)).size).toBeLessThan(60_000);
      const text = await readFile(file, "utf8");
      expect(JSON.parse(text)).toMatchObject({
        version: expect.any(Number),
        identity: { data: expect.any(String), preset: "small", epochs: 1 },
        made: { command: expect.stringContaining("pnpm bench glue"), machine: { threads: 1 } },
      });
      // No sentence of the data, and nothing per row of it.
      expect(text).not.toMatch(/"text"|predictions|exitLayers/);
    }
    const again = await run("b");
    expect(again.steps).toEqual([]);
    expect(again.printed.join("\n")).toContain(`entropy · seed 42: taken from ${cells}`);
    expect(again.results.taken).toHaveLength(3);
    expect(again.results.rows).toHaveLength(first.results.rows.length);
    const rowsOf = async (out: string) =>
      ((await timeless(path.join(folder, out))) as { rows: unknown }).rows;
    expect(await rowsOf("b")).toEqual(await rowsOf("a"));
    // Row by row, nothing is known of a cell that was taken: no pair of methods is compared.
    expect(first.results.comparisons).not.toEqual([]);
    expect(again.results.comparisons).toEqual([]);
    // Another seed is another cell.
    const more = await run("c", "--seeds=42,7");
    expect(more.steps.length).toBeGreaterThan(0);
    expect(await readdir(cells)).toHaveLength(6);
  });

  it("refuses a cell of other data, options or version, and a damaged one, naming what differs", async () => {
    const folder = await temporaryFolder();
    const cells = path.join(folder, "cells");
    const file = path.join(cells, "sentiment.full.42.json");
    const run = (...more: string[]) =>
      bench([
        "--tasks=sentiment",
        "--methods=full",
        `--cells=${cells}`,
        `--out=${path.join(folder, "run")}`,
        ...more,
      ]);
    await run();
    const good = await readFile(file, "utf8");
    const refused = (...more: string[]) => expect(run(...more)).rejects;
    await refused("--epochs=2").toMatchObject({
      code: "RUN_MISMATCH",
      who: file,
      message: expect.stringContaining("epochs 1, now 2"),
    });
    await refused("--limit=20").toMatchObject({
      code: "RUN_MISMATCH",
      message: expect.stringMatching(/data [0-9a-f]{16}, now [0-9a-f]{16}/),
    });
    await refused("--backbone=fresh:2x24").toMatchObject({
      code: "RUN_MISMATCH",
      message: expect.stringContaining("backbone fresh:2x16, now fresh:2x24"),
    });
    await writeFile(file, good.replace(/"version":\d+/, '"version":1'));
    await refused().toMatchObject({
      code: "RUN_MISMATCH",
      message: expect.stringContaining("version 1 of the benchmark's cells, now"),
    });
    await writeFile(file, good.slice(0, good.length / 2));
    await refused().toMatchObject({ code: "BAD_RESULTS", who: file });
    await writeFile(file, good.replace('"score":', '"points":'));
    await refused().toMatchObject({ code: "BAD_RESULTS", who: file });
    await writeFile(file, good.replaceAll('"seed":42', '"seed":43'));
    await refused().toMatchObject({
      code: "BAD_RESULTS",
      message: expect.stringContaining("got rows of sentiment, full, seed 43"),
    });
    await rm(file);
    expect((await run()).failures).toEqual([]);
    await expect(
      bench(["--tasks=sentiment", `--cells=${file}`, `--out=${path.join(folder, "run")}`]),
    ).rejects.toMatchObject({
      code: "BAD_OPTION",
      who: "--cells",
    });
  });
});

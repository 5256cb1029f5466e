/** @file The layer-wise recipes in a tiny run: each trains, has a curve, and refuses what it can't do. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { layerWise } from "../src/methods/layer-wise.js";
import { type ResultRow, readResults } from "../src/results.js";
import { bench, type Recorded } from "./glue-helpers.js";

const names = layerWise.map(({ name }) => name);

describe("layer-wise recipes", () => {
  let run: Recorded;
  let rows: readonly ResultRow[];
  let out: string;
  beforeAll(async () => {
    out = await mkdtemp(path.join(tmpdir(), "cee-layer-wise-"));
    run = await bench([
      "--tasks=sentiment,similarity",
      `--methods=${names.join()}`,
      "--backbone=fresh:3x16",
      `--out=${out}`,
    ]);
    rows = (await readResults(path.join(out, "results.json"))).rows;
  }, 240_000);
  afterAll(() => rm(out, { recursive: true }));

  const curve = (method: string, task: string) =>
    rows.filter(
      (row) => row.method === method && row.task === task && row.operatingPoint === "curve",
    );

  it("run without a failure", () => {
    expect(run.failures).toEqual([]);
  });

  it.each(names)("%s has a curve that its knob moves", (name) => {
    const points = curve(name, "sentiment");
    expect(points.length).toBeGreaterThan(1);
    const layers = points.map((row) => row.meanExitLayer as number);
    expect(Math.max(...layers)).toBeGreaterThan(Math.min(...layers));
  });

  it("train once what PABEE and PCEE-BERT share with the full-depth row", async () => {
    const shared = new Set(["pabee", "pcee-bert"]);
    const own = names.filter((name) => !shared.has(name)).length;
    const regressions = names.filter((name) => curve(name, "similarity").length > 0);
    const ownRegressions = regressions.filter((name) => !shared.has(name)).length;
    expect(await readdir(path.join(out, "trainings"))).toHaveLength(own + 1 + ownRegressions + 1);
  });

  it("refuse a regression by name, with the reason, unless they have a form for it", () => {
    for (const { name, unsupported } of layerWise) {
      const reason = unsupported("regression");
      expect(curve(name, "similarity").length > 0, name).toBe(reason === undefined);
      if (reason === undefined) continue;
      expect(reason).toContain(name);
      expect(run.printed.join("\n")).toContain(`similarity: ${reason}`);
    }
    expect(layerWise.filter(({ unsupported }) => !unsupported("regression"))).not.toEqual([]);
  });
});

/** @file Token-wise methods in a tiny run: rows without layers, with a cost, and refused on a regression. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ResultRow, readResults } from "../src/results.js";
import { bench } from "./glue-helpers.js";

describe("token-wise methods", () => {
  let rows: readonly ResultRow[];
  let printed: string;
  let out: string;
  beforeAll(async () => {
    out = await mkdtemp(path.join(tmpdir(), "cee-tokenwise-"));
    const run = await bench([
      "--tasks=sentiment,similarity",
      "--methods=hashee,tr-bert",
      "--backbone=fresh:4x16",
      `--out=${out}`,
    ]);
    expect(run.failures).toEqual([]);
    printed = run.printed.join("\n");
    rows = (await readResults(path.join(out, "results.json"))).rows;
  }, 300_000);
  afterAll(() => rm(out, { recursive: true }));

  const curve = (method: string) =>
    rows.filter((row) => row.method === method && row.operatingPoint === "curve");

  it("have no layers, a cost below full depth's, and a point of each training", () => {
    expect(curve("hashee").map((row) => [row.options.map, row.knob?.value])).toEqual([
      ["frequency", 2],
      ["clustered", 3],
      ["frequency", 3],
      ["random", 3],
      ["frequency", 4],
      ["frequency", 5],
    ]);
    expect(curve("tr-bert").map((row) => row.knob?.value)).toEqual([0.1, 0.5, 2]);
    for (const row of [...curve("hashee"), ...curve("tr-bert")]) {
      expect(row).toMatchObject({ layers: null, savedLayers: null, exitHistogram: null });
      expect(row.cost).toBeGreaterThan(0);
      expect(row.cost).toBeLessThan(1.1);
    }
  });

  it("cost more with more layers", () => {
    const costs = curve("hashee").flatMap((row) =>
      row.options.map === "frequency" ? [row.cost as number] : [],
    );
    expect(costs).toEqual([...costs].sort((a, b) => a - b));
  });

  it("are measured at their operating points, chosen by cost", () => {
    for (const method of ["hashee", "tr-bert"]) {
      const chosen = rows.filter((row) => row.method === method && row.operatingPoint !== "curve");
      const good = curve(method).filter((row) => row.score >= row.fullScore - 1e-9);
      const noLoss = chosen.find((row) => row.operatingPoint === "no-loss");
      expect(noLoss?.cost).toBe(
        good.length > 0 ? Math.min(...good.map((row) => row.cost as number)) : undefined,
      );
      for (const row of chosen) expect(row.savedRuntime).toEqual(expect.any(Number));
    }
  });

  it("are refused on a regression by name, with the reason", () => {
    expect(rows.filter(({ task, method }) => task === "similarity" && method !== "full")).toEqual(
      [],
    );
    for (const reason of [
      "similarity: hashee can't do regression: its published training is a cross-entropy, and a number has no classes",
      "similarity: tr-bert can't do regression: it is distilled from the probabilities of a teacher's classes, and a number has none",
    ])
      expect(printed).toContain(reason);
  });
});

/** @file Controls and the cascade in a tiny run: what their rows say, and how points without exit layers are chosen. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ResultRow, readResults } from "../src/results.js";
import { bench } from "./glue-helpers.js";

describe("controls and cascade", () => {
  let rows: readonly ResultRow[];
  let printed: readonly string[];
  let out: string;
  beforeAll(async () => {
    out = await mkdtemp(path.join(tmpdir(), "cee-controls-"));
    const run = await bench([
      "--tasks=sentiment,similarity",
      "--methods=cascade,truncated,random,oracle",
      "--backbone=fresh:3x16",
      `--out=${out}`,
    ]);
    expect(run.failures).toEqual([]);
    printed = run.printed;
    rows = (await readResults(path.join(out, "results.json"))).rows;
  }, 240_000);
  afterAll(() => rm(out, { recursive: true }));

  const curve = (method: string, task = "sentiment") =>
    rows.filter(
      (row) => row.method === method && row.task === task && row.operatingPoint === "curve",
    );

  it("have a truncated model at each depth", () => {
    for (const task of ["sentiment", "similarity"])
      expect(curve("truncated", task).map((row) => [row.knob?.value, row.meanExitLayer])).toEqual([
        [1, 1],
        [2, 2],
        [3, 3],
      ]);
  });

  it("have random exits at every half layer", () => {
    for (const row of curve("random"))
      expect(row.meanExitLayer).toBeCloseTo(row.knob?.value as number, 1);
    expect(curve("random").map((row) => row.knob?.value)).toEqual([1, 1.5, 2, 2.5, 3]);
  });

  it("have an oracle that no method on the same model beats", () => {
    const oracle = curve("oracle");
    expect(oracle).toHaveLength(4);
    const best = Math.max(...oracle.map((row) => row.score));
    for (const row of curve("random")) expect(row.score).toBeLessThanOrEqual(best);
    const lost = oracle.filter((row) => row.options.otherwise === "last");
    expect(lost.map((row) => row.score)).toEqual([best]);
  });

  it("give the cascade a cost where it has no layers, and choose its points by it", () => {
    const cascade = curve("cascade");
    expect(cascade.length).toBeGreaterThan(4);
    for (const row of cascade) {
      expect(row).toMatchObject({ layers: null, meanExitLayer: null, savedLayers: null });
      expect(row.cost).toBeGreaterThanOrEqual(2 / 3);
      expect(row.cost).toBeLessThanOrEqual(5 / 3);
    }
    const costs = cascade.map((row) => row.cost as number);
    expect(costs).toEqual([...costs].sort((a, b) => a - b));
    const chosen = rows.find((row) => row.method === "cascade" && row.operatingPoint === "no-loss");
    const good = cascade.filter((row) => row.score >= row.fullScore - 1e-9);
    if (good.length > 0)
      expect(chosen?.cost).toBe(Math.min(...good.map((row) => row.cost as number)));
    else expect(chosen).toBeUndefined();
    if (chosen) expect(chosen.savedRuntime).toEqual(expect.any(Number));
  });

  it("refuse the cascade on a regression by name, with the reason", () => {
    expect(curve("cascade", "similarity")).toEqual([]);
    expect(printed.join("\n")).toContain(
      "similarity: cascade can't do regression: a cascade accepts an answer for its highest class probability, and a number has none",
    );
  });
});

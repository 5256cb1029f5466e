/** @file Choosing points from a curve. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type CurvePoint,
  chooseHeldOut,
  chooseOperatingPoints,
  choosePoint,
  splitHalves,
} from "../src/protocol/operating-points.js";

const n = 200;
const labels = Array.from({ length: n }, (_, row) => row % 2);
/** Predictions with a stated number of errors, all at the end. */
const withErrors = (errors: number) =>
  labels.map((label, row) => (row >= n - errors ? 1 - label : label));
const point = (value: number, layer: number, errors: number): CurvePoint => ({
  knob: { name: "threshold", value },
  exitLayers: new Array<number>(n).fill(layer),
  predictions: withErrors(errors),
});
const curve = (points: CurvePoint[], fullErrors = 10) => ({
  points,
  full: withErrors(fullErrors),
  labels,
  metric: "accuracy" as const,
  layers: 12,
});

describe("points chosen on the rows that are reported", () => {
  it("are the fastest without loss and the fastest within one per cent", () => {
    // Full depth 0.95; one per cent below is 0.9405, so 11 errors (0.945) pass and 12 (0.94) don't.
    const points = [point(0, 12, 10), point(1, 9, 10), point(2, 6, 11), point(3, 4, 12)];
    const { fullScore, noLoss, onePercent, scored } = chooseOperatingPoints(curve(points));
    expect(fullScore).toBe(0.95);
    expect(noLoss).toMatchObject({ index: 1, cost: 9, score: 0.95 });
    expect(onePercent).toMatchObject({ index: 2, cost: 6, score: 0.945 });
    expect(scored).toHaveLength(4);
  });

  it("may be slower neighbours of a dip: speed counts, not the order of knob values", () => {
    const points = [point(0, 8, 30), point(1, 5, 9), point(2, 7, 0)];
    expect(chooseOperatingPoints(curve(points)).noLoss).toMatchObject({ index: 1 });
  });

  it("break ties in speed by score, then by order", () => {
    const points = [point(0, 6, 10), point(1, 6, 8), point(2, 6, 8)];
    expect(chooseOperatingPoints(curve(points)).noLoss).toMatchObject({ index: 1 });
  });

  it("are none when no point qualifies", () => {
    const { noLoss, onePercent } = chooseOperatingPoints(curve([point(0, 3, 50)]));
    expect([noLoss, onePercent]).toEqual([undefined, undefined]);
    expect(chooseOperatingPoints(curve([])).noLoss).toBeUndefined();
  });

  it("rank by cost where there are no exit layers, and demand one", () => {
    const timed = (cost: number): CurvePoint => ({
      knob: null,
      exitLayers: null,
      predictions: withErrors(10),
      cost,
    });
    expect(chooseOperatingPoints(curve([timed(3), timed(2)])).noLoss).toMatchObject({ index: 1 });
    const untimed = { knob: null, exitLayers: null, predictions: withErrors(10) };
    expect(() => chooseOperatingPoints(curve([untimed]))).toThrow(/needs a cost/);
  });

  it("refuse predictions of another number of rows", () => {
    const short = { ...point(0, 3, 0), predictions: [1] };
    expect(() => chooseOperatingPoints(curve([short]))).toThrow(/200 rows, got 1/);
  });

  it("allow one per cent of the magnitude of a negative score", () => {
    const scored = [{ score: -0.5005, cost: 1 }];
    expect(choosePoint(scored, -0.5, "one-percent")).toBe(scored[0]);
    expect(choosePoint(scored, -0.5, "no-loss")).toBeUndefined();
  });

  it("never are slower for a larger allowance, and always qualify", () => {
    const scores = fc.array(
      fc.record({
        score: fc.double({ min: 0, max: 1, noNaN: true }),
        cost: fc.integer({ min: 1, max: 12 }),
      }),
    );
    fc.assert(
      fc.property(scores, fc.double({ min: 0, max: 1, noNaN: true }), (scored, full) => {
        const strict = choosePoint(scored, full, "no-loss");
        const soft = choosePoint(scored, full, "one-percent");
        if (strict) {
          expect(strict.score).toBeGreaterThanOrEqual(full - 1e-9);
          expect(soft!.cost).toBeLessThanOrEqual(strict.cost);
        }
        for (const other of scored) {
          if (other.score >= full) expect(strict!.cost).toBeLessThanOrEqual(other.cost);
        }
      }),
      { seed: 8 },
    );
  });
});

describe("points chosen on one half and reported on the other", () => {
  it("split the rows in two by seed", () => {
    const { choose, report } = splitHalves(7, 3);
    expect(choose).toHaveLength(4);
    expect([...choose, ...report].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(splitHalves(7, 3)).toEqual({ choose, report });
  });

  it("report scores of the other half only", () => {
    const { choose, report } = splitHalves(n, 5);
    // Perfect on the choosing half, always wrong on the other: the choice must look good, the report bad.
    const chosenRows = new Set(choose);
    const predictions = labels.map((label, row) => (chosenRows.has(row) ? label : 1 - label));
    const exitLayers = labels.map((_, row) => (chosenRows.has(row) ? 2 : 6));
    const trap = { knob: null, exitLayers, predictions };
    const held = chooseHeldOut(curve([trap, point(1, 9, 0)], 0), "no-loss", { seed: 5 })!;
    expect(held).toMatchObject({
      index: 0,
      chosenOn: { n: 100, score: 1, fullScore: 1 },
      score: 0,
      fullScore: 1,
      meanExitLayer: 6,
      savedLayers: 0.5,
      relativeLoss: 1,
    });
    expect(held.rows).toEqual(report);
  });

  it("give the standard error of the paired difference", () => {
    const held = chooseHeldOut(curve([point(0, 6, 10)]), "no-loss", { seed: 1 })!;
    expect(held.standardError).toBe(0);
    const noisy = {
      knob: null,
      exitLayers: new Array<number>(n).fill(3),
      predictions: labels.map((label, row) => (row % 10 < 1 ? 1 - label : label)),
    };
    const full = labels.map((label, row) => (row % 10 > 6 ? 1 - label : label));
    const other = chooseHeldOut({ ...curve([noisy]), full }, "one-percent", { seed: 4 })!;
    // A row differs by +1 in 30 %, -1 in 10 %: variance 0.4 - 0.04.
    expect(other.standardError / Math.sqrt(0.36 / 100)).toBeCloseTo(1, 0.5);
    expect(chooseHeldOut(curve([point(0, 3, 150)]), "no-loss", { seed: 1 })).toBeUndefined();
  });
});

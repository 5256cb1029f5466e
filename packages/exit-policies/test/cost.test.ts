import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { summarise } from "../src/index.js";

describe("the cost of exits", () => {
  it("is that of the worked example", () => {
    const layers = [...Array(10).fill(1), ...Array(30).fill(6), ...Array(60).fill(12)];
    const { meanExitLayer, savedLayers, speedup, histogram, rows } = summarise(layers, 12);
    expect(meanExitLayer).toBeCloseTo(9.1, 12);
    expect(savedLayers).toBeCloseTo(0.24167, 5);
    expect(speedup).toBeCloseTo(1.31868, 5);
    expect(histogram).toEqual([10, 0, 0, 0, 0, 30, 0, 0, 0, 0, 0, 60]);
    expect(rows).toBe(100);
  });

  it("is the same from the histogram and from the list", () =>
    fc.assert(
      fc.property(
        fc
          .integer({ min: 1, max: 24 })
          .chain((depth) =>
            fc.tuple(
              fc.constant(depth),
              fc.array(fc.integer({ min: 1, max: depth }), { minLength: 1, maxLength: 50 }),
            ),
          ),
        ([depth, layers]) => {
          const cost = summarise(Int32Array.from(layers), depth);
          const total = cost.histogram.reduce((sum, rows) => sum + rows, 0);
          const layersRun = cost.histogram.reduce((sum, rows, at) => sum + rows * (at + 1), 0);
          expect(total).toBe(layers.length);
          expect(layersRun / total).toBeCloseTo(cost.meanExitLayer, 12);
          expect(cost.savedLayers).toBeGreaterThanOrEqual(0);
          expect(cost.savedLayers).toBeCloseTo(1 - 1 / cost.speedup, 12);
        },
      ),
    ));

  it("refuses layers that a model of this depth does not have", () => {
    for (const layer of [0, 13, 1.5, Number.NaN])
      expect(() => summarise([1, layer], 12)).toThrowError(`got ${layer} for row 1`);
    expect(summarise([], 12).meanExitLayer).toBeNaN();
  });
});

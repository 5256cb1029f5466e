/** @file The knob values that trace a curve: the definition's grid, and quantiles of what was observed. */
import type { ExitRecord } from "@cee/exit-policies";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { knobValues } from "../src/methods/strategy-method.js";

function recordOf(observed: readonly number[], observedWidth = 1): ExitRecord {
  const ids = Array.from({ length: observed.length / (2 * observedWidth) }, (_, row) => `${row}`);
  return {
    shape: { task: "classification", depth: 2, hidden: 4, classes: 2 },
    strategy: "test",
    ids,
    logits: new Float32Array(ids.length * 4),
    observed: Float32Array.from(observed),
    observedWidth,
  } as unknown as ExitRecord;
}

describe("knobValues", () => {
  it("keeps a grid of whole numbers as it is", () => {
    const record = recordOf([0.1, 0.2, 0.3, 0.4]);
    expect(knobValues({ grid: [3, 1, 2] }, record)).toEqual([1, 2, 3]);
  });

  it("adds observed quantiles to a continuous knob, in order and without repeats", () => {
    const observed = Array.from({ length: 200 }, (_, index) => index / 200);
    const values = knobValues({ grid: [0.1, 0.5] }, recordOf(observed));
    expect(values.length).toBeGreaterThanOrEqual(19);
    expect(values).toContain(0.1);
    expect(values).toContain(0.25);
    expect(values).toEqual([...new Set(values)].sort((a, b) => a - b));
  });

  it("ignores observations that are not finite, and those with several values per row", () => {
    const ill = recordOf([Number.NaN, Number.POSITIVE_INFINITY, 0.25, 0.25]);
    expect(knobValues({ grid: [0.5] }, ill)).toEqual([0.25, 0.5]);
    expect(knobValues({ grid: [0.5] }, recordOf([0.1, 0.2, 0.3, 0.4], 2))).toEqual([0.5]);
  });

  it("gives the same values whatever the order of the rows", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 2, maxLength: 40 }),
        (seen) => {
          const even = seen.slice(0, seen.length - (seen.length % 2));
          const values = knobValues({ grid: [0.5] }, recordOf(even));
          expect(knobValues({ grid: [0.5] }, recordOf([...even].reverse()))).toEqual(values);
        },
      ),
    );
  });
});

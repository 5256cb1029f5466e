/** @file Epochs hold every row once, in batches of similar length, and tokens are padded as told. */
import { createRng } from "@cee/engine";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { toBatch } from "../src/runner/batch.js";
import { keepRows } from "../src/runner/compact.js";
import { planEpoch, planPass } from "../src/train/batches.js";

const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 200 });
const size = fc.integer({ min: 1, max: 9 });
const sorted = (batches: readonly (readonly number[])[]) => batches.flat().sort((a, b) => a - b);
const spread = (batch: readonly number[], of: readonly number[]) => {
  const own = batch.map((row) => of[row] as number);
  return Math.max(...own) - Math.min(...own);
};

describe("planEpoch", () => {
  it("holds every row once, in as few batches as possible", () => {
    fc.assert(
      fc.property(lengths, size, fc.integer(), (all, batchSize, seed) => {
        const batches = planEpoch(all, batchSize, createRng(seed), 4);
        expect(sorted(batches)).toEqual(all.map((_, row) => row));
        expect(batches).toHaveLength(Math.ceil(all.length / batchSize));
        expect(batches.every(({ length }) => length <= batchSize)).toBe(true);
      }),
    );
  });

  it("depends on the seed alone", () => {
    const all = Array.from({ length: 50 }, (_, row) => 1 + (row % 7));
    const plan = (seed: number) => planEpoch(all, 4, createRng(seed));
    expect(plan(1)).toEqual(plan(1));
    expect(plan(1)).not.toEqual(plan(2));
  });

  it("puts rows of similar length together, and shuffles rows of equal length", () => {
    const rng = createRng("lengths");
    const all = Array.from({ length: 256 }, () => 1 + rng.int(64));
    const mean = (bucket: number) => {
      const batches = planEpoch(all, 8, createRng(3), bucket);
      return batches.reduce((sum, batch) => sum + spread(batch, all), 0) / batches.length;
    };
    expect(mean(32)).toBeLessThan(mean(1) / 5);
    const equal = planEpoch(new Array(64).fill(5), 8, createRng(1));
    expect(equal.some((batch) => spread(batch, [...equal.flat().keys()]) > 8)).toBe(true);
  });
});

describe("planPass", () => {
  it("holds every row once, shortest first", () => {
    fc.assert(
      fc.property(lengths, size, (all, batchSize) => {
        const batches = planPass(all, batchSize);
        expect(sorted(batches)).toEqual(all.map((_, row) => row));
        const inOrder = batches.flat().map((row) => all[row] as number);
        expect(inOrder).toEqual([...inOrder].sort((a, b) => a - b));
      }),
    );
  });
});

describe("toBatch", () => {
  const row = (...ids: number[]) => ({
    ids: Int32Array.from(ids),
    types: new Int32Array(ids.length),
  });

  it("pads to the longest row, up to a multiple, up to a limit", () => {
    const rows = [row(5, 6, 7), row(8)];
    const plain = toBatch(rows, { padId: 9 });
    expect(plain).toMatchObject({ rows: 2, length: 3 });
    expect([...plain.ids]).toEqual([5, 6, 7, 8, 9, 9]);
    expect([...plain.mask]).toEqual([1, 1, 1, 1, 0, 0]);
    expect([...plain.types]).toEqual([0, 0, 0, 0, 0, 0]);
    expect(toBatch(rows, { multiple: 8 }).length).toBe(8);
    expect(toBatch(rows, { multiple: 8, maxLength: 5 }).length).toBe(5);
    // The limit is for the padding: rows are never cut.
    expect(toBatch(rows, { multiple: 8, maxLength: 2 }).length).toBe(3);
    expect(toBatch([], {}).rows).toBe(0);
  });

  it("refuses a row whose token types are not one for each token", () => {
    expect(() => toBatch([{ ids: Int32Array.of(1, 2), types: new Int32Array(3) }])).toThrow(
      /row 0 has 2 tokens and 3 token types/,
    );
  });
});

describe("keepRows", () => {
  it("takes rows from every leaf of a tree", () => {
    const tree = {
      a: { dtype: "float32" as const, shape: [3, 2], data: Float32Array.of(0, 1, 2, 3, 4, 5) },
      b: [{ dtype: "int32" as const, shape: [3], data: Int32Array.of(7, 8, 9) }],
    };
    expect(keepRows(tree, [0, 2])).toEqual({
      a: { dtype: "float32", shape: [2, 2], data: Float32Array.of(0, 1, 4, 5) },
      b: [{ dtype: "int32", shape: [2], data: Int32Array.of(7, 9) }],
    });
    expect(keepRows(tree.a, [])).toEqual({
      dtype: "float32",
      shape: [0, 2],
      data: new Float32Array(),
    });
  });
});

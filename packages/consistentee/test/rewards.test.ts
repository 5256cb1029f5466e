/** @file Memorized layers, rewards and the oracle. */

import * as tf from "@tensorflow/tfjs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  ConsistentEEError,
  layerPrice,
  layerPrices,
  memorizedLayer,
  memorizedLayerPerRow,
  memorizedLayers,
  oracleExit,
  oracleExits,
  recordedRewards,
  rewards,
  rowRewards,
} from "../src/index.js";
import { graded } from "./support.js";

const bits = (text: string) => [...text].map((bit) => bit === "1");
const { record } = graded(24, 1);

describe("memorized layer", () => {
  it.each([
    ["01011", 4],
    ["11111", 1],
    ["11110", 5],
    ["00001", 5],
    ["00000", 5],
    ["1", 1],
    ["0", 1],
  ])("of %s is %i", (text, layer) => {
    expect(memorizedLayer(bits(text))).toBe(layer);
  });

  it("is the smallest layer from which on every exit is correct, or the depth", () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 12 }), (correct) => {
        const layers = correct.map((_, index) => index + 1);
        const first = layers.find((layer) => correct.slice(layer - 1).every(Boolean));
        expect(memorizedLayer(correct)).toBe(first ?? correct.length);
      }),
    );
  });

  it("is keyed by row id", () => {
    const layers = memorizedLayers(record);
    expect(layers.get("row-0")).toBe(1);
    expect(layers.get("row-9")).toBe(4);
    expect(() => memorizedLayers({ ...record, ids: record.ids.map(() => "same") })).toThrow(
      expect.objectContaining({ code: "BAD_RECORD" }),
    );
  });

  it("takes the lowest class when logits tie", () => {
    const tied = (label: number) => ({
      ...record,
      ids: ["a"],
      labels: Float32Array.of(label),
      logits: new Float32Array(12),
    });
    expect([...memorizedLayerPerRow(tied(0))]).toEqual([1]);
    expect([...memorizedLayerPerRow(tied(1))]).toEqual([6]);
  });

  it("of a regression counts errors within the tolerance, its bound included", () => {
    const regression = {
      shape: { task: "regression", depth: 3, hidden: 4, classes: 1 },
      ids: ["a", "b"],
      labels: Float32Array.of(2, 2),
      logits: Float32Array.of(0, 2.5, 2, 2, 2, 3),
      observed: new Float32Array(6),
      observedWidth: 1,
    } as const;
    expect([...memorizedLayerPerRow(regression)]).toEqual([2, 3]);
    expect([...memorizedLayerPerRow(regression, { tolerance: 1 })]).toEqual([2, 1]);
    const { losses } = recordedRewards(regression, { alpha: 1, reward: "vanilla" });
    expect([...losses]).toEqual([4, 0.25, 0, 0, 0, 1]);
  });

  it("refuses rows without a usable label", () => {
    for (const label of [Number.NaN, 2, 0.5, -1]) {
      const labels = record.labels.slice();
      labels[3] = label;
      expect(() => memorizedLayers({ ...record, labels })).toThrow(ConsistentEEError);
      expect(() => memorizedLayers({ ...record, labels })).toThrow(/"row-3"/);
    }
  });
});

describe("rewards", () => {
  it("are the negative loss less the price of the layers, equal on host and in tensors", () => {
    for (const reward of ["vanilla", "hardness"] as const) {
      const options = { alpha: 0.3, reward };
      const { losses, prices, rows, depth } = recordedRewards(record, options);
      const expected = Array.from({ length: rows }, (_, row) => [
        ...rowRewards(losses.subarray(row * depth, (row + 1) * depth), prices[row] as number),
      ]).flat();
      const [tensor, tensorPrices] = tf.tidy(() => {
        const memorized = tf.tensor1d([...memorizedLayerPerRow(record)], "float32");
        const price = layerPrices(memorized, depth, options);
        return [
          rewards(tf.tensor2d(losses, [rows, depth]), price).dataSync(),
          price.dataSync(),
        ] as const;
      });
      expect(tensor).toBeAllclose(expected, { rtol: 1e-5, atol: 1e-6 });
      expect(tensorPrices).toBeAllclose([...prices], { rtol: 1e-6, atol: 1e-7 });
    }
  });

  it("match a row worked by hand", () => {
    expect(layerPrice(3, 12, { alpha: 0.02, reward: "hardness" })).toBeCloseTo(0.015, 12);
    expect(layerPrice(3, 12, { alpha: 0.02, reward: "vanilla" })).toBe(0.02);
    expect(layerPrice(12, 12, { alpha: 5, reward: "hardness" })).toBe(0);
    expect([...rowRewards([0.5, 0.25], 0.125)]).toEqual([-0.625, -0.5]);
    const one = { ...record, ids: ["a"], labels: Float32Array.of(1), logits: new Float32Array(12) };
    const { losses } = recordedRewards(one, { alpha: 0, reward: "vanilla" });
    expect(losses).toBeAllclose(new Array(6).fill(Math.LN2), { rtol: 1e-6 });
  });

  it("of one class count cross-entropy without overflow", () => {
    const one = {
      ...record,
      ids: ["a"],
      labels: Float32Array.of(1),
      logits: Float32Array.from({ length: 12 }, (_, index) => (index % 2 === 0 ? 400 : -400)),
    };
    const { losses } = recordedRewards(one, { alpha: 0, reward: "vanilla" });
    expect(losses).toBeAllclose(new Array(6).fill(800), { rtol: 1e-6 });
  });
});

describe("oracle exit", () => {
  it("is the best layer, the lowest of equals", () => {
    expect(oracleExit([-3, -1, -2])).toBe(2);
    expect(oracleExit([-1, -1, -1])).toBe(1);
  });

  it("never gets deeper under the vanilla reward as alpha grows", () => {
    // Multiples of 1 / 64 are added and multiplied without rounding, so ties are exact.
    const dyadic = fc.integer({ min: 0, max: 640 }).map((n) => n / 64);
    fc.assert(
      fc.property(
        fc.array(dyadic, { minLength: 1, maxLength: 12 }),
        dyadic,
        dyadic,
        (losses, a, b) => {
          const [low, high] = a <= b ? [a, b] : [b, a];
          expect(oracleExit(rowRewards(losses, high))).toBeLessThanOrEqual(
            oracleExit(rowRewards(losses, low)),
          );
        },
      ),
      { numRuns: 1000 },
    );
  });

  it("of a record whose loss falls with depth goes from the last layer to the first", () => {
    const at = (alpha: number) => [...oracleExits(record, { alpha, reward: "vanilla" })];
    expect(new Set(at(0))).toEqual(new Set([6]));
    expect(new Set(at(10))).toEqual(new Set([1]));
  });
});

/** @file P-values and intervals against independent sums and published vectors. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  binomialCdf,
  binomialPValue,
  fixedSequenceTest,
  hoeffdingBentkusPValue,
  hoeffdingPValue,
  rowsNeeded,
  shareInterval,
} from "../src/index.js";

/** Term by term in exact integers, then one division. */
function exactCdf(k: number, n: number, numerator: bigint, denominator: bigint): number {
  let sum = 0n;
  let choose = 1n;
  for (let index = 0; index <= k; index += 1) {
    sum += choose * numerator ** BigInt(index) * (denominator - numerator) ** BigInt(n - index);
    choose = (choose * BigInt(n - index)) / BigInt(index + 1);
  }
  const scale = 10n ** 40n;
  return Number((sum * scale) / denominator ** BigInt(n)) / 1e40;
}

describe("the binomial distribution", () => {
  it.each([
    [0, 300, 1n, 100n],
    [3, 500, 1n, 100n],
    [40, 500, 1n, 10n],
    [50, 500, 1n, 10n],
    [120, 500, 1n, 10n],
    [7, 10, 1n, 2n],
    [180, 1000, 1n, 5n],
    [210, 1000, 1n, 5n],
  ])("sums %i of %i exactly", (k, n, a, b) => {
    const expected = exactCdf(k, n, a, b);
    expect(Math.abs(binomialCdf(k, n, Number(a) / Number(b)) - expected)).toBeLessThan(
      1e-12 + 1e-9 * expected,
    );
  });

  it("is a distribution function", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3000 }),
        fc.double({ min: 0.001, max: 0.999, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (n, share, at) => {
          const k = Math.floor(at * n);
          const [a, b] = [binomialCdf(k - 1, n, share), binomialCdf(k, n, share)];
          expect(a).toBeGreaterThanOrEqual(0);
          expect(b).toBeLessThanOrEqual(1);
          expect(b - a).toBeGreaterThan(-1e-9);
        },
      ),
    );
    expect([binomialCdf(-1, 5, 0.3), binomialCdf(5, 5, 0.3)]).toEqual([0, 1]);
  });
});

describe("p-values", () => {
  it("are uniform or larger where the loss is at the limit", () => {
    // Over all outcomes of Bin(n, a), P(p <= u) <= u.
    for (const [n, limit] of [
      [40, 0.1],
      [300, 0.01],
    ] as const)
      for (const u of [0.01, 0.05, 0.1, 0.5]) {
        let [exact, bentkus] = [0, 0];
        for (let k = 0; k <= n; k += 1) {
          const mass = binomialCdf(k, n, limit) - binomialCdf(k - 1, n, limit);
          if (binomialPValue(k, n, limit) <= u) exact += mass;
          if (hoeffdingBentkusPValue(k / n, n, limit) <= u) bentkus += mass;
        }
        expect(exact).toBeLessThanOrEqual(u + 1e-9);
        expect(bentkus).toBeLessThanOrEqual(exact + 1e-9);
      }
  });

  it("of Hoeffding and Bentkus are never worse than Hoeffding's plain bound", () => {
    for (const mean of [0, 0.01, 0.05, 0.09, 0.1, 0.3])
      expect(hoeffdingBentkusPValue(mean, 500, 0.1)).toBeLessThanOrEqual(
        hoeffdingPValue(mean, 500, 0.1) + 1e-12,
      );
    expect(hoeffdingBentkusPValue(0.3, 500, 0.1)).toBe(1);
  });

  it("mean nothing without rows or with a limit of 0", () => {
    expect([binomialPValue(0, 0, 0.1), hoeffdingBentkusPValue(0, 0, 0.1)]).toEqual([1, 1]);
    expect([binomialPValue(0, 9, 0), hoeffdingBentkusPValue(0, 9, 0)]).toEqual([1, 1]);
  });
});

describe("the fixed sequence", () => {
  it("gives CALM's worked example: n 500, limit 0.1, losses 0, 0.01, 0.03, 0.06", () => {
    const losses = [0, 0.01, 0.03, 0.06];
    const { chosen, tested } = fixedSequenceTest(4, 0.95, (index) => {
      const meanLoss = losses[index] as number;
      return { meanLoss, pValue: hoeffdingPValue(meanLoss, 500, 0.1) };
    });
    // exp(-1000 (0.1 - loss)^2)
    const pValues = tested.map(({ pValue }) => pValue);
    expect(pValues).toBeAllclose([4.54e-5, 3.035e-4, 7.447e-3, 0.2019], { rtol: 2e-3 });
    expect(chosen).toBe(2);
  });

  it("stops at the first failure, also before a candidate that would pass", () => {
    const pValues = [0.01, 0.2, 0.001];
    const result = fixedSequenceTest(3, 0.95, (index) => ({
      meanLoss: 0,
      pValue: pValues[index] as number,
    }));
    expect(result.chosen).toBe(0);
    expect(result.tested).toHaveLength(2);
    expect(fixedSequenceTest(0, 0.95, () => ({ meanLoss: 0, pValue: 0 })).chosen).toBe(-1);
  });
});

describe("rows", () => {
  it("needed are those at which no loss at all is enough", () => {
    expect(rowsNeeded(0.01, 0.95)).toBe(299);
    expect(rowsNeeded(0.05, 0.95)).toBe(59);
    expect(rowsNeeded(0.5, 0.75)).toBe(2);
    for (const [limit, confidence] of [
      [0.01, 0.95],
      [0.02, 0.9],
      [0.3, 0.99],
    ] as const) {
      const n = rowsNeeded(limit, confidence);
      expect(binomialPValue(0, n, limit)).toBeLessThanOrEqual(1 - confidence);
      expect(binomialPValue(0, n - 1, limit)).toBeGreaterThan(1 - confidence);
    }
  });

  it("give Clopper and Pearson's interval", () => {
    // Closed forms: no success gives 1 - (tail)^(1/n) above; all successes tail^(1/n) below.
    const none = shareInterval(0, 20, 0.95);
    expect(none.lower).toBe(0);
    expect(none.upper).toBeCloseTo(1 - 0.025 ** (1 / 20), 9);
    const all = shareInterval(20, 20, 0.95);
    expect(all.upper).toBe(1);
    expect(all.lower).toBeCloseTo(0.025 ** (1 / 20), 9);
    const some = shareInterval(7, 20, 0.95);
    expect(1 - binomialCdf(6, 20, some.lower)).toBeCloseTo(0.025, 9);
    expect(binomialCdf(7, 20, some.upper)).toBeCloseTo(0.025, 9);
    expect(shareInterval(0, 0, 0.95)).toEqual({ lower: 0, upper: 1 });
  });
});

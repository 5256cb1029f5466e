/** @file Scores and statistics against hand-computed values and an independent library. */
import fc from "fast-check";
import {
  sampleCorrelation,
  sampleRankCorrelation,
  sampleStandardDeviation,
} from "simple-statistics";
import { describe, expect, it } from "vitest";
import { pairedBootstrap } from "../src/metrics/bootstrap.js";
import { intervalOf, type Resampled, resampleAll, weightedMean } from "../src/metrics/resample.js";
import {
  accuracy,
  averageRanks,
  balancedAccuracy,
  f1,
  matthews,
  metricNames,
  pearson,
  perClassAccuracy,
  score,
  spearman,
} from "../src/metrics/score.js";
import { erfc, holm, mcNemar, meanAndError, median } from "../src/metrics/statistics.js";

// 3 true positives, 2 false positives, 1 false negative, 4 true negatives.
const labels = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0];
const predictions = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0];

describe("scores", () => {
  it("agree with hand-computed values", () => {
    expect(accuracy(predictions, labels)).toBe(0.7);
    expect(balancedAccuracy(predictions, labels)).toBeCloseTo((3 / 4 + 4 / 6) / 2, 12);
    expect(f1(predictions, labels)).toBeCloseTo(6 / 9, 12);
    expect(f1(predictions, labels, 0)).toBeCloseTo(8 / 11, 12);
    // (3*4 - 2*1) / sqrt(5 * 4 * 6 * 5)
    expect(matthews(predictions, labels)).toBeCloseTo(10 / Math.sqrt(600), 12);
    expect(perClassAccuracy(predictions, labels)).toEqual([
      { label: 0, n: 6, accuracy: 4 / 6, predicted: 5 },
      { label: 1, n: 4, accuracy: 3 / 4, predicted: 5 },
    ]);
  });

  it("generalise Matthews correlation to three classes", () => {
    // Confusion rows (actual) [[2,0,0],[0,1,1],[1,0,1]]: c = 4, s = 6, p = [3,1,2], t = [2,2,2].
    const actual = [0, 0, 1, 1, 2, 2];
    const given = [0, 0, 1, 2, 0, 2];
    expect(matthews(given, actual)).toBeCloseTo(
      (4 * 6 - 12) / Math.sqrt((36 - 14) * (36 - 12)),
      12,
    );
  });

  it("give 0 where they are undefined", () => {
    expect(f1([0, 0], [0, 0])).toBe(0);
    expect(matthews([1, 1], [0, 1])).toBe(0);
    expect(pearson([0.1, 0.1, 0.1], [1, 2, 3])).toBe(0);
    expect(spearman([1, 2, 3], [4, 4, 4])).toBe(0);
  });

  it("rank ties at their average", () => {
    expect([...averageRanks([10, 20, 20, 5])]).toEqual([2, 3.5, 3.5, 1]);
  });

  it("agree with simple-statistics on correlations, ties included", () => {
    const values = fc.array(
      fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 9 })),
      { minLength: 4, maxLength: 40 },
    );
    fc.assert(
      fc.property(values, (pairs) => {
        const a = pairs.map(([x]) => x / 3);
        const b = pairs.map(([, y]) => y / 7);
        fc.pre(new Set(a).size > 1 && new Set(b).size > 1);
        expect(pearson(a, b)).toBeCloseTo(sampleCorrelation(a, b), 9);
        expect(spearman(a, b)).toBeCloseTo(sampleRankCorrelation(a, b), 9);
      }),
      { seed: 3 },
    );
  });

  it("refuse no rows, unequal lengths and numbers that aren't finite", () => {
    for (const metric of metricNames) {
      expect(() => score(metric, [], [])).toThrow(/at least one row/);
      expect(() => score(metric, [1], [1, 0])).toThrow(/got 1 and 2/);
      expect(() => score(metric, [1, Number.NaN], [1, 0])).toThrow(/prediction NaN .* at row 1/);
    }
  });
});

describe("statistics", () => {
  it("give McNemar's test, exact and with continuity correction", () => {
    // 9 rows only the first has right, 2 only the second, 5 both.
    const truth = new Array<number>(16).fill(1);
    const first = truth.map((_, row) => (row < 9 || row >= 11 ? 1 : 0));
    const second = truth.map((_, row) => (row >= 9 ? 1 : 0));
    const result = mcNemar(first, second, truth);
    expect(result).toMatchObject({ onlyFirst: 9, onlySecond: 2 });
    // 2 * (C(11,0) + C(11,1) + C(11,2)) / 2^11 = 2 * 67 / 2048
    expect(result.exactP).toBeCloseTo(134 / 2048, 12);
    expect(result.chiSquare).toBeCloseTo(36 / 11, 12);
    expect(result.chiSquareP).toBeCloseTo(0.0704404, 6);
    expect(mcNemar(first, first, truth).exactP).toBe(1);
  });

  it("correct p-values by Holm's steps", () => {
    const corrected = holm([0.01, 0.04, 0.03, 0.005]);
    for (const [index, expected] of [0.03, 0.06, 0.06, 0.02].entries()) {
      expect(corrected[index]).toBeCloseTo(expected, 12);
    }
    expect(holm([0.6, 0.9])).toEqual([1, 1]);
    expect(() => holm([1.2])).toThrow(/got 1.2/);
  });

  it("give mean, standard error and median", () => {
    const values = [2, 4, 4, 9];
    const { mean, standardDeviation, standardError } = meanAndError(values);
    expect(mean).toBe(4.75);
    expect(standardDeviation).toBeCloseTo(sampleStandardDeviation(values), 12);
    expect(standardError).toBeCloseTo(sampleStandardDeviation(values) / 2, 12);
    expect(meanAndError([3])).toMatchObject({ mean: 3, standardError: 0 });
    expect([median([3, 1, 2]), median([4, 1, 3, 2])]).toEqual([2, 2.5]);
  });

  it("know the complementary error function on both of its branches", () => {
    for (const [x, expected] of [
      [0, 1],
      [0.5, 0.4795001221869535],
      [1.9999, 0.0046798] as const,
      [2, 0.004677734981063127],
      [3, 2.209049699858544e-5],
    ] as const) {
      expect(Math.abs(erfc(x) - expected)).toBeLessThan(1e-6 * Math.max(expected, 1e-3) + 1e-7);
    }
    expect(erfc(3) / 2.209049699858544e-5).toBeCloseTo(1, 10);
  });
});

describe("bootstrap", () => {
  const many = Array.from({ length: 400 }, (_, row) => row % 10);
  const seed = 1;
  const meanOf = (values: readonly number[], options: { seed: number; resamples?: number }) =>
    resampleAll(values.length, [weightedMean(values)], options)[0] as Resampled;

  it("is fixed by its seed", () => {
    const first = meanOf(many, { seed });
    expect(meanOf(many, { seed })).toEqual(first);
    expect(meanOf(many, { seed: 2 })).not.toEqual(first);
  });

  it("comes near the normal interval of a mean", () => {
    const mean = meanOf(many, { seed, resamples: 2000 });
    const [low, high] = intervalOf(mean);
    const expected = meanAndError(many).standardError;
    expect(mean.estimate).toBeCloseTo(4.5, 12);
    expect((high - low) / (2 * 1.96 * expected)).toBeCloseTo(1, 1);
  });

  it("covers the true share in about 95 % of samples", () => {
    let covered = 0;
    for (let trial = 0; trial < 100; trial++) {
      const rng = splitMix(trial);
      const given = Array.from({ length: 100 }, () => (rng() < 0.8 ? 1 : 0));
      const [low, high] = intervalOf(meanOf(given, { seed: trial, resamples: 200 }));
      if (low <= 0.8 && 0.8 <= high) covered++;
    }
    expect(covered).toBeGreaterThanOrEqual(87);
    expect(covered).toBeLessThanOrEqual(100);
  });

  it("pairs rows: a method against itself differs by nothing, an even gain has no spread", () => {
    const same = pairedBootstrap("f1", predictions, predictions, labels, { seed });
    expect(same).toMatchObject({ estimate: 0, low: 0, high: 0, standardError: 0, p: 1 });
    const all = many.map(() => 1);
    const gain = pairedBootstrap(
      "accuracy",
      all,
      many.map(() => 0),
      all,
      { seed },
    );
    expect(gain).toMatchObject({ estimate: 1, low: 1, high: 1, p: 0.001 });
    expect(gain.standardError).toBeLessThan(1e-12);
  });

  it("has the standard error of a share", () => {
    const truth = many.map(() => 1);
    const given = many.map((value) => (value < 3 ? 0 : 1));
    const { standardError } = pairedBootstrap("accuracy", given, truth, truth, { seed });
    expect(standardError / Math.sqrt((0.3 * 0.7) / many.length)).toBeCloseTo(1, 1);
  });

  it("refuses no rows, rows of unequal number and a single resample", () => {
    const mean = weightedMean([1, 2]);
    expect(() => resampleAll(0, [mean], { seed })).toThrow(/at least one row/);
    expect(() => resampleAll(2, [mean], { seed, resamples: 1 })).toThrow(/at least 2 resamples/);
    expect(() => pairedBootstrap("accuracy", [1], [1, 0], [1], { seed })).toThrow(
      /as many predictions/,
    );
  });
});

function splitMix(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

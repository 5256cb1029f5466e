/** @file The shared bootstrap against the plain one, resample by resample. */
import { createRng } from "@cee/engine";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  difference,
  intervalOf,
  pOf,
  type Resampled,
  resampleAll,
  weightedMean,
  weightedScore,
} from "../src/metrics/resample.js";
import { type MetricName, metricNames, score } from "../src/metrics/score.js";

function draws(seed: number, n: number, metric: MetricName) {
  const rng = createRng(seed);
  const isCorrelation = metric === "pearson" || metric === "spearman";
  const classes = 2 + (seed % 2);
  // Few distinct numbers, so that ties are common.
  const draw = () => (isCorrelation ? rng.int(6) / 2 : rng.int(classes));
  const list = () => Array.from({ length: n }, draw);
  return { labels: list(), first: list(), second: list() };
}

/** The plain bootstrap: draws rows, and computes the statistic of the drawn rows from scratch. */
function plainBootstrap(
  n: number,
  statistic: (rows: readonly number[]) => number,
  { seed, resamples }: { readonly seed: number; readonly resamples: number },
): Resampled {
  const rng = createRng(seed).fork("bootstrap");
  const draw = () => statistic(Array.from({ length: n }, () => rng.int(n)));
  return {
    estimate: statistic(Array.from({ length: n }, (_, row) => row)),
    values: Float64Array.from({ length: resamples }, draw),
  };
}

describe("a weighted score", () => {
  it.each(metricNames)("is the score of the drawn rows: %s", (metric) =>
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e6 }), fc.integer({ min: 1, max: 30 }), (seed, n) => {
        const { labels, first } = draws(seed, n, metric);
        const rng = createRng(seed + 1);
        const rows = Array.from({ length: n }, () => rng.int(n));
        const weights = new Int32Array(n);
        for (const row of rows) weights[row] = (weights[row] as number) + 1;
        const plain = score(
          metric,
          rows.map((row) => first[row] as number),
          rows.map((row) => labels[row] as number),
        );
        expect(weightedScore(metric, first, labels)(weights)).toBeCloseTo(plain, 10);
      }),
      { numRuns: 200, seed: 7 },
    ),
  );
});

describe("the shared bootstrap", () => {
  it.each(["accuracy", "f1", "spearman"] as const)(
    "gives the plain one's intervals: %s",
    (metric) => {
      const { labels, first, second } = draws(4, 120, metric);
      const exits = first.map((value) => 1 + value);
      const options = { seed: 3, resamples: 200 };
      const [a, b, mean] = resampleAll(
        120,
        [
          weightedScore(metric, first, labels),
          weightedScore(metric, second, labels),
          weightedMean(exits),
        ],
        options,
      );
      if (!a || !b || !mean) throw new Error("internal");
      const take = (values: readonly number[], rows: readonly number[]) =>
        rows.map((row) => values[row] as number);
      const scoreOf = (values: readonly number[]) => (rows: readonly number[]) =>
        score(metric, take(values, rows), take(labels, rows));
      const near = (found: Resampled, plain: Resampled) => {
        expect(found.estimate).toBeCloseTo(plain.estimate, 10);
        expect(found.values).toBeAllclose(plain.values, { atol: 1e-10 });
      };
      const plainOf = (statistic: (rows: readonly number[]) => number) =>
        plainBootstrap(120, statistic, options);
      near(a, plainOf(scoreOf(first)));
      near(b, plainOf(scoreOf(second)));
      near(
        difference(a, b),
        plainOf((rows) => scoreOf(first)(rows) - scoreOf(second)(rows)),
      );
      near(
        mean,
        plainOf((rows) => take(exits, rows).reduce((sum, layer) => sum + layer, 0) / rows.length),
      );
    },
  );

  it("gives no difference where there is none, and refuses to draw from no rows", () => {
    const accuracy = weightedScore("accuracy", [1, 0, 1], [1, 1, 1]);
    const [a, b] = resampleAll(3, [accuracy, accuracy], { seed: 1, resamples: 50 });
    if (!a || !b) throw new Error("internal");
    expect(intervalOf(difference(a, b))).toEqual([0, 0]);
    expect(pOf(difference(a, b))).toBe(1);
    expect(() => resampleAll(0, [], { seed: 1 })).toThrow("at least one row");
  });
});

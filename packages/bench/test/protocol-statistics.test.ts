/** @file Intervals, classes, early exits, pairs of methods, and curves at equal speed and score. */
import { createRng } from "@cee/engine";
import { describe, expect, it } from "vitest";
import { compareAll } from "../src/protocol/comparisons.js";
import { frontier, matchedFields, meanScore, savedAt, scoreAt } from "../src/protocol/matched.js";
import { classFields, earlyExitFields, rowIntervals } from "../src/protocol/row-statistics.js";
import { statisticsTables } from "../src/table/statistics-tables.js";
import { toMarkdown } from "../src/table/table.js";
import { syntheticResults } from "./synthetic-results.js";

const n = 400;
const rng = createRng(5);
const labels = Array.from({ length: n }, () => rng.int(2));
/** Right with this probability. */
const answers = (share: number) => labels.map((label) => (rng.next() < share ? label : 1 - label));
const full = answers(0.9);
const good = answers(0.9);
const bad = answers(0.6);
const exits = Array.from({ length: n }, (_, row) => 1 + (row % 6));

describe("intervals of a row", () => {
  const [first, second, none] = rowIntervals(
    [
      { predictions: good, exitLayers: exits },
      { predictions: bad, exitLayers: exits },
      { predictions: good, exitLayers: null },
    ],
    { metric: "accuracy", labels, full, seed: 1, resamples: 400 },
  );

  it("hold the score and the mean exit layer, and tell a loss from none", () => {
    const right = good.filter((answer, row) => answer === labels[row]).length / n;
    expect(first?.score[0]).toBeLessThan(right);
    expect(first?.score[1]).toBeGreaterThan(right);
    // Of a share of 0.9 over 400 rows: 4 standard errors of 0.015.
    expect((first?.score[1] ?? 1) - (first?.score[0] ?? 0)).toBeLessThan(0.08);
    expect(first?.meanExitLayer?.[0]).toBeLessThan(3.5);
    expect(first?.meanExitLayer?.[1]).toBeGreaterThan(3.4);
    expect(first?.scoreDifference.p).toBeGreaterThan(0.05);
    expect(second?.scoreDifference.high).toBeLessThan(-0.2);
    expect(second?.scoreDifference.p).toBeLessThan(0.01);
    expect(none?.meanExitLayer).toBeNull();
  });

  it("repeat with the seed", () => {
    const again = rowIntervals([{ predictions: good, exitLayers: exits }], {
      metric: "accuracy",
      labels,
      full,
      seed: 1,
      resamples: 400,
    });
    expect(again[0]).toEqual(first);
  });
});

describe("classes", () => {
  it("have their recall and their own mean exit layer", () => {
    const truth = [0, 0, 1, 1, 1];
    const point = { predictions: [0, 1, 1, 1, 0], exitLayers: [1, 3, 4, 4, 1] };
    expect(classFields(point, truth, ["no", "yes"])).toEqual([
      { label: "no", n: 2, accuracy: 0.5, predicted: 2, meanExitLayer: 2 },
      { label: "yes", n: 3, accuracy: 2 / 3, predicted: 3, meanExitLayer: 3 },
    ]);
    expect(classFields({ ...point, exitLayers: null }, truth, [])[0]).toMatchObject({
      label: "0",
      meanExitLayer: null,
    });
  });

  it("are flagged where early exits are nothing but the majority class", () => {
    const truth = Array.from({ length: 30 }, (_, row) => (row < 20 ? 1 : 0));
    const predictions = truth.map((label, row) => (row === 19 ? 0 : label));
    // The first 15 rows, all of the majority class, leave at layer 2; the others late.
    const early = truth.map((_, row) => (row < 15 ? 2 : 11));
    const names = ["no", "yes"];
    expect(earlyExitFields({ predictions, exitLayers: early }, truth, names, 12)).toEqual({
      upTo: 6,
      n: 15,
      answer: "yes",
      share: 1,
      isMajority: true,
      majorityOnly: true,
    });
    const mixed = truth.map((_, row) => (row % 2 === 0 ? 2 : 11));
    expect(earlyExitFields({ predictions, exitLayers: mixed }, truth, names, 12)).toMatchObject({
      n: 15,
      majorityOnly: false,
    });
    // Nothing in the first half: what leaves before the last layer counts.
    const late = truth.map((_, row) => (row < 15 ? 8 : 12));
    expect(earlyExitFields({ predictions, exitLayers: late }, truth, names, 12)).toMatchObject({
      upTo: 11,
      majorityOnly: true,
    });
    // A handful of rows is no pattern, and a minority class no majority.
    const few = truth.map((_, row) => (row < 5 ? 2 : 12));
    expect(earlyExitFields({ predictions, exitLayers: few }, truth, names, 12).majorityOnly).toBe(
      false,
    );
    const minority = truth.map((_, row) => (row >= 20 ? 2 : 12));
    expect(earlyExitFields({ predictions, exitLayers: minority }, truth, names, 12)).toMatchObject({
      answer: "no",
      share: 1,
      isMajority: false,
      majorityOnly: false,
    });
    const nobody = truth.map(() => 12);
    expect(earlyExitFields({ predictions, exitLayers: nobody }, truth, names, 12)).toMatchObject({
      n: 0,
      answer: "",
      share: 0,
    });
  });
});

describe("pairs of methods", () => {
  const where = { task: "t", split: "dev", seed: 1, operatingPoint: "one-percent" } as const;

  it("are all compared, with Holm's correction and both tests", () => {
    const comparisons = compareAll(
      [
        { method: "a", predictions: good, exitLayers: exits },
        { method: "b", predictions: bad, exitLayers: exits.map((exit) => exit + 1) },
        { method: "c", predictions: good, exitLayers: null },
      ],
      { ...where, metric: "accuracy", labels, resamples: 500 },
    );
    expect(comparisons.map(({ first, second }) => first + second)).toEqual(["ab", "ac", "bc"]);
    const [ab, ac, bc] = comparisons;
    expect(ab?.scoreDifference.low).toBeGreaterThan(0.15);
    // 1 / 500 is the least p, times three pairs at most.
    expect(ab?.scoreDifference.p).toBe(1 / 500);
    expect(ab?.scoreDifference.holmP).toBeCloseTo(3 / 500, 12);
    expect(ab?.exitDifference?.estimate).toBeCloseTo(-1, 12);
    expect(ab?.exitDifference?.low).toBeCloseTo(-1, 12);
    expect(ab?.mcNemar?.holmP).toBeLessThan(1e-10);
    expect(ac?.exitDifference).toBeNull();
    expect(ac?.scoreDifference).toMatchObject({ estimate: 0, p: 1, holmP: 1 });
    expect(ac?.mcNemar).toMatchObject({ onlyFirst: 0, onlySecond: 0, p: 1 });
    expect(bc?.scoreDifference.high).toBeLessThan(-0.15);
    expect(
      compareAll([{ method: "a", predictions: good, exitLayers: null }], {
        ...where,
        metric: "accuracy",
        labels,
      }),
    ).toEqual([]);
  });

  it("have no right and wrong in a regression", () => {
    const targets = labels.map((label, row) => label + row / n);
    const [pair] = compareAll(
      [
        { method: "a", predictions: targets, exitLayers: exits },
        {
          method: "b",
          predictions: targets.map((target, row) => target * (row % 2)),
          exitLayers: exits,
        },
      ],
      { ...where, metric: "spearman", labels: targets, resamples: 100 },
    );
    expect(pair?.mcNemar).toBeNull();
    expect(pair?.scoreDifference.low).toBeGreaterThan(0);
  });
});

describe("a curve", () => {
  const points = [
    { savedLayers: 0.2, score: 0.92 },
    { savedLayers: 0.5, score: 0.88 },
    // Slower and worse than the one before: never on the frontier.
    { savedLayers: 0.4, score: 0.8 },
    { savedLayers: 0.7, score: 0.6 },
  ];
  const curve = frontier(points, 0.9);

  it("is its frontier: full depth falls away when a faster point beats it", () => {
    expect(curve).toEqual([points[0], points[1], points[3]]);
    expect(frontier([points[1] as (typeof points)[number]], 0.9)[0]).toEqual({
      savedLayers: 0,
      score: 0.9,
    });
  });

  it("is read linearly at equal speed and at equal score", () => {
    expect(scoreAt(curve, 0.1)).toBe(0.92);
    expect(scoreAt(curve, 0.2)).toBe(0.92);
    expect(scoreAt(curve, 0.35)).toBeCloseTo(0.9, 12);
    expect(scoreAt(curve, 0.6)).toBeCloseTo(0.74, 12);
    expect(scoreAt(curve, 0.71)).toBeNull();
    expect(savedAt(curve, 0.9)).toBeCloseTo(0.35, 12);
    expect(savedAt(curve, 0.88)).toBe(0.5);
    expect(savedAt(curve, 0.1)).toBe(0.7);
    expect(savedAt(curve, 0.93)).toBeNull();
    expect(meanScore(curve, 0, 0.5)).toBeCloseTo((0.2 * 0.92 + 0.3 * 0.9) / 0.5, 12);
    expect(meanScore(curve, 0, 0.8)).toBeNull();
  });

  it("is compared over the savings that all methods reach, seeds averaged", () => {
    const { rows } = syntheticResults([1, 2]);
    const matched = matchedFields(rows);
    expect(matched).toHaveLength(9);
    for (const task of ["sentiment", "paraphrase", "similarity"]) {
      const own = matched.filter((fields) => fields.task === task);
      const reach = new Set(own.map(({ area }) => area?.to));
      expect(reach.size).toBe(1);
      // Made so that later methods lose more.
      const means = own.map(({ area }) => area?.score.mean as number);
      expect(means[0]).toBeLessThan(means[2] as number);
      expect(own[0]?.seeds).toBe(2);
      expect(
        own[0]?.atSpeed.find(({ savedLayers }) => savedLayers === 0.3)?.score?.standardError,
      ).toBeGreaterThan(0);
    }
  });
});

describe("the tables behind the main one", () => {
  it("show equal speed, equal score, and what rows and pairs say", () => {
    const results = syntheticResults([1]);
    const made = rowIntervals([{ predictions: good, exitLayers: exits }], {
      metric: "accuracy",
      labels,
      full,
      seed: 1,
      resamples: 100,
    })[0];
    const rows = results.rows.map((row) =>
      row.operatingPoint === "one-percent" && made
        ? {
            ...row,
            intervals: made,
            perClass: [{ label: "a|b", n: 3, accuracy: 0.5, predicted: 2, meanExitLayer: 2 }],
            earlyExits: {
              upTo: 6,
              n: 40,
              answer: "positive",
              share: 1,
              isMajority: true,
              majorityOnly: true,
            },
          }
        : row,
    );
    const comparisons = compareAll(
      [
        { method: "entropy", predictions: good, exitLayers: exits },
        { method: "patience", predictions: bad, exitLayers: exits },
      ],
      {
        task: "sentiment",
        split: "dev",
        seed: 1,
        operatingPoint: "one-percent",
        metric: "accuracy",
        labels,
      },
    );
    const tables = statisticsTables(
      { ...results, rows, comparisons, matched: matchedFields(rows) },
      { methodTitles: { entropy: "DeeBERT" } },
    );
    const text = tables.map(toMarkdown).join("\n");
    expect(tables).toHaveLength(5);
    expect(text).toContain("95 % paired-bootstrap intervals");
    expect(text).toContain("**only positive**");
    expect(text).toContain("| sentiment | DeeBERT – patience |");
    expect(text).toMatch(/DeeBERT – patience \| \+\d+\.\d \| \*\*0\.001\*\*/);
    expect(text).toContain("Scores at equal shares of saved layers");
    expect(text).toContain("| 99 % |");
    expect(text).toContain("a\\|b");
    // Nothing to say, no table.
    expect(statisticsTables({ ...results, rows: [] })).toEqual([]);
  });
});

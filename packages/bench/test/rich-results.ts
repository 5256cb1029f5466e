/** @file Results of a made-up run with everything a report can show: many methods, gaps, intervals, pairs, single inputs. */
import type { PaperResults } from "../src/paper/paper-results.js";
import type { InputStrip, ResultRow, Results } from "../src/results.js";
import { syntheticResults } from "./synthetic-results.js";

const depth = 12;
const flagged = "consistentee";

export interface RichOptions {
  /** Methods beside those of the synthetic results. */
  readonly extraMethods?: number;
  readonly seeds?: readonly number[];
  /** Appended to every text that may come from outside. */
  readonly mark?: string;
}

export function richResults({
  extraMethods = 0,
  seeds = [1],
  mark = "",
}: RichOptions = {}): Results {
  const base = syntheticResults(seeds);
  const copies = Array.from({ length: extraMethods }, (_, index) => index);
  const rows = [
    ...base.rows.map((row) => enrich(row, mark)),
    ...copies.flatMap((index) =>
      base.rows
        .filter(({ method }) => method === "entropy")
        .map((row) => ({
          ...enrich(row, mark),
          method: `method-${index + 1} with quite a long name${mark}`,
          score: row.score - 0.002 * index * (row.savedLayers ?? 0),
        })),
    ),
    ...reference(base.rows, seeds, mark),
  ];
  const task = `similarity${mark}`;
  return {
    ...base,
    command: base.command + mark,
    rows,
    failures: [
      {
        task,
        method: `broken${mark}`,
        seed: seeds[0]!,
        message: `the loss is not a number${mark}`,
      },
    ],
    leftOut: [
      { task, method: `hash${mark}`, seed: seeds[0]!, reason: `made for classification${mark}` },
    ],
    comparisons: [
      {
        task: `sentiment${mark}`,
        split: "dev",
        seed: seeds[0]!,
        operatingPoint: "one-percent",
        first: `consistentee${mark}`,
        second: `entropy${mark}`,
        scoreDifference: { estimate: 0.012, low: 0.001, high: 0.023, p: 0.01, holmP: 0.02 },
        exitDifference: { estimate: -0.5, low: -0.9, high: -0.1, p: 0.2, holmP: 0.4 },
        mcNemar: { onlyFirst: 7, onlySecond: 2, p: 0.18, holmP: 0.36 },
      },
    ],
    matched: ["entropy", "consistentee"].map((method) => ({
      task: `sentiment${mark}`,
      split: "dev",
      method: method + mark,
      seeds: seeds.length,
      atSpeed: [
        { savedLayers: 0.25, score: { mean: 0.9, standardError: 0.01 } },
        { savedLayers: 0.5, score: null },
      ],
      atScore: [{ relativeScore: 0.99, savedLayers: { mean: 0.4, standardError: 0.02 } }],
      area: { from: 0, to: 0.6, score: { mean: 0.89, standardError: 0 } },
    })),
    inputs: inputs(mark),
    titles: {
      tasks: Object.fromEntries(
        ["sentiment", "paraphrase", "similarity"].map((name) => [
          name + mark,
          `Task ${name}${mark}`,
        ]),
      ),
      methods: Object.fromEntries(
        ["full", "entropy", "patience", "consistentee"].map((name) => [
          name + mark,
          `Method ${name}${mark}`,
        ]),
      ),
    },
  };
}

function enrich(row: ResultRow, mark: string): ResultRow {
  const named = { ...row, task: row.task + mark, method: row.method + mark };
  if (row.operatingPoint === "curve") return named;
  const low = row.meanExitLayer! - 0.3;
  const half = row.exitHistogram!.map((count) => Math.floor(count / 2));
  return {
    ...named,
    intervals: {
      level: 0.95,
      resamples: 1000,
      score: [row.score - 0.02, row.score + 0.02],
      meanExitLayer: [low, low + 0.6],
      scoreDifference: { low: -0.02, high: 0.01, p: 0.4 },
    },
    ...(row.metric === "spearman"
      ? {}
      : {
          exitHistogramByClass: {
            [`negative${mark}`]: half,
            [`positive${mark}`]: row.exitHistogram!.map((count, index) => count - half[index]!),
          },
          perClass: ["negative", "positive"].map((label) => ({
            label: label + mark,
            n: 60,
            accuracy: 0.9,
            predicted: 60,
            meanExitLayer: row.meanExitLayer,
          })),
          earlyExits: {
            upTo: 6,
            n: 40,
            answer: `positive${mark}`,
            share: row.method === flagged ? 1 : 0.6,
            isMajority: true,
            majorityOnly: row.method === flagged,
          },
        }),
    heldOut: {
      knob: row.knob,
      n: 60,
      score: row.score - 0.005,
      fullScore: row.fullScore,
      balancedAccuracy: row.score - 0.02,
      meanExitLayer: row.meanExitLayer,
      savedLayers: row.savedLayers,
      relativeLoss: 0.006,
      standardError: 0.01,
    },
  };
}

/** A method that has a full-depth row only. */
function reference(
  rows: readonly ResultRow[],
  seeds: readonly number[],
  mark: string,
): ResultRow[] {
  return rows
    .filter(({ operatingPoint, method }) => operatingPoint === "full" && method === "entropy")
    .filter(({ seed }) => seeds.includes(seed))
    .map((row) => ({ ...enrich(row, mark), method: `full${mark}` }));
}

/**
 * Six inputs whose exits are known: at 0.1 the first leaves at layer 12 and is right, at 0.5 at layer 2 and is wrong; the
 * others leave at 6 and 2 and are right everywhere.
 */
function inputs(mark: string): InputStrip[] {
  const strips: InputStrip[] = [];
  for (const method of ["entropy", "patience"])
    for (let index = 0; index < 6; index += 1) {
      const isHard = index === 0;
      strips.push({
        task: `sentiment${mark}`,
        split: "dev",
        method: method + mark,
        seed: 1,
        id: `dev-${index}${mark}`,
        text: `An input that is made up, number ${index}.${mark}`,
        ...(index % 2 === 0 ? {} : { pair: `And its second sentence.${mark}` }),
        label: `positive${mark}`,
        hardness: "word",
        answers: Array.from({ length: depth }, (_, layer) =>
          isHard && layer < 9 ? `negative${mark}` : `positive${mark}`,
        ),
        observed: Array.from({ length: depth }, (_, layer) => 0.6 / (layer + 1)),
        knob: {
          name: `threshold${mark}`,
          direction: "higher-is-faster",
          value: 0.1,
          exits: [
            [0.1, isHard ? 12 : 6],
            [0.5, 2],
          ],
        },
        exit: isHard ? 12 : 6,
      });
    }
  return strips;
}

export function paperResults(mark = ""): PaperResults {
  const task = `sentiment${mark}`;
  const layers = Array.from({ length: depth }, (_, index) => ({
    layer: index + 1,
    n: 120,
    accuracy: index === 3 ? null : 0.6 + 0.03 * index,
    meanLoss: index === 3 ? null : 0.7 - 0.04 * index,
    bins: [4 * index, 30, 20, 12 - index, 3],
  }));
  const panel = { task, seed: 1, boundary: Math.LN2, largestLoss: 2.5, layers };
  const reward = (shift: number) =>
    [1.2, 1.8, 2.6].map((speedup, index) => ({
      alpha: 0.01 * (index + 1),
      seed: 1,
      speedup: speedup + shift,
      score: 0.92 - 0.02 * index,
    }));
  return {
    schema: 1,
    command: `pnpm bench paper${mark}`,
    tasks: [task, "rte"],
    table1: [task, "rte"].map((name) => ({
      task: name,
      seed: 1,
      n: 1000,
      loss: 0.71,
      forgetting: -0.43,
      evaluations: 20,
      memorizedLayers: layers.map(() => 10),
      forgettingEvents: [900, 80, 20],
      neverRight: 3,
    })),
    table2: [task, "rte"].map((name) => ({
      task: name,
      classes: 2,
      metric: "accuracy",
      train: 1000,
      dev: 120,
      devMismatched: null,
      test: null,
      malformed: 0,
      meanWords: 11.3,
      majority: 0.51,
    })),
    figure2: [
      { ...panel, objective: "weighted-sum", alpha: null },
      { ...panel, objective: "consistentee", alpha: 0.03 },
    ],
    figure3: ["entropy", "consistentee"].map((method, index) => ({
      task,
      method: method + mark,
      metric: "accuracy",
      fullScore: 0.91,
      points: [0.1, 0.3, 0.6].map((savedLayers) => ({
        savedLayers,
        score: 0.91 - 0.1 * savedLayers + 0.02 * index,
        knob: savedLayers,
        seed: 1,
      })),
    })),
    figure4: [
      {
        task,
        metric: "accuracy",
        vanilla: reward(0.1),
        hardness: reward(0),
        atEqualSpeedup: [{ speedup: 2, vanilla: 0.89, hardness: 0.9 }],
      },
    ],
    failures: [{ part: `table 2, mnli${mark}`, message: `no such file${mark}` }],
  };
}

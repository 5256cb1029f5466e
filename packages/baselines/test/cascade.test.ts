/** @file The two-model cascade: its rule, its losses, its cost, and that passed-on rows alone reach the large model. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFlat, toBatch } from "@cee/backbone";
import { tinyBert } from "@cee/backbone/testing";
import type { ExitRecord, PhasePlan } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import {
  accepts,
  cascadeCost,
  cascadeOptions,
  cascadePlan,
  decideCascade,
  difficultyOf,
  difficultyPlan,
  loadCascade,
  marginLoss,
  openCascade,
  saveCascade,
} from "../src/index.js";
import { inventRows, movable, openEngine, stepOf, trainPlan, withoutKeyBias } from "./support.js";

const engine = await openEngine();

const short = { epochs: 1, batchSize: 4, learningRate: 0.01, warmup: 0 };

describe("the rule", () => {
  it("accepts above the threshold only, and nothing that is no number", () => {
    const even = Float32Array.of(1, 1);
    expect(accepts(even, 0.5)).toBe(false);
    expect(accepts(even, 0.49)).toBe(true);
    expect(accepts(Float32Array.of(0, Math.log(9)), 0.89)).toBe(true);
    expect(accepts(Float32Array.of(0, Math.log(9)), 0.91)).toBe(false);
    expect(accepts(Float32Array.of(1000, -1000), 0.99)).toBe(true);
    expect(accepts(Float32Array.of(Number.NaN, 1), 0)).toBe(false);
    // The highest probability is 1 at most, and a tie with the threshold is passed on.
    expect(accepts(Float32Array.of(1000, 0), 1)).toBe(false);
  });

  it("counts 2 layers, or 2 and 12", () => {
    const small = { logits: Float32Array.of(3, 0, 0.1, 0), layer: 2 };
    const large = { logits: Float32Array.of(0, 1, 0, 1), layer: 12 };
    const outcome = decideCascade(small, large, 2, 0.8);
    expect([...outcome.layers]).toEqual([2, 14]);
    expect([...outcome.predictions]).toEqual([0, 1]);
    expect(cascadeCost(outcome, 12)).toBeCloseTo(16 / 24, 12);
    expect(cascadeCost(decideCascade(small, large, 2, 1), 12)).toBeCloseTo(14 / 12, 12);
  });

  it("has the published options", () => {
    expect(cascadeOptions()).toMatchObject({
      depth: 2,
      margin: 0.5,
      weight: 0.5,
      seeds: 5,
      small: { epochs: 5, batchSize: 16, learningRate: 2e-5 },
    });
  });
});

describe("training", () => {
  it("calls hard what at least half of the small models get wrong", () => {
    const record = (answers: readonly number[]): ExitRecord => ({
      shape: { task: "classification", depth: 2, hidden: 4, classes: 2 },
      ids: ["a", "b", "c"],
      labels: Float32Array.of(1, 1, 1),
      // The last layer is always right: only the small model's counts.
      logits: Float32Array.from(answers.flatMap((answer) => [1 - answer, answer, 0, 1])),
      observed: new Float32Array(6),
      observedWidth: 1,
    });
    const votes = [record([1, 0, 0]), record([1, 1, 0])];
    expect([...difficultyOf(votes, 1)]).toEqual([
      ["a", 0],
      ["b", 1],
      ["c", 1],
    ]);
    expect(() => difficultyOf([], 1)).toThrow(/one record per seed/);
  });

  it("asks for a margin between easy and hard rows", () => {
    const sure = (probability: number) => [Math.log(probability / (1 - probability)), 0];
    const step = (hard: readonly number[]) => ({
      ...stepOf([[sure(0.9), sure(0.6), sure(0.8)]], [0, 0, 0]),
      side: tf.tensor2d([...hard], [3, 1]),
    });
    // Pairs of the easy row 0 with the hard rows 1 and 2.
    const expected = (0.5 - (0.9 - 0.6) + (0.5 - (0.9 - 0.8))) / 2;
    expect(marginLoss(step([0, 1, 1]), 1, 0.5).dataSync()[0]).toBeCloseTo(expected, 5);
    expect(marginLoss(step([1, 0, 0]), 1, 0.2).dataSync()[0]).toBeCloseTo(0.5 * (0.5 + 0.3), 5);
    expect(marginLoss(step([1, 1, 1]), 1, 0.5).dataSync()[0]).toBe(0);
  });

  it("trains the small model alone, and voters in orders of their own", async () => {
    const options = cascadeOptions({ small: short, difficulty: short, depth: 1 });
    const hard = new Map([["0", 1 as const]]);
    const small = await trainPlan(
      engine,
      (shape): PhasePlan => cascadePlan(shape, options, () => hard),
    );
    const parts = [
      "backbone.embeddings.",
      "backbone.encoder.layer.0.",
      "backbone.pooler.",
      "heads.1.",
    ];
    expect(withoutKeyBias(small.changed)).toEqual(movable(small.before, ...parts));
    const [one, two] = [1, 2].map((run) =>
      trainPlan(engine, (shape) => difficultyPlan(shape, options, run)),
    );
    const head = "heads.1.classifier.weight";
    expect(String((await one)?.params[head]?.data)).not.toBe(
      String((await two)?.params[head]?.data),
    );
  });

  it("refuses a small model that is not smaller", async () => {
    const options = cascadeOptions({ depth: 3 });
    await expect(
      trainPlan(engine, (shape) => cascadePlan(shape, options, () => new Map())),
    ).rejects.toThrow(/fewer layers than the large one's 3, got 3/);
  });
});

describe("the model", () => {
  const small = tinyBert({ depth: 2, hidden: 8, seed: 1 });
  const large = tinyBert({ depth: 3, hidden: 16, seed: 2 });
  const stages = [
    { model: small, params: small.params, layer: 2 },
    { model: large, params: large.params, layer: 3 },
  ] as const;

  it("gives what both models give alone, whatever the batch", async () => {
    const rows = inventRows().map((row) => ({ ...row, ids: row.ids.map((id) => id % 20) }));
    const flats = stages.map(({ model, params, layer }) => openFlat(engine, model, params, layer));
    const alone = await Promise.all(
      flats.map(async (flat) => {
        const all: number[] = [];
        for (const row of rows) all.push(...(await flat.logits(toBatch([row]))));
        return Float32Array.from(all);
      }),
    );
    const certain = alone[0] as Float32Array;
    const margins = rows.map((_, row) =>
      Math.abs((certain[2 * row] as number) - (certain[2 * row + 1] as number)),
    );
    const middle = [...margins].sort((a, b) => a - b)[6] as number;
    const threshold = 1 / (1 + Math.exp(-(middle - 1e-3)));
    const expected = decideCascade(
      { logits: certain, layer: 2 },
      { logits: alone[1] as Float32Array, layer: 3 },
      2,
      threshold,
    );
    expect(new Set(expected.layers)).toEqual(new Set([2, 5]));
    const cascade = openCascade(engine, ...stages, threshold);
    const together = await cascade.classify(toBatch(rows, { multiple: 8 }));
    expect([...together.layers]).toEqual([...expected.layers]);
    expect([...together.predictions]).toEqual([...expected.predictions]);
    together.logits.forEach((value, index) => {
      expect(value).toBeCloseTo(expected.logits[index] as number, 4);
    });
    for (const opened of [cascade, ...flats]) await opened.dispose();
  });

  it("is the same after loading, and a damaged folder is refused", async () => {
    const folder = await mkdtemp(join(tmpdir(), "cee-cascade-"));
    try {
      const options = cascadeOptions({ threshold: 0.7 });
      await saveCascade(folder, {
        small: { ...small, trainedHeads: [2] },
        large: { ...large, trainedHeads: [3] },
        options,
      });
      const loaded = await loadCascade(folder);
      expect(loaded.options).toEqual(options);
      expect(loaded.small.params).toEqual(small.params);
      expect(loaded.large.params).toEqual(large.params);
      const path = join(folder, "method.json");
      const text = await readFile(path, "utf8");
      await writeFile(path, text.replace('"cascade"', '"hashee"'));
      await expect(loadCascade(folder)).rejects.toThrow(/holds the method "hashee"/);
      await writeFile(path, text.replace('"margin": 0.5', '"margin": -1'));
      await expect(loadCascade(folder)).rejects.toThrow(/options that a cascade does not have/);
      // A save that stops half-way must not pass for the one before it.
      await writeFile(path, text);
      await rm(join(folder, "large"), { recursive: true });
      await writeFile(join(folder, "large"), "in the way");
      const again = saveCascade(folder, {
        small: { ...small, trainedHeads: [2] },
        large: { ...large, trainedHeads: [3] },
        options,
      });
      await expect(again).rejects.toThrow();
      await expect(loadCascade(folder)).rejects.toMatchObject({ code: "MISSING_FILE" });
      await expect(loadCascade(folder)).rejects.toThrow(/method\.json/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("refuses a regression", () => {
    const model = tinyBert({ regression: true });
    const stage = { model, params: model.params, layer: 1 };
    expect(() => openCascade(engine, stage, stage, 0.5)).toThrow(/a number has none/);
  });
});

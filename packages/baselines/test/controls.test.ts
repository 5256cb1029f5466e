/** @file The controls: oracle, random exits and the truncated model. */
import { createEngine, type Engine } from "@cee/engine";
import type { ExitRecord, PhasePlan } from "@cee/exit-policies";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  answersAt,
  evenShares,
  oracleExitLayers,
  randomExitLayers,
  shuffledExitLayers,
  truncatedPlan,
} from "../src/index.js";
import { movable, trainPlan, withoutKeyBias } from "./support.js";

/** A record of two classes from `[row][layer]` answers. */
function recordOf(
  answers: readonly (readonly number[])[],
  labels: readonly number[],
  task: "classification" | "regression" = "classification",
): ExitRecord {
  const depth = (answers[0] as readonly number[]).length;
  const logits = answers
    .flat()
    .flatMap((answer) => (task === "regression" ? [answer] : [1 - answer, answer]));
  return {
    shape: { task, depth, hidden: 4, classes: task === "regression" ? 1 : 2 },
    ids: labels.map((_, row) => `${row}`),
    labels: Float32Array.from(labels),
    logits: Float32Array.from(logits),
    observed: new Float32Array(labels.length * depth),
    observedWidth: 1,
  };
}

const meanOf = (values: ArrayLike<number>) =>
  Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
const rightOf = (record: ExitRecord, exits: ArrayLike<number>) =>
  answersAt(record, exits).filter((answer, row) => answer === record.labels[row]).length;

describe("the oracle", () => {
  const record = recordOf(
    [
      [0, 1, 0],
      [1, 1, 1],
      [0, 0, 1],
      [0, 0, 0],
    ],
    [1, 1, 1, 1],
  );

  it("leaves at the first layer that is right, and sends lost rows where it is told", () => {
    expect([...oracleExitLayers(record)]).toEqual([2, 1, 3, 3]);
    expect([...oracleExitLayers(record, { otherwise: "first" })]).toEqual([2, 1, 3, 1]);
    expect([...oracleExitLayers(record, { deepest: 2, otherwise: "first" })]).toEqual([2, 1, 1, 1]);
    expect([...answersAt(record, [2, 1, 3, 3])]).toEqual([1, 1, 1, 0]);
  });

  it("takes a number that is no farther off than the last layer's", () => {
    const values = recordOf(
      [
        [5, 3.5, 3],
        [1, 2, 4],
      ],
      [3.2, 4],
      "regression",
    );
    expect([...oracleExitLayers(values)]).toEqual([3, 3]);
    expect([...oracleExitLayers(recordOf([[3, 3.5, 9]], [3], "regression"))]).toEqual([1]);
  });

  it("refuses a layer that the model does not have", () => {
    expect(() => oracleExitLayers(record, { deepest: 4 })).toThrow(/from 1 to 3, got 4/);
  });

  it("is beaten by no exits of the same or a lower mean layer", () => {
    const cases = fc
      .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 12 }))
      .chain(([depth, rows]) =>
        fc.record({
          answers: fc.array(
            fc.array(fc.integer({ min: 0, max: 1 }), { minLength: depth, maxLength: depth }),
            { minLength: rows, maxLength: rows },
          ),
          exits: fc.array(fc.integer({ min: 1, max: depth }), { minLength: rows, maxLength: rows }),
        }),
      );
    fc.assert(
      fc.property(cases, ({ answers, exits }) => {
        const any = recordOf(
          answers,
          answers.map(() => 1),
        );
        for (let deepest = 1; deepest <= any.shape.depth; deepest += 1) {
          const bound = oracleExitLayers(any, { deepest, otherwise: "first" });
          if (meanOf(exits) <= meanOf(bound))
            expect(rightOf(any, exits)).toBeLessThanOrEqual(rightOf(any, bound));
        }
      }),
    );
  });
});

describe("random exits", () => {
  it("meet the mean to within half a row's layer, whatever it is", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 24 }),
        fc.integer({ min: 1, max: 300 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (depth, rows, share) => {
          const meanExitLayer = 1 + share * (depth - 1);
          const exits = randomExitLayers(rows, { depth, meanExitLayer, seed: 1 });
          expect(Math.abs(meanOf(exits) - meanExitLayer)).toBeLessThanOrEqual(0.5 / rows + 1e-6);
          expect(Math.min(...exits)).toBeGreaterThanOrEqual(1);
          expect(Math.max(...exits)).toBeLessThanOrEqual(depth);
        },
      ),
    );
  });

  it("are even in the middle, and the same for the same seed only", () => {
    for (const share of evenShares(4, 2.5)) expect(share).toBeCloseTo(0.25, 6);
    const at = (seed: number) =>
      randomExitLayers(40, { depth: 4, meanExitLayer: 2.5, seed }).join("");
    expect(at(1)).toBe(at(1));
    expect(at(1)).not.toBe(at(2));
  });

  it("keep a method's histogram when its own exits are shuffled", () => {
    const exits = [1, 1, 2, 3, 3, 3, 3, 2, 1, 1];
    const shuffled = shuffledExitLayers(exits, 3);
    expect([...shuffled].sort()).toEqual([...exits].sort());
    expect([...shuffled]).not.toEqual(exits);
  });

  it("refuse a mean that no exits have", () => {
    expect(() => randomExitLayers(4, { depth: 3, meanExitLayer: 3.1, seed: 1 })).toThrow(
      /from 1 to 3, got 3.1/,
    );
  });
});

describe("the truncated model", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await createEngine({ threads: 1 });
  });
  afterAll(() => engine.dispose());
  const short = { epochs: 1, batchSize: 4, learningRate: 0.01, warmup: 0 };

  it("trains the blocks up to its depth and the classifier there, and nothing else", async () => {
    const { before, changed, trained } = await trainPlan(
      engine,
      (shape): PhasePlan => truncatedPlan(shape, 2, short),
    );
    const parts = [
      "backbone.embeddings.",
      "backbone.encoder.layer.0.",
      "backbone.encoder.layer.1.",
      "backbone.pooler.",
      "heads.2.",
    ];
    expect(withoutKeyBias(changed)).toEqual(movable(before, ...parts));
    expect(trained.heads).toEqual([2]);
  });

  it("refuses a depth that the model does not have", async () => {
    await expect(trainPlan(engine, (shape) => truncatedPlan(shape, 4, short))).rejects.toThrow(
      /from 1 to 3, got 4/,
    );
  });
});

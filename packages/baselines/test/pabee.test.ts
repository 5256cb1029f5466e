/** @file PABEE's joint training and its rule, for classes and for numbers. */
import { conformance } from "@cee/exit-policies/testing";
import { describe, expect, it } from "vitest";
import { pabee } from "../src/index.js";
import {
  crossEntropy,
  exitsOf,
  lossOf,
  movable,
  openEngine,
  phasesOf,
  stepOf,
  train,
  withoutKeyBias,
} from "./support.js";

const engine = await openEngine();

const strategy = pabee.strategy({
  patience: 1,
  joint: { epochs: 1, batchSize: 4, learningRate: 0.01 },
});
const recipe = { strategy, head: pabee.head };

describe("conformance", () => {
  for (const check of conformance(pabee.strategy, {
    configurations: [[{ patience: 2 }], [{ patience: 1, tolerance: 0.5 }]],
    knobEnds: { slowest: 6, fastest: { value: 1, layer: 2 } },
    vectors: [
      ...[3, 6, 10, 11, 12, 12, 12].map((exitLayer, index) => ({
        name: `patience ${index + 1}`,
        options: { patience: index + 1 },
        observed: [1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        exitLayer,
      })),
      {
        name: "numbers agree with the layer before, not with the first of the run",
        options: { patience: 2, tolerance: 0.25 },
        task: "regression" as const,
        observed: [0, 0.5, 0.625, 0.75, 0.75, 0.75],
        exitLayer: 4,
      },
    ],
  }))
    it(check.name, check.run);
});

describe("training", () => {
  it("has the released schedule", () => {
    expect(phasesOf(pabee.strategy())).toMatchObject([
      { name: "joint", epochs: 5, batchSize: 32, learningRate: 2e-5, warmup: 0 },
    ]);
  });

  it("weighs a layer's loss by its number, and squares the error of a number", () => {
    const [phase] = phasesOf(strategy);
    const logits = [[[1, 0]], [[0, 2]], [[3, 0]]];
    const losses = logits.map(([row]) => crossEntropy(row as number[], 0)) as [
      number,
      number,
      number,
    ];
    expect(lossOf(phase, "weighted", stepOf(logits, [0]))).toBeCloseTo(
      (losses[0] + 2 * losses[1] + 3 * losses[2]) / 6,
      5,
    );
    const values = [
      [[1], [0]],
      [[2], [0]],
      [[3], [0]],
    ];
    // Errors of the first row 1, 0 and 1, of the second 0.
    expect(lossOf(phase, "weighted", stepOf(values, [2, 0], { task: "regression" }))).toBeCloseTo(
      (1 + 3) / 6 / 2,
      5,
    );
  });

  it.each([false, true])("moves everything (regression: %s)", async (regression) => {
    const { before, changed, params, model } = await train(engine, { ...recipe, regression });
    expect(withoutKeyBias(changed)).toEqual(movable(before, "backbone.", "heads."));

    const { exits } = await exitsOf(engine, { model, params }, strategy, [1, 2, 3]);
    for (const { live, replayed } of exits) expect(live).toEqual(replayed);
    expect(exits[0]?.live).toContain(2);
    expect(exits[0]?.live).not.toContain(1);
    expect(new Set(exits[2]?.live)).toEqual(new Set([3]));
  });
});

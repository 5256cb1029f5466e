/** @file PCEE-BERT's joint training and its rule. */
import { conformance } from "@cee/exit-policies/testing";
import { describe, expect, it } from "vitest";
import { pceeBert } from "../src/index.js";
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

const strategy = pceeBert.strategy({
  patience: 2,
  joint: { epochs: 1, batchSize: 4, learningRate: 0.01 },
});

describe("conformance", () => {
  for (const check of conformance(pceeBert.strategy, {
    configurations: [[], [{ threshold: 0.6, patience: 1 }]],
    shape: { depth: 8 },
    knobEnds: { slowest: 0 },
    vectors: [5, 6, 7].map((exitLayer, index) => ({
      name: `patience ${index + 1}`,
      options: { patience: index + 1, threshold: 0.25 },
      observed: [0.95, 0.9, 0.3, 0.6, 0.2, 0.15, 0.1, 0.05, 0.05, 0.04, 0.03, 0.02],
      exitLayer,
    })),
  }))
    it(check.name, check.run);
});

describe("training", () => {
  it("has the published schedule and ascending weights", () => {
    const [phase] = phasesOf(pceeBert.strategy());
    expect(phase).toMatchObject({ epochs: 15, batchSize: 16, learningRate: 2e-5, warmup: 0.06 });
    const logits = [[[1, 0]], [[0, 2]], [[3, 0]]];
    const expected = logits
      .map(([row], index) => (index + 1) * crossEntropy(row as number[], 1))
      .reduce((a, b) => a + b);
    expect(lossOf(phase, "ascending", stepOf(logits, [1]))).toBeCloseTo(expected / 6, 5);
  });

  it("moves everything, and the model's exits follow the threshold", async () => {
    const trained = await train(engine, { strategy, head: pceeBert.head });
    expect(withoutKeyBias(trained.changed)).toEqual(movable(trained.before, "backbone.", "heads."));
    const { exits } = await exitsOf(engine, trained, strategy, [0, 0.5, 1.01]);
    for (const { live, replayed } of exits) expect(live).toEqual(replayed);
    expect(new Set(exits[0]?.live)).toEqual(new Set([3]));
    expect(new Set(exits[2]?.live)).toEqual(new Set([2]));
  });
});

/** @file DeeBERT's two stages and its rule. */
import { conformance } from "@cee/exit-policies/testing";
import { describe, expect, it } from "vitest";
import { deebert } from "../src/index.js";
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

const short = { epochs: 1, batchSize: 4, learningRate: 0.01 };
const strategy = deebert.strategy({ final: short, highways: short });
const recipe = { strategy, head: deebert.head };

describe("conformance", () => {
  for (const check of conformance(deebert.strategy, {
    configurations: [[], [{ threshold: 0.4, final: short }]],
    knobEnds: { slowest: 0, fastest: { value: 0.7, layer: 1 } },
    vectors: [
      {
        name: "a tie continues",
        options: { threshold: 0.25 },
        observed: [0.5, 0.25, 0.1, 0],
        exitLayer: 3,
      },
    ],
  }))
    it(check.name, check.run);
});

describe("training", () => {
  it("has the published schedule", () => {
    const schedule = { epochs: 3, batchSize: 8, learningRate: 2e-5, warmup: 0 };
    expect(phasesOf(deebert.strategy())).toMatchObject([
      { name: "final", ...schedule },
      { name: "highways", ...schedule },
    ]);
    expect(phasesOf(deebert.strategy(), 1).map(({ name }) => name)).toEqual(["final"]);
  });

  it("takes the last loss in the first stage and the sum of the others in the second", () => {
    const logits = [[[1, 0]], [[0, 2]], [[3, 0]]];
    const [first, second] = phasesOf(strategy);
    const step = stepOf(logits, [1]);
    const [a, b, c] = logits.map(([row]) => crossEntropy(row as number[], 1)) as [
      number,
      number,
      number,
    ];
    expect(lossOf(first, "final", step)).toBeCloseTo(c, 5);
    expect(lossOf(second, "highways", step)).toBeCloseTo(a + b, 5);
  });

  it("moves the encoder and the final classifier first, the highways below it afterwards", async () => {
    const first = await train(engine, { ...recipe, phases: 1 });
    const encoder = ["backbone.embeddings.", "backbone.encoder."];
    expect(withoutKeyBias(first.changed)).toEqual(movable(first.before, ...encoder, "heads.3."));

    const both = await train(engine, recipe);
    const second = Object.keys(both.params).filter(
      (path) => String(both.params[path]?.data) !== String(first.params[path]?.data),
    );
    expect(second).toEqual(movable(both.before, "heads.1.", "heads.2."));
    expect(both.trained.heads).toEqual([1, 2, 3]);
  });

  it("gives a model that exits earlier at higher thresholds, live as in the record", async () => {
    const trained = await train(engine, recipe);
    const { exits, made } = await exitsOf(engine, trained, strategy, [0, 0.5, 0.7]);
    for (const { live, replayed } of exits) expect(live).toEqual(replayed);
    expect(made.ids).toHaveLength(12);
    expect(new Set(exits[0]?.live)).toEqual(new Set([3]));
    expect(new Set(exits[2]?.live)).toEqual(new Set([1]));
  });
});

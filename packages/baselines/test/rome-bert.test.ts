/** @file RomeBERT's losses, its gradient regularisation and its rule. */
import { conformance } from "@cee/exit-policies/testing";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { romeBert } from "../src/index.js";
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

const joint = { epochs: 1, batchSize: 4, learningRate: 0.01 };
const strategy = romeBert.strategy({ joint });

describe("conformance", () => {
  for (const check of conformance(romeBert.strategy, {
    configurations: [[], [{ threshold: 0.4, distillation: 0.5, yields: "early" }]],
    knobEnds: { slowest: 0, fastest: { value: 0.7, layer: 1 } },
  }))
    it(check.name, check.run);
});

describe("losses", () => {
  const logits = [
    [
      [1, 0],
      [0, 1],
    ],
    [
      [0, 2],
      [0.5, 0],
    ],
    [
      [3, 0],
      [0, 6],
    ],
  ];
  const labels = [1, 0];

  it("follow the published schedule, in one stage", () => {
    expect(phasesOf(romeBert.strategy())).toMatchObject([
      { name: "joint", epochs: 3, batchSize: 8, learningRate: 2e-5, warmup: 0 },
    ]);
    expect(Object.keys(phasesOf(romeBert.strategy(), 1)[0]?.losses ?? {})).toEqual(["final"]);
  });

  it("are the final one, and early ones that are mostly the distance from the final answer", () => {
    const soft = (row: readonly number[]) => {
      const powers = row.map((value) => Math.exp(value / 3));
      const total = powers.reduce((a, b) => a + b);
      return powers.map((value) => value / total);
    };
    let early = 0;
    for (const layer of [0, 1])
      for (const row of [0, 1]) {
        const student = soft(logits[layer]?.[row] as number[]);
        const divergence = soft(logits[2]?.[row] as number[])
          .map((p, k) => p * Math.log(p / (student[k] as number)))
          .reduce((a, b) => a + b);
        const own = crossEntropy(logits[layer]?.[row] as number[], labels[row] as number);
        early += (0.1 * own) / 2 + (0.9 * 9 * divergence) / 4;
      }
    const [phase] = phasesOf(strategy);
    const step = stepOf(logits, labels);
    expect(lossOf(phase, "early", step)).toBeCloseTo(early, 4);
    const final = (crossEntropy([3, 0], 1) + crossEntropy([0, 6], 0)) / 2;
    expect(lossOf(phase, "final", step)).toBeCloseTo(final, 5);
  });
});

describe("gradient regularisation", () => {
  const matrix = "backbone.encoder.layer.0.output.dense.weight";
  const agreeing = "backbone.encoder.layer.1.output.dense.weight";
  const free = [
    "backbone.encoder.layer.0.output.dense.bias",
    "backbone.encoder.layer.0.output.LayerNorm.weight",
    "backbone.encoder.layer.2.output.dense.weight",
    "heads.3.classifier.weight",
  ];
  const combined = (yields: "early" | "final", final: number[], early: number[]) =>
    tf.tidy(() => {
      const [phase] = phasesOf(romeBert.strategy({ yields }));
      const paths = [matrix, ...free];
      const all = (values: number[]) =>
        Object.fromEntries(paths.map((path) => [path, tf.tensor1d(values)]));
      const result = phase?.combine?.({
        final: { ...all(final), [agreeing]: tf.tensor1d([1, 0]) },
        early: { ...all(early), [agreeing]: tf.tensor1d([1, 1]) },
      });
      return Object.fromEntries(
        Object.entries(result ?? {}).map(([path, tensor]) => [path, [...tensor.dataSync()]]),
      );
    });

  it("takes from the loss that yields what is opposed to the other, in matrices below the last block", () => {
    // (-1, 2) on (2, 0): its part along (2, 0) is (-1, 0).
    const first = combined("final", [-1, 2], [2, 0]);
    expect(first[matrix]).toBeAllclose([2, 2]);
    for (const path of free) expect(first[path], path).toBeAllclose([1, 2]);
    expect(first[agreeing]).toBeAllclose([2, 1]);
    // (2, 0) on (-1, 2): its part along it is -2 / 5 (-1, 2).
    expect(combined("early", [-1, 2], [2, 0])[matrix]).toBeAllclose([-1 + 1.6, 2 + 0.8]);
  });

  it("leaves the other gradient whole where one is zero", () => {
    expect(combined("final", [-1, 2], [0, 0])[matrix]).toBeAllclose([-1, 2]);
  });
});

describe("training", () => {
  it("moves everything but the backbone's pooler, and exits follow the threshold", async () => {
    const trained = await train(engine, { strategy, head: romeBert.head });
    expect(withoutKeyBias(trained.changed)).toEqual(
      movable(trained.before, "backbone.embeddings.", "backbone.encoder.", "heads."),
    );
    const { exits } = await exitsOf(engine, trained, strategy, [0, 0.5, 0.7]);
    for (const { live, replayed } of exits) expect(live).toEqual(replayed);
    expect(new Set(exits[0]?.live)).toEqual(new Set([3]));
    expect(new Set(exits[2]?.live)).toEqual(new Set([1]));
  });
});

/** @file The right tool for the job: its mixture over layers, its training and its rule. */
import type { ExitHeadInput } from "@cee/exit-policies";
import { conformance } from "@cee/exit-policies/testing";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { rightTool } from "../src/index.js";
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

const strategy = rightTool.strategy({ joint: { epochs: 1, batchSize: 4, learningRate: 0.01 } });
const { head } = rightTool;

describe("conformance", () => {
  for (const check of conformance(rightTool.strategy, {
    configurations: [[], [{ threshold: 0.7, temperatures: [2, 1.5, 1, 0.5, 0.5, 0.5] }]],
    knobEnds: { slowest: 1, fastest: { value: 0, layer: 1 } },
    vectors: [
      {
        name: "a tie exits",
        options: { threshold: 0.5, temperatures: [] },
        observed: [
          [0, 0],
          [0, -9],
          [0, -9],
        ],
        exitLayer: 1,
      },
      {
        name: "a temperature holds a row back",
        options: { threshold: 0.8, temperatures: [100, 1] },
        observed: [
          [0, -9],
          [0, -9],
          [0, -9],
        ],
        exitLayer: 2,
      },
    ],
  }))
    it(check.name, check.run);
});

describe("mixture", () => {
  it("weighs the layers so far by a vector of length 1 and hands them on", () => {
    tf.tidy(() => {
      const input = (layer: number, pooled: number[]) =>
        ({
          layer,
          shape: { task: "classification", depth: 3, hidden: 2, classes: 2 },
          pooled: () => tf.tensor2d([pooled]),
          dropout: (x: tf.Tensor) => x,
        }) as unknown as ExitHeadInput;
      const classifier = {
        "classifier.weight": tf.tensor2d([
          [1, 0],
          [0, 2],
        ]),
        "classifier.bias": tf.tensor1d([0, 1]),
      };
      const first = head.apply(classifier, input(1, [1, 2]), undefined);
      expect(first.logits.dataSync()).toBeAllclose([1, 5]);
      const weight = tf.tensor1d([3, 4]);
      const second = head.apply(
        { ...classifier, "mixture.weight": weight },
        input(2, [3, -1]),
        first.carry,
      );
      // 0.6 (1, 2) + 0.8 (3, -1)
      expect(second.pooled.dataSync()).toBeAllclose([3, 0.4]);
      expect(second.logits.dataSync()).toBeAllclose([3, 1.8]);
      expect((second.carry as tf.Tensor).dataSync()).toBeAllclose([1, 2, 3, -1]);
      const last = head.apply(
        { ...classifier, "mixture.weight": tf.tensor1d([0, 0, -7]) },
        input(3, [1, 1]),
        second.carry,
      );
      expect(last.pooled.dataSync()).toBeAllclose([-1, -1]);
      expect(last.carry).toBeUndefined();
    });
  });
});

describe("training", () => {
  it("has the published schedule and the sum of the losses", () => {
    const [phase] = phasesOf(rightTool.strategy());
    expect(phase).toMatchObject({ epochs: 2, batchSize: 72, learningRate: 3e-5, warmup: 0 });
    const logits = [[[1, 0]], [[0, 2]], [[3, 0]]];
    const sum = logits.map(([row]) => crossEntropy(row as number[], 1)).reduce((a, b) => a + b);
    expect(lossOf(phase, "sum", stepOf(logits, [1]))).toBeCloseTo(sum, 5);
  });

  it("moves everything, the mixtures too, each shared state reached from all later exits", async () => {
    const trained = await train(engine, { strategy, head });
    expect(withoutKeyBias(trained.changed)).toEqual(movable(trained.before, "backbone.", "heads."));
    expect(trained.changed).toContain("heads.3.mixture.weight");

    const { exits, made } = await exitsOf(engine, trained, strategy, [0, 0.6, 1]);
    for (const { live, replayed } of exits) expect(live).toEqual(replayed);
    expect(new Set(exits[0]?.live)).toEqual(new Set([1]));
    expect(new Set(exits[2]?.live)).toEqual(new Set([3]));

    const calibrated = strategy.definition.calibrate?.(made, strategy.options);
    expect(calibrated?.temperatures).toHaveLength(3);
  });
});

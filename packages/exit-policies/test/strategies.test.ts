import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import {
  classify,
  type ExitRecord,
  type ExitStrategy,
  entropy,
  patience,
  pcee,
  replay,
  rightTool,
  toObserver,
} from "../src/index.js";
import { entropyOf } from "../src/strategies/signals.js";
import { fixedExits } from "../src/testing/index.js";
import { logitsOfLabels, random } from "./fixtures.js";

/** One row whose observations are given. */
function observedRow(values: readonly number[], task: "classification" | "regression"): ExitRecord {
  const depth = values.length;
  const classes = task === "regression" ? 1 : 2;
  return {
    shape: { task, depth, hidden: 1, classes },
    ids: ["0"],
    labels: new Float32Array(1),
    logits: new Float32Array(depth * classes),
    observed: Float32Array.from(values),
    observedWidth: 1,
  };
}

const exitOf = (
  values: readonly number[],
  strategy: ExitStrategy,
  task: "classification" | "regression" = "classification",
) => replay(observedRow(values, task), strategy).exitLayers[0];

describe("entropy", () => {
  it("is measured in nats", () => {
    const logits = tf.tensor2d([
      [0, 0],
      [Math.log(0.9), Math.log(0.1)],
      [Math.log(0.99), Math.log(0.01)],
    ]);
    expect(entropyOf(logits).dataSync()).toBeAllclose([Math.LN2, 0.325083, 0.056002], {
      atol: 1e-6,
    });
    const three = tf.tensor2d([[Math.log(0.8), Math.log(0.1), Math.log(0.1)]]);
    expect(entropyOf(three).dataSync()).toBeAllclose([0.639032], { atol: 1e-6 });
    expect(pcee.definition.observe({ logits }, {} as never)).toBeInstanceOf(tf.Tensor);
    const normalised = pcee.definition.observe({ logits }, {} as never) as tf.Tensor1D;
    expect(normalised.dataSync()).toBeAllclose([1, 0.468996, 0.080793], { atol: 1e-6 });
  });

  it("stays a number where probabilities underflow and exponentials overflow", () => {
    const logits = tf.tensor2d([
      [60, -60],
      [86, 86],
      [1e4, -1e4],
      [3e38, -3e38],
    ]);
    const values = [...entropyOf(logits).dataSync()];
    expect(values[0]).toBeLessThan(1e-30);
    expect(values[1]).toBeCloseTo(Math.LN2, 6);
    expect(values[2]).toBe(0);
  });

  it("exits strictly below the threshold, which is compared in float32", () => {
    const value = Math.fround(0.3);
    expect(exitOf([0.5, value, 0.1, 0.5], entropy({ threshold: 0.3 }))).toBe(3);
    expect(exitOf([0.5, 0.2999, 0.1, 0.5], entropy({ threshold: 0.3 }))).toBe(2);
    expect(exitOf([0, 0, 0, 0], entropy({ threshold: 0 }))).toBe(4);
    expect(exitOf([Math.LN2, 0, 0, 0], entropy({ threshold: 0.7 }))).toBe(1);
  });

  it("keeps NaN in the batch by itself, without a host", () => {
    const site = { layer: 1, depth: 2, task: "classification", position: 0 } as const;
    const verdict = entropy.definition.decide(
      new Float32Array([Number.NaN]),
      {},
      {
        site,
        options: { threshold: 0.7 },
      },
    );
    expect(verdict.exit).toBe(false);
  });
});

describe("patience", () => {
  const labels = [1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0];

  it.each([
    [1, 3, 0],
    [2, 6, 1],
    [3, 10, 0],
    [4, 11, 0],
    [5, 12, 0],
    [6, 12, 0],
    [7, 12, 0],
    [12, 12, 0],
  ])("of %i leaves at layer %i with answer %i", async (k, layer, answer) => {
    const strategy = patience({ patience: k });
    const runner = await fixedExits(logitsOfLabels(labels)).open(toObserver(strategy));
    const done = await classify(runner, [0], strategy);
    expect([done.exitLayers[0], done.predictions[0]]).toEqual([layer, answer]);
    expect(exitOf(labels, strategy)).toBe(layer);
  });

  it("counts agreements, so it cannot leave at layer k", () => {
    for (const k of [1, 2, 3, 4])
      expect(exitOf([0, 0, 0, 0, 0, 0], patience({ patience: k }))).toBe(k + 1);
  });

  it("compares regression values with the layer before, strictly", () => {
    const options = { patience: 2, tolerance: 0.25 };
    // The first two differences equal the tolerance; then each step is small, though the sum is not.
    expect(exitOf([0, 0.25, 0.5, 0.7, 0.9, 1.1], patience(options), "regression")).toBe(5);
    expect(exitOf([0, 0, 0, 0], patience({ ...options, tolerance: 0 }), "regression")).toBe(4);
    // A first value near the start state's 0 agrees with nothing.
    expect(exitOf([0, 3, 3.1, 3.2], patience({ ...options, patience: 1 }), "regression")).toBe(3);
  });

  it("breaks equal logits towards the lowest class", async () => {
    const strategy = patience({ patience: 1 });
    const fixture = [
      [
        [1, 1],
        [1, 0],
        [0, 1],
      ],
    ];
    const runner = await fixedExits(fixture).open(toObserver(strategy));
    expect((await classify(runner, [0], strategy)).exitLayers[0]).toBe(2);
  });
});

describe("pcee", () => {
  const values = [0.95, 0.9, 0.3, 0.6, 0.2, 0.15, 0.1, 0.05, 0.05, 0.04, 0.03, 0.02];

  it.each([
    [1, 5],
    [2, 6],
    [3, 7],
    [8, 12],
    [9, 12],
  ])("with patience %i leaves at layer %i", (k, layer) => {
    expect(exitOf(values, pcee({ threshold: 0.25, patience: k }))).toBe(layer);
  });

  it("starts again at a value equal to the threshold", () => {
    expect(exitOf([0.1, 0.25, 0.1, 0.1, 1], pcee({ threshold: 0.25, patience: 2 }))).toBe(4);
  });

  it("never exits with a single class", async () => {
    const strategy = pcee({ threshold: 2, patience: 1 });
    const runner = await fixedExits([[[1], [2], [3]]]).open(toObserver(strategy));
    const done = await classify(runner, [0], strategy);
    expect(done.exitLayers[0]).toBe(3);
    expect(done.nonFinite).toBe(3);
  });
});

describe("right-tool", () => {
  const fixture = [
    [
      [0, 0],
      [1, 0],
      [3, 0],
      [5, 0],
    ],
  ];
  const exitAt = async (strategy: ExitStrategy) => {
    const runner = await fixedExits(fixture).open(toObserver(strategy));
    return (await classify(runner, [0], strategy)).exitLayers[0];
  };

  it("exits at a probability equal to the threshold", async () => {
    expect(await exitAt(rightTool({ threshold: 0.5 }))).toBe(1);
    expect(await exitAt(rightTool({ threshold: 0.5 + 1e-6 }))).toBe(2);
    expect(await exitAt(rightTool({ threshold: 0 }))).toBe(1);
    expect(await exitAt(rightTool({ threshold: 1 }))).toBe(4);
  });

  it("divides each exit's logits by its temperature", async () => {
    // softmax([3, 0])[0] = 0.9526; at T = 3 it is softmax([1, 0])[0] = 0.7311.
    expect(await exitAt(rightTool({ threshold: 0.95 }))).toBe(3);
    expect(await exitAt(rightTool({ threshold: 0.95, temperatures: [1, 1, 3] }))).toBe(4);
    expect(await exitAt(rightTool({ threshold: 0.95, temperatures: [1, 0.3] }))).toBe(2);
  });

  it("finds the temperature that the logits were scaled by", () => {
    const next = random(5);
    const rows = 4000;
    const scales = [1, 3, 0.5];
    const logits = new Float32Array(rows * 3 * 2);
    const labels = new Float32Array(rows);
    for (let row = 0; row < rows; row += 1) {
      const z = 4 * next() - 2;
      labels[row] = next() < 1 / (1 + Math.exp(-z)) ? 1 : 0;
      scales.forEach((scale, index) => {
        logits[(row * 3 + index) * 2 + 1] = z * scale;
      });
    }
    const record: ExitRecord = {
      shape: { task: "classification", depth: 3, hidden: 1, classes: 2 },
      ids: Array.from(labels, (_, row) => String(row)),
      labels,
      logits,
      observed: logits,
      observedWidth: 2,
    };
    const { temperatures } = rightTool.definition.calibrate?.(record, {
      threshold: 0.9,
      temperatures: [],
    }) ?? { temperatures: [] };
    const [first = 0, second = 0, third = 0] = temperatures ?? [];
    // Scaled logits have scaled temperatures exactly; the first is 1 up to the sampling error of 4,000 labels.
    expect(first).toBeGreaterThan(0.9);
    expect(first).toBeLessThan(1.1);
    expect([second / first, third / first]).toBeAllclose([3, 0.5], { rtol: 1e-4 });
  });
});

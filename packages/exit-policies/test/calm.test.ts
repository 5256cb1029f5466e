/** @file CALM's and FREE's rules: numbers of the papers, ties, NaN. */
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { calm, calmState, calmThreshold } from "../src/strategies/calm.js";
import { shallowDeep } from "../src/strategies/shallow-deep.js";
import type { Observation } from "../src/strategy.js";

beforeAll(() => tf.setBackend("cpu"));

const site = { layer: 2, depth: 4, task: "generation", position: 0 } as const;

describe("the falling threshold", () => {
  it.each([
    [0, 0.91, 0.9],
    [10, 0.8831616, 0.8758454],
    [64, 0.8235335, 0.8221802],
    [128, 0.8118316, 0.8116484],
  ])("at position %i is %d as in the paper, %d as in the code", (position, paper, code) => {
    const options = { threshold: 0.9, temperature: 4, maxLength: 128 };
    expect(calmThreshold({ ...options, decay: "paper" }, position)).toBeCloseTo(paper, 6);
    expect(calmThreshold({ ...options, decay: "code" }, position)).toBeCloseTo(code, 6);
    expect(calmThreshold({ ...options, decay: "none" }, position)).toBe(0.9);
  });

  it("stays within 0 and 1 in the paper's form", () => {
    const options = { threshold: 1.2, temperature: 4, maxLength: 8, decay: "paper" as const };
    expect(calmThreshold(options, 0)).toBe(1);
  });
});

describe("softmax response", () => {
  it("is the difference of the two likeliest, 0 where they are level", () => {
    const probs = tf.tensor2d([
      [0.1, 0.7, 0.2],
      [0.4, 0.2, 0.4],
    ]);
    const observed = calm.definition.observe({ probs }, {
      site,
      params: {},
      options: calm().options,
      carry: undefined,
    } as never);
    expect((observed as tf.Tensor).dataSync()).toBeAllclose([0.5, 0], { rtol: 1e-6, atol: 1e-6 });
  });

  it("leaves at equality, FREE's rule above it; NaN never leaves", () => {
    const at = (value: number) => Float32Array.of(value);
    const rule = calm({ threshold: 0.5, decay: "none" });
    const free = shallowDeep({ layer: 2, threshold: 0.5 });
    const exits = (strategy: typeof rule, value: number, layer = 2) =>
      strategy.definition.decide(
        at(value),
        {},
        {
          site: { ...site, layer },
          options: strategy.options,
        },
      ).exit;
    expect([0.49, 0.5, 0.51, Number.NaN].map((value) => exits(rule, value))).toEqual([
      false,
      true,
      true,
      false,
    ]);
    expect([0.49, 0.5, 0.51, Number.NaN].map((value) => exits(free, value))).toEqual([
      false,
      false,
      true,
      false,
    ]);
    expect(exits(free, 0.9, 3)).toBe(false);
    expect(exits(calm({ threshold: 0, decay: "none", minLayer: 3 }), 1)).toBe(false);
  });
});

describe("state saturation", () => {
  const observe = (rows: number[][], carry: number[][] | undefined): Observation =>
    calmState.definition.observe(
      { hidden: tf.tensor2d(rows), pooled: tf.zeros([rows.length, 2]) as tf.Tensor2D },
      {
        site,
        params: {},
        options: calmState().options,
        carry: carry && tf.tensor2d(carry),
      } as never,
    );

  it("is the cosine with the state before, 0 for a state without direction", () => {
    const rows = [
      [3, 4],
      [1, 0],
      [0, 0],
    ];
    const { values, carry } = observe(rows, [
      [6, 8],
      [0, 5],
      [1, 1],
    ]) as { values: tf.Tensor; carry: tf.Tensor };
    expect(values.dataSync()).toBeAllclose([1, 0, 0], { rtol: 1e-6, atol: 1e-6 });
    expect(carry.arraySync()).toEqual(rows);
  });

  it("has nothing to compare with at the first exit, which no threshold lets go", () => {
    const { values } = observe([[1, 2]], undefined) as { values: tf.Tensor };
    const rule = calmState({ threshold: 0, decay: "none" });
    const observed = values.dataSync() as Float32Array;
    expect(rule.definition.decide(observed, {}, { site, options: rule.options }).exit).toBe(false);
  });
});

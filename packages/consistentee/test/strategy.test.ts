/** @file ConsistentEE as a strategy. */
import { ExitStrategyError, replay, withOptions } from "@cee/exit-policies";
import { conformance } from "@cee/exit-policies/testing";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import {
  consistentEE,
  consistentEEDecoder,
  policyLogit,
  policyParams,
  resolveOptions,
} from "../src/index.js";
import { graded, shape } from "./support.js";

describe("conformance", () => {
  for (const check of conformance(consistentEE, {
    configurations: [[], [{ preset: "paper", alpha: 0.1, reward: "vanilla" }]],
  }))
    it(check.name, check.run);
});

describe("conformance of the rule for decoders", () => {
  for (const check of conformance(consistentEEDecoder, { configurations: [[], [{ width: 4 }]] }))
    it(check.name, check.run);
});

describe("rule", () => {
  const { record } = graded(3, 1);
  const observed = new Float32Array(18).fill(-1);
  observed.set([0, 1e-6], 0); // Exactly even odds stay; a little more exits.
  observed.set([2, 2], 6);
  observed.fill(Number.NaN, 12, 14);

  it("exits where p is above one half, and at the last layer otherwise", () => {
    const { exitLayers, nonFinite } = replay({ ...record, observed }, consistentEE());
    expect([...exitLayers]).toEqual([2, 1, 6]);
    expect(nonFinite).toBeGreaterThan(0);
  });

  it("exits nobody at threshold 1 and everybody with a finite logit at threshold 0", () => {
    const at = (threshold: number) => [
      ...replay({ ...record, observed }, withOptions(consistentEE(), { threshold })).exitLayers,
    ];
    expect(at(1)).toEqual([6, 6, 6]);
    expect(at(0)).toEqual([1, 1, 3]);
    // The logit of p = 0.85 is 1.73, of p = 0.9 it is 2.2.
    expect(at(0.85)[1]).toBe(1);
    expect(at(0.9)[1]).toBe(6);
  });

  it("has policies below the last layer only, with weights of deviation 0.02", () => {
    const params = policyParams(shape, 32, 11);
    expect(Object.keys(params)).toHaveLength(4 * (shape.depth - 1));
    expect(Object.keys(params).some((name) => name.startsWith(`policy.${shape.depth}.`))).toBe(
      false,
    );
    const weights = Object.entries(params).flatMap(([name, { data }]) =>
      name.endsWith("hidden.weight") ? [...data] : [],
    );
    const deviation = Math.sqrt(weights.reduce((sum, w) => sum + w * w, 0) / weights.length);
    expect(deviation).toBeGreaterThan(0.018);
    expect(deviation).toBeLessThan(0.022);
    expect(policyParams({ ...shape, depth: 1 }, 32, 11)).toEqual({});
  });

  it("observes the perceptron worked by hand, with the erf form of GELU", () => {
    const logit = tf.tidy(() =>
      policyLogit(
        {
          "policy.2.hidden.weight": tf.tensor2d([
            [1, 0],
            [0, -2],
          ]),
          "policy.2.hidden.bias": tf.tensor1d([0, 0.5]),
          "policy.2.output.weight": tf.tensor2d([[3, 1]]),
          "policy.2.output.bias": tf.tensor1d([-0.25]),
        },
        2,
        tf.tensor2d([[1, -0.75]]),
      ).dataSync(),
    );
    // GELU(1) = 0.8413447, GELU(2) = 1.9544997.
    expect(logit).toBeAllclose([3 * 0.8413447 + 1.9544997 - 0.25], { rtol: 1e-5 });
  });
});

describe("options", () => {
  it("come from the preset unless given", () => {
    expect(consistentEE({ preset: "paper" }).options).toMatchObject({
      objective: "sampled",
      samples: 8,
      baseline: "group",
      initialise: { epochs: 5, batchSize: 16, learningRate: 1e-5, warmup: 0 },
      policy: { epochs: 2, batchSize: 32, learningRate: 3e-4 },
      task: { epochs: 2, batchSize: 32, learningRate: 3e-5 },
    });
    const own = consistentEE({ alpha: 0, policy: { epochs: 3 } }).options;
    expect(own).toMatchObject({
      alpha: 0,
      objective: "exact",
      policy: { epochs: 3, batchSize: 256 },
    });
  });

  it("keep their values when they are validated again", () => {
    const options = resolveOptions({ preset: "paper", task: { learningRate: 1e-4 } });
    expect(resolveOptions(options)).toEqual(options);
  });

  it("refuse what cannot work", () => {
    for (const options of [
      { samples: 1 },
      { alpha: -1 },
      { threshold: 1.5 },
      { reward: "other" },
      { policy: { epoch: 3 } },
      { alhpa: 0.1 },
    ])
      expect(() => consistentEE(options as never)).toThrow(ExitStrategyError);
    expect(consistentEE({ samples: 1, baseline: "none" }).options.samples).toBe(1);
  });
});

/** @file What Zero Time Waste's ensemble answers, and CAT's calibration. */
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { conformal, type ExitRecord, replay, zeroTimeWaste } from "../src/index.js";

describe("Zero Time Waste's rule", () => {
  it("answers with the weighted geometric mean of the exits so far", () => {
    const site = { layer: 2, depth: 3, task: "classification" } as const;
    const first = tf.log(tf.tensor2d([[0.9, 0.1]])) as tf.Tensor2D;
    const logits = tf.log(tf.tensor2d([[0.2, 0.8]])) as tf.Tensor2D;
    const params = {
      "ensemble.2.weight": tf.tensor1d([Math.log(2), Math.log(1)]),
      "ensemble.2.bias": tf.tensor1d([0, 0.1]),
    };
    const seen = zeroTimeWaste.definition.observe({ logits }, {
      site,
      params,
      carry: [first],
      options: {},
    } as never) as { values: tf.Tensor1D; logits: tf.Tensor2D };
    const raw = [
      (2 * Math.log(0.9) + Math.log(0.2)) / 2,
      (2 * Math.log(0.1) + Math.log(0.8)) / 2 + 0.1,
    ] as const;
    expect(seen.logits.dataSync()).toBeAllclose(raw, { atol: 1e-6 });
    const highest = 1 / (1 + Math.exp(raw[1] - raw[0]));
    expect(seen.values.dataSync()).toBeAllclose([highest], { atol: 1e-6 });
  });
});

describe("CAT's rule", () => {
  it("calibrates on the highest score among the layers that disagree", () => {
    const record: ExitRecord = {
      shape: { task: "regression", depth: 3, hidden: 1, classes: 1 },
      ids: ["a", "b", "c"],
      labels: new Float32Array(3),
      // Values by layer: a is off by more than 0.5 at layers 1 and 2, b at layer 1, c nowhere.
      logits: Float32Array.from([0, 3, 2, 1, 2, 2, 2, 2.5, 2]),
      observed: Float32Array.from([0.25, 0.75, 1, 0.5, 0.99, 1, 0.99, 0.99, 1]),
      observedWidth: 1,
    };
    expect(conformal.definition.calibrate?.(record, {} as never)).toEqual({ scores: [0.5, 0.75] });
  });

  it("keeps the share of rows that answer otherwise below epsilon", () => {
    // The score says nothing about agreement: the worst case that the guarantee must hold for.
    const depth = 4;
    const make = (count: number, start: number): ExitRecord => {
      let state = start;
      const next = () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return state / 2 ** 32;
      };
      return {
        shape: { task: "regression", depth, hidden: 1, classes: 1 },
        ids: Array.from({ length: count }, (_, row) => `${row}`),
        labels: new Float32Array(count),
        logits: Float32Array.from({ length: count * depth }, (_, index) =>
          index % depth === depth - 1 ? 0 : Math.round(next()),
        ),
        observed: Float32Array.from({ length: count * depth }, next),
        observedWidth: 1,
      };
    };
    let broken = 0;
    const epsilon = 0.2;
    const trials = 40;
    for (let trial = 0; trial < trials; trial += 1) {
      const calibrated = conformal.definition.calibrate?.(make(80, trial), {} as never) ?? {};
      const test = make(200, 1000 + trial);
      const outcome = replay(test, conformal({ ...calibrated, epsilon }));
      broken += outcome.predictions.filter((value) => Math.abs(value) > 0.5).length / 200;
    }
    expect(broken / trials).toBeLessThan(epsilon);
    expect(broken).toBeGreaterThan(0);
  });
});

/** @file BERxiT's alternating training, its module and its rule, for classes and for numbers. */
import { conformance } from "@cee/exit-policies/testing";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { berxit } from "../src/index.js";
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

const settings = { epochs: 1, batchSize: 4, learningRate: 0.01 };
const strategy = berxit.strategy({ alternating: settings });
const { head } = berxit;
const encoder = ["backbone.embeddings.", "backbone.encoder."];

describe("conformance", () => {
  for (const check of conformance(berxit.strategy, {
    configurations: [[], [{ threshold: 0.2 }]],
    knobEnds: { slowest: 0, fastest: { value: 1, layer: 1 } },
    vectors: [
      {
        name: "uncertainty has to be below the threshold, and a tie continues",
        options: { threshold: 0.5 },
        observed: [0.9, 0.5, 0.49, 0.1],
        exitLayer: 3,
      },
      {
        name: "the last layer answers without its module",
        options: { threshold: 0.1 },
        observed: [0.9, 0.9, 0.9, 0.9],
        exitLayer: 4,
      },
    ],
  }))
    it(check.name, check.run);
});

describe("training", () => {
  const [phase] = phasesOf(strategy);
  const params = { "lte.weight": tf.tensor2d([[1, -1]]), "lte.bias": tf.tensor1d([0.5]) };
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

  it("has the published schedule, and starts with the final loss", () => {
    const [published] = phasesOf(berxit.strategy());
    expect(published).toMatchObject({ epochs: 3, batchSize: 8, learningRate: 2e-5, warmup: 0 });
    // The step counts, not the step of the epoch.
    const picks = [
      [0, 0],
      [1, 1],
      [2, 2],
      [3, 0],
    ].map(([step, inEpoch]) => phase?.pick?.(step as number, inEpoch as number));
    expect(picks).toEqual(["final", "all", "final", "all"]);
  });

  it("adds to either loss how far the uncertainty is from being wrong", () => {
    const logits = [[[1, 0]], [[0, 2]], [[3, 0]]];
    const pooled = [[[0, 0]], [[1, 0]], [[0, 2]]];
    // Layers 1 and 3 say class 0 and are wrong.
    const lte = ((sigmoid(0.5) - 1) ** 2 + (sigmoid(1.5) - 0) ** 2 + (sigmoid(-1.5) - 1) ** 2) / 3;
    const losses = logits.map(([row]) => crossEntropy(row as number[], 1));
    const step = stepOf(logits, [1], { params, pooled });
    expect(lossOf(phase, "final", step)).toBeCloseTo((losses[2] as number) + lte, 5);
    expect(lossOf(phase, "all", step)).toBeCloseTo(losses.reduce((a, b) => a + b) + lte, 5);
  });

  it("calls a number as wrong as tanh of its error", () => {
    const step = stepOf([[[1]], [[2]], [[2.5]]], [2], {
      task: "regression",
      params,
      pooled: [[[0, 0]], [[0, 0]], [[0, 0]]],
    });
    const targets = [Math.tanh(1), 0, Math.tanh(0.5)];
    const lte = targets.reduce((sum, u) => sum + (sigmoid(0.5) - u) ** 2, 0) / 3;
    expect(lossOf(phase, "final", step)).toBeCloseTo(0.25 + lte, 5);
  });

  it("lets no gradient into the targets, and lets it into the pooled vectors", () => {
    const logits = [[[1, 0]], [[0, 2]], [[3, 0]]];
    const step = stepOf(logits, [1], { params, pooled: logits });
    const gradient = (layer: number, signal: "logits" | "pooled") =>
      tf.tidy(() => {
        const own = (value: tf.Tensor) =>
          step.exits.map((exit, index) =>
            index === layer - 1 ? { ...exit, [signal]: value } : exit,
          );
        const at = step.exits[layer - 1]?.[signal] as tf.Tensor;
        // The anchor keeps a loss without a gradient askable.
        return [
          ...tf
            .grad((value: tf.Tensor) =>
              tf.add(
                phase?.losses.final?.({ ...step, exits: own(value) }) as tf.Scalar,
                tf.mul(tf.sum(value), 0),
              ),
            )(at)
            .dataSync(),
        ];
      });
    expect(gradient(1, "logits").every((value) => value === 0)).toBe(true);
    expect(gradient(1, "pooled").every((value) => value !== 0)).toBe(true);
  });

  it.each([false, true])(
    "moves everything but the backbone's pooler (regression: %s)",
    async (regression) => {
      const trained = await train(engine, { strategy, head, regression });
      expect(withoutKeyBias(trained.changed)).toEqual(
        movable(trained.before, ...encoder, "heads.", "strategy."),
      );
      const { exits } = await exitsOf(engine, trained, strategy, [0, 0.5, 1]);
      for (const { live, replayed } of exits) expect(live).toEqual(replayed);
      expect(new Set(exits[0]?.live)).toEqual(new Set([3]));
      expect(new Set(exits[2]?.live)).toEqual(new Set([1]));
    },
  );

  it("leaves the classifiers below the last alone in a step of the final loss", async () => {
    const single = berxit.strategy({ alternating: { ...settings, batchSize: 12 } });
    const { before, changed } = await train(engine, { strategy: single, head });
    const poolers = ["heads.1.pooler.", "heads.2.pooler."];
    expect(withoutKeyBias(changed)).toEqual(
      movable(before, ...encoder, ...poolers, "heads.3.", "strategy."),
    );
  });
});

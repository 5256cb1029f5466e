import * as tf from "@tensorflow/tfjs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  alwaysAt,
  classify,
  type ExitModel,
  type ExitOutcome,
  type ExitRecord,
  type ExitStrategy,
  entropy,
  never,
  patience,
  pcee,
  record,
  replay,
  replaySweep,
  rightTool,
  toObserver,
} from "../src/index.js";
import { type FixtureRows, fixedExits } from "../src/testing/index.js";
import { gradedLogits } from "./fixtures.js";

const strategies: readonly ExitStrategy[] = [
  entropy({ threshold: 0.4 }),
  patience({ patience: 2 }),
  pcee({ threshold: 0.6, patience: 2 }),
  rightTool({ threshold: 0.8, temperatures: [2, 0.5, 1, 1.5] }),
  alwaysAt({ layer: 3 }),
  never(),
];

async function recordOf(
  model: ExitModel<FixtureRows>,
  strategy: ExitStrategy,
  rows: number,
): Promise<ExitRecord> {
  const runner = await model.open(toObserver(strategy));
  const all = Array.from({ length: rows }, (_, row) => row);
  const made = await record(runner, [all], {
    ids: all.map(String),
    labels: new Float32Array(rows).fill(Number.NaN),
  });
  await runner.dispose();
  return made;
}

async function live(
  model: ExitModel<FixtureRows>,
  strategy: ExitStrategy,
  rows: FixtureRows,
  options = {},
) {
  const runner = await model.open(toObserver(strategy));
  const made = await classify(runner, rows, strategy, options);
  await runner.dispose();
  return made;
}

function expectSame(a: ExitOutcome, b: ExitOutcome): void {
  expect([...a.exitLayers]).toEqual([...b.exitLayers]);
  expect([...a.predictions]).toEqual([...b.predictions]);
  expect([...a.logits]).toEqual([...b.logits]);
  expect(a.nonFinite).toBe(b.nonFinite);
}

const range = (rows: number) => Array.from({ length: rows }, (_, row) => row);

describe("the hosts", () => {
  it.each(strategies)("stop live exactly where the record says: $name", async (strategy) => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 1e6 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 2, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 8 }),
        async (seed, rows, depth, classes, compactEvery, maxLayer) => {
          const model = fixedExits(gradedLogits(seed, rows, depth, classes));
          const made = await recordOf(model, strategy, rows);
          const options = { compactEvery, maxLayer };
          expectSame(
            await live(model, strategy, range(rows), options),
            replay(made, strategy, { maxLayer }),
          );
          expectSame(await live(model, strategy, range(rows)), replay(made, strategy));
        },
      ),
      { numRuns: 25, seed: 7 },
    );
  });

  it.each(strategies)("do not let batch mates matter: $name", async (strategy) => {
    const model = fixedExits(gradedLogits(11, 12));
    const together = await live(model, strategy, range(12));
    const order = [7, 2, 11, 0, 5];
    const mixed = await live(model, strategy, order);
    expect([...mixed.exitLayers]).toEqual(order.map((row) => together.exitLayers[row]));
    for (const row of range(12)) {
      const alone = await live(model, strategy, [row]);
      expect(alone.exitLayers[0]).toBe(together.exitLayers[row]);
      expect([...alone.logits]).toEqual([...together.logits.subarray(row * 2, row * 2 + 2)]);
    }
  });

  it("run no block for a row that has left", async () => {
    const strategy = entropy({ threshold: 0.4 });
    const model = fixedExits(gradedLogits(3, 20, 8));
    const compacting = await live(model, strategy, range(20));
    const layers = compacting.exitLayers.reduce((sum, layer) => sum + layer, 0);
    expect(new Set(compacting.exitLayers).size).toBeGreaterThan(2);
    expect(compacting.rowLayers).toBe(layers);
    const lazy = await live(model, strategy, range(20), { compactEvery: 3 });
    expect(lazy.rowLayers).toBeGreaterThan(layers);
    expectSame(lazy, compacting);
  });

  it("stop the pass once everybody has left", async () => {
    const done = await live(fixedExits(gradedLogits(3, 5, 8)), alwaysAt({ layer: 2 }), range(5));
    expect(done.rowLayers).toBe(10);
  });

  it("answer an empty batch with nothing", async () => {
    const done = await live(fixedExits(gradedLogits(3, 5)), entropy(), []);
    expect(done.rows).toBe(0);
    expect(done.exitLayers).toHaveLength(0);
  });

  it("never ask for a decision at the last layer", async () => {
    const strategy = entropy({ threshold: 10 });
    const done = await live(fixedExits(gradedLogits(3, 4, 1)), strategy, range(4));
    expect([...done.exitLayers]).toEqual([1, 1, 1, 1]);
    const asked: number[] = [];
    const spied = {
      ...strategy,
      definition: {
        ...strategy.definition,
        decide(_: Float32Array, state: never, context: { site: { layer: number } }) {
          asked.push(context.site.layer);
          return { exit: false, state };
        },
      },
    };
    await live(fixedExits(gradedLogits(3, 1, 4)), spied, [0]);
    expect(asked).toEqual([1, 2, 3]);
  });

  it.each(strategies)(
    "keep a row with a number that is not finite, and count it: $name",
    async (strategy) => {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const certain = [8, -8];
        const rows = [
          [certain, certain, certain, certain, [bad, 0], certain],
          Array.from({ length: 6 }, () => [bad, 1]),
          Array.from({ length: 6 }, () => certain),
        ];
        const model = fixedExits(rows);
        const done = await live(model, strategy, [0, 1, 2]);
        expect(done.exitLayers[1]).toBe(6);
        expect(done.exitLayers[0]).not.toBe(5);
        // Row 1 meets six bad layers; row 0 one, unless it left before.
        expect(done.nonFinite).toBe(6 + ((done.exitLayers[0] as number) > 5 ? 1 : 0));
        expectSame(done, replay(await recordOf(model, strategy, 3), strategy));
        expect(done.predictions[1]).toBe(
          Number.isNaN(bad) ? -1 : bad === Number.POSITIVE_INFINITY ? 0 : 1,
        );
      }
    },
  );

  it("keep a row's state as it was over such a layer", async () => {
    const [yes, bad] = [
      [-1, 1],
      [Number.NaN, 0],
    ];
    const model = fixedExits([[yes, yes, bad, yes, yes, yes]]);
    const done = await live(model, patience({ patience: 2 }), [0]);
    expect(done.exitLayers[0]).toBe(4);
  });

  it("leave no tensors behind, also when a strategy throws", async () => {
    const model = fixedExits(gradedLogits(3, 6));
    const broken = {
      ...entropy(),
      name: "broken",
      definition: {
        ...entropy.definition,
        decide() {
          throw new TypeError("cannot read x");
        },
      },
    } as unknown as ExitStrategy;
    const runner = await model.open(toObserver(broken));
    const before = tf.memory().numTensors;
    await expect(classify(runner, range(6), broken)).rejects.toMatchObject({
      code: "STRATEGY_THREW",
      message: "[broken] decide threw at layer 1: cannot read x",
      cause: expect.any(TypeError),
    });
    expect(tf.memory().numTensors).toBe(before);
    const made = await recordOf(model, entropy(), 6);
    expect(() => replay(made, broken)).toThrowError("[broken] decide threw at layer 1");
  });

  it("refuse a verdict that is none", async () => {
    const made = await recordOf(fixedExits(gradedLogits(3, 2)), entropy(), 2);
    for (const verdict of [undefined, true, {}, { exit: 1, state: {} }, Promise.resolve()]) {
      const broken = {
        ...entropy(),
        definition: { ...entropy.definition, decide: () => verdict },
      } as unknown as ExitStrategy;
      expect(() => replay(made, broken)).toThrowError(
        expect.objectContaining({ name: "ExitStrategyError" }),
      );
    }
  });

  it("refuse a task, a version, an untrained head or module, and a senseless budget", async () => {
    const model = fixedExits([[[1], [2]]], { task: "regression" });
    const runner = await model.open(toObserver(entropy()));
    const two = await fixedExits(gradedLogits(1, 1, 2)).open(toObserver(entropy()));
    const code = (value: string) => expect.objectContaining({ code: value });
    await expect(classify(runner, [0], entropy())).rejects.toThrowError(code("TASK_UNSUPPORTED"));
    await expect(classify(two, [0], { ...entropy(), apiVersion: 2 })).rejects.toThrowError(
      code("API_MISMATCH"),
    );
    await expect(
      classify(two, [0], entropy(), { trained: { heads: [2], strategy: true } }),
    ).rejects.toThrowError("never trained, at layer 1.");
    const learned = {
      ...entropy(),
      definition: { ...entropy.definition, params: () => ({}) },
    } as unknown as ExitStrategy;
    await expect(
      classify(two, [0], learned, { trained: { heads: [1, 2], strategy: false } }),
    ).rejects.toThrowError(code("NOT_TRAINED"));
    await expect(classify(two, [0], entropy(), { maxLayer: 0 })).rejects.toThrowError(
      code("INVALID_OPTIONS"),
    );
    await expect(classify(two, [0], entropy(), { compactEvery: 0 })).rejects.toThrowError(
      code("INVALID_OPTIONS"),
    );
  });
});

describe("a sweep", () => {
  it.each(strategies.filter(({ definition }) => definition.knob))(
    "gives at each value what a replay gives, faster in the knob's direction: $name",
    async (strategy) => {
      const knob = strategy.definition.knob;
      if (!knob) throw new Error("unreachable");
      const made = await recordOf(fixedExits(gradedLogits(5, 40, 12)), strategy, 40);
      const points = replaySweep(made, strategy, knob.grid);
      const means = points.map(({ exitLayers }) => exitLayers.reduce((a, b) => a + b, 0) / 40);
      const { withOptions } = await import("../src/index.js");
      points.forEach((point) => {
        expectSame(point, replay(made, withOptions(strategy, { [knob.option]: point.value })));
      });
      const sign = knob.direction === "higher-is-faster" ? -1 : 1;
      means.slice(1).forEach((mean, index) => {
        expect(sign * (mean - (means[index] as number))).toBeGreaterThanOrEqual(0);
      });
      expect(means[0]).not.toBe(means.at(-1));
    },
  );

  it("needs a knob, and values that the schema accepts", async () => {
    const made = await recordOf(fixedExits(gradedLogits(5, 3)), never(), 3);
    expect(() => replaySweep(made, never(), [1])).toThrowError("has no knob");
    expect(() => replaySweep(made, patience(), [1.5])).toThrowError("[patience] invalid options");
  });
});

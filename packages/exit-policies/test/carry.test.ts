/** A rule that keeps tensors from exit to exit and answers for the ensemble of the exits so far. */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { describe, expect, it } from "vitest";
import { classify, defineExitStrategy, record, replay, toObserver } from "../src/index.js";
import { conformance, fixedExits } from "../src/testing/index.js";
import { gradedLogits } from "./fixtures.js";

const ensemble = defineExitStrategy({
  name: "ensemble",
  options: v.strictObject({ threshold: v.optional(v.number(), 0.8) }),
  needs: ["logits"],
  tasks: ["classification"],
  knob: { option: "threshold", grid: [0.5, 0.7, 0.9, 1.01], direction: "lower-is-faster" },
  observe({ logits }, { carry, site }) {
    const before = carry as { readonly sums: readonly tf.Tensor2D[] } | undefined;
    const sum = before ? tf.add<tf.Tensor2D>(before.sums[0] as tf.Tensor2D, logits) : logits;
    const mean = tf.div<tf.Tensor2D>(sum, site.layer);
    const highest = tf.max(tf.softmax(mean), 1, true); // [B, 1]
    return {
      values: tf.concat([highest, mean], 1) as tf.Tensor2D, // [B, 1 + C]
      logits: mean,
      carry: { sums: [sum] },
    };
  },
  start: () => ({}),
  decide: (observed, state, { options }) => ({
    exit: (observed[0] as number) >= Math.fround(options.threshold),
    state,
  }),
});

describe("a rule with a carry and an answer of its own", () => {
  it("gives the ensemble's answer, also after batch mates have left", async () => {
    const logits = gradedLogits(4, 15, 6);
    const rows = logits.map((_, row) => row);
    const strategy = ensemble();
    const runner = await fixedExits(logits).open(toObserver(strategy));
    const made = await record(runner, [rows], { ids: rows.map(String), labels: rows });
    const before = tf.memory().numTensors;
    const live = await classify(runner, rows, strategy);
    expect(tf.memory().numTensors).toBe(before);
    const replayed = replay(made, strategy);
    expect([...live.exitLayers]).toEqual([...replayed.exitLayers]);
    expect([...live.logits]).toEqual([...replayed.logits]);
    expect(new Set(live.exitLayers).size).toBeGreaterThan(2);
    for (const row of rows) {
      const exit = live.exitLayers[row] as number;
      const sums = [0, 1].map((k) =>
        (logits[row] ?? []).slice(0, exit).reduce((sum, layer) => sum + (layer[k] as number), 0),
      );
      expect([...live.logits.subarray(row * 2, row * 2 + 2)]).toBeAllclose(
        sums.map((sum) => sum / exit),
        { rtol: 1e-5, atol: 1e-6 },
      );
    }
  });

  for (const check of conformance(ensemble, {
    configurations: [[], [{ threshold: 0.6 }]],
    knobEnds: { slowest: 1.01, fastest: { value: 0.5, layer: 1 } },
  }))
    it(check.name, check.run);
});

describe("an observer", () => {
  const observe = (returned: (logits: tf.Tensor2D) => unknown) => {
    const strategy = {
      ...ensemble(),
      definition: {
        ...ensemble.definition,
        observe: ({ logits }: { logits: tf.Tensor2D }) => returned(logits),
      },
    } as never;
    return tf.tidy(() => {
      toObserver(strategy).observe({ logits: tf.zeros([3, 2]) } as never, {
        site: { layer: 2, depth: 4, task: "classification" },
        params: {},
        carry: undefined,
      });
      return tf.scalar(0);
    });
  };

  it.each([
    ["[4]", () => tf.zeros([4]), "at layer 2, got [4]"],
    ["[3, 1, 1]", () => tf.zeros([3, 1, 1]), "got [3, 1, 1]"],
    ["[3, 0]", () => tf.zeros([3, 0]), "got [3, 0]"],
    ["nothing", () => undefined, "got undefined"],
    ["a number", () => 3, "got undefined"],
    ["a promise", async () => tf.zeros([3]), "got a promise"],
    [
      "logits of other rows",
      () => ({ values: tf.zeros([3]), logits: tf.zeros([2, 2]) }),
      "logits of shape [3, C] at layer 2, got [2, 2]",
    ],
    [
      "a carry of other rows",
      () => ({ values: tf.zeros([3]), carry: [{ a: tf.zeros([1]) }] }),
      "a carry with tensors of shape [3, …] at layer 2, got [1]",
    ],
    ["a carry of numbers", () => ({ values: tf.zeros([3]), carry: [3] }), "got number"],
  ])("says so when observe returns %s", (_, returned, message) => {
    expect(() => observe(returned)).toThrowError(
      expect.objectContaining({ code: "BAD_OBSERVATION" }),
    );
    expect(() => observe(returned)).toThrowError(message);
  });

  it("names a parameter that was not given, and a signal the model lacks", () => {
    const reading = {
      ...ensemble(),
      definition: {
        ...ensemble.definition,
        observe: (_: unknown, { params }: { params: Record<string, tf.Tensor> }) => params.weight,
      },
    } as never;
    const run = (now: object) =>
      toObserver(reading).observe(now as never, {
        site: { layer: 1, depth: 2, task: "classification" },
        params: {},
        carry: undefined,
      });
    expect(() => run({ logits: tf.zeros([1, 2]) })).toThrowError('the parameter "weight"');
    expect(() => run({})).toThrowError('needs the signal "logits"');
  });
});

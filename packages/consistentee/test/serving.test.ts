/** @file Requests of many callers on one model: gathered, bounded, dropped and failed without harm to each other. */
import { defineExitStrategy, entropy, patience } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import fc from "fast-check";
import * as v from "valibot";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import {
  EarlyExitModel,
  type EarlyExitParts,
  type ModelOptions,
  type RequestEvent,
} from "../src/index.js";
import { chooseBatch } from "../src/serve/choose-batch.js";
import { onnxRuntime } from "./runtime.js";
import { texts, tinyParts } from "./tiny-model.js";

async function opened(options: ModelOptions = {}, parts: EarlyExitParts = tinyParts()) {
  const model = await EarlyExitModel.fromParts(parts, { threads: 1, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

function watched() {
  const events: RequestEvent[] = [];
  return { events, observers: [{ onRequest: (event: RequestEvent) => void events.push(event) }] };
}

describe("the choice of a batch", () => {
  it("has the oldest in it, is no larger than asked, and pads nobody beyond twice its length", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 512 }), { minLength: 1, maxLength: 80 }),
        fc.integer({ min: 1, max: 32 }),
        (lengths, maxBatch) => {
          const chosen = chooseBatch(lengths, maxBatch);
          expect(chosen).toContain(0);
          expect(new Set(chosen).size).toBe(chosen.length);
          expect(chosen.length).toBeLessThanOrEqual(maxBatch);
          const own = chosen.map((place) => lengths[place] as number);
          const longest = Math.max(...own);
          if (longest > 32) expect(longest).toBeLessThanOrEqual(2 * Math.min(...own));
          // Nobody who would have fitted is left out while there is room.
          const oldest = lengths[0] as number;
          const like = lengths.filter((length) => length === oldest).length;
          expect(chosen.length).toBeGreaterThanOrEqual(Math.min(maxBatch, like));
        },
      ),
    );
    expect(chooseBatch([], 4)).toEqual([]);
    expect(chooseBatch([100, 8, 110, 90, 512], 3)).toEqual([0, 2, 3]);
    expect(chooseBatch([8, 30, 3, 31], 8)).toEqual([0, 1, 2, 3]);
  });
});

describe("a request that is alone", () => {
  const strategies = [undefined, entropy({ threshold: 0.692 }), patience({ patience: 1 })];
  const partsOf = (strategy: (typeof strategies)[number]): EarlyExitParts =>
    strategy ? { encoder: tinyParts().encoder, strategy } : tinyParts();

  it.each([0, 1, 2])("gets from one graph what it gets layer by layer (%i)", async (index) => {
    const parts = partsOf(strategies[index]);
    const [graph, loop] = [await opened({}, parts), await opened({ inGraph: false }, parts)];
    const layers = new Set<number>();
    for (const text of texts) {
      const [one, other] = [await graph.classify(text), await loop.classify(text)];
      expect(one).toMatchObject({ exitLayer: other.exitLayer, label: other.label, layers: 3 });
      expect(one.probabilities).toBeAllclose(other.probabilities, { atol: 1e-5 });
      layers.add(one.exitLayer);
    }
    expect(layers.size).toBeGreaterThan(1);
  });

  it("is told to observers alike", async () => {
    const { events, observers } = watched();
    const model = await opened({ observers });
    const found: (readonly unknown[])[] = [];
    for (const inGraph of [true, false]) {
      const other = inGraph ? model : await opened({ observers, inGraph });
      events.length = 0;
      for (const text of texts) await other.classify(text);
      found.push(events.map(({ milliseconds: _, queueMilliseconds: __, ...event }) => event));
    }
    expect(found[0]).toHaveLength(texts.length);
    expect(found[0]).toEqual(found[1]);
  });

  // Its host form throws, so whatever answers is the graph.
  const tensorOnly = defineExitStrategy({
    ...entropy.definition,
    name: "tensor-only",
    decide: () => {
      throw new Error("asked on the host");
    },
  });

  it("runs in the graph, and layer by layer where more than an answer is asked", async () => {
    const parts = { encoder: tinyParts().encoder, strategy: tensorOnly({ threshold: 0.692 }) };
    const [model, loop] = [await opened({}, parts), await opened({ inGraph: false }, parts)];
    const reference = await opened({}, partsOf(entropy({ threshold: 0.692 })));
    for (const text of texts)
      expect((await model.classify(text)).exitLayer).toBe(
        (await reference.classify(text)).exitLayer,
      );
    const text = texts[0] as string;
    const refused = expect.objectContaining({ code: "STRATEGY_THREW" });
    await expect(model.classify(text, { maxLayer: 2 })).rejects.toEqual(refused);
    await expect(loop.classify(text)).rejects.toEqual(refused);
  });

  it("follows the knob that was selected", async () => {
    const parts = partsOf(entropy({ threshold: 0 }));
    const model = await opened({}, parts);
    const depths = async () =>
      Promise.all(texts.map(async (text) => (await model.classify(text)).exitLayer));
    for (const text of texts) expect((await model.classify(text)).exitLayer).toBe(3);
    const rows = Array.from({ length: 30 }, () => texts.map((text) => ({ text }))).flat();
    const point = await model.selectThreshold({ rows, maxLoss: 0.9, grid: [0, 0.4, 2] });
    expect(point.knob?.value).toBe(2);
    expect(await depths()).toEqual(texts.map(() => 1));
    for (const text of texts) expect((await model.classify(text)).exitLayer).toBe(1);
  });
});

describe("requests of several callers", () => {
  it("run together and get what they get alone", async () => {
    const { events, observers } = watched();
    const model = await opened({ observers });
    const together = await Promise.all(texts.map((text) => model.classify(text)));
    expect(new Set(events.map(({ batchSize }) => batchSize))).toEqual(new Set([texts.length]));
    // Answered layer by layer: who leaves early does not wait for the others.
    const layers = events.map(({ exitLayer }) => exitLayer as number);
    expect(layers).toEqual([...layers].sort((a, b) => a - b));
    expect(new Set(layers).size).toBeGreaterThan(1);
    for (const [index, text] of texts.entries()) {
      const alone = await model.classify(text);
      expect(together[index]?.exitLayer).toBe(alone.exitLayer);
      expect(together[index]?.probabilities).toBeAllclose(alone.probabilities, { atol: 1e-5 });
    }
    expect(events.at(-1)?.batchSize).toBe(1);
  });

  it("are answered before the rest of their batch is", async () => {
    const model = await opened();
    const depths = (await model.classify(texts)).map(({ exitLayer }) => exitLayer);
    const order: number[] = [];
    await Promise.all(
      texts.map(async (text, index) => {
        await model.classify(text);
        order.push(depths[index] as number);
      }),
    );
    expect(order).toEqual([...order].sort((a, b) => a - b));
  });

  it("wait for company as long as they are told to", async () => {
    const { events, observers } = watched();
    const model = await opened({ maxWait: 10_000, maxBatch: 3, observers });
    const first = model.classify("good");
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(model.waiting).toBe(1);
    // The third one fills the batch, long before the wait is over.
    await Promise.all([first, model.classify("flat"), model.classify("bad time")]);
    expect(events.map(({ batchSize }) => batchSize)).toEqual([3, 3, 3]);
    const late = model.classify("good");
    // Disposing does not wait for company.
    await Promise.all([model.dispose(), late]);
    const short = await opened({ maxWait: 5, observers });
    await short.classify("good");
    expect(events.at(-1)).toMatchObject({ batchSize: 1 });
    expect(events.at(-1)?.queueMilliseconds).toBeGreaterThanOrEqual(4);
  });

  it("have their own depth budgets in one batch", async () => {
    const { events, observers } = watched();
    const model = await opened({ observers });
    const free = await model.classify(texts);
    const budgets = texts.map((_, index) => 1 + (index % 3));
    const answers = await Promise.all(
      texts.map((text, index) => model.classify(text, { maxLayer: budgets[index] as number })),
    );
    expect(answers.map(({ exitLayer }) => exitLayer)).toEqual(
      free.map(({ exitLayer }, index) => Math.min(exitLayer, budgets[index] as number)),
    );
    expect(events.at(-1)?.batchSize).toBe(texts.length);
  });

  it("are refused one by one when too many wait, and later ones are taken again", async () => {
    const { events, observers } = watched();
    const model = await opened({ maxQueue: 4, maxBatch: 2, observers });
    const taken = texts.slice(0, 4).map((text) => model.classify(text));
    const refused = model.classify("good");
    await expect(refused).rejects.toMatchObject({ code: "QUEUE_FULL" });
    await expect(refused).rejects.toThrow(/at most 4 .*4 waiting/);
    expect(events).toMatchObject([{ outcome: "failed", error: { code: "QUEUE_FULL" } }]);
    expect(await Promise.all(taken)).toHaveLength(4);
    expect(await model.classify(texts)).toHaveLength(texts.length);
    // A stream waits for room instead.
    const others = Promise.all(texts.slice(0, 3).map((text) => model.classify(text)));
    let count = 0;
    for await (const _ of model.stream(texts)) count += 1;
    expect(count).toBe(texts.length);
    await others;
  });

  it("abort alone, waiting or running", async () => {
    const { events, observers } = watched();
    const model = await opened({ observers });
    const free = await model.classify(texts);
    events.length = 0;
    const controllers = texts.map(() => new AbortController());
    const calls = texts.map((text, index) =>
      model.classify(text, { signal: (controllers[index] as AbortController).signal }),
    );
    const settled = Promise.allSettled(calls);
    controllers[1]?.abort(new Error("gone before it ran"));
    const stays = free.findIndex(({ exitLayer }, index) => exitLayer === 3 && index !== 1);
    // The first answer comes after layer 1 or 2; whoever needs layer 3 is still running then.
    await Promise.race(calls.filter((_, index) => index !== 1));
    controllers[stays]?.abort(new Error("gone while it ran"));
    const ends = await settled;
    expect(ends.map(({ status }) => status)).toEqual(
      texts.map((_, index) => (index === 1 || index === stays ? "rejected" : "fulfilled")),
    );
    expect(ends[stays]).toMatchObject({ reason: { message: "gone while it ran" } });
    expect(events.filter(({ outcome }) => outcome === "aborted")).toHaveLength(2);
    for (const [index, end] of ends.entries())
      if (end.status === "fulfilled") expect(end.value.exitLayer).toBe(free[index]?.exitLayer);
  });

  it("fail alone when the strategy throws on one of them", async () => {
    // Its observation tells texts of one word from the others by their first logit.
    const { encoder } = tinyParts();
    const probe = await opened({}, { encoder, strategy: entropy({ threshold: 0 }) });
    const logits = (await probe.classify(texts, { maxLayer: 1 })).map(({ probabilities }) =>
      Math.log(probabilities[0] as number),
    );
    const culprit = logits.indexOf(Math.max(...logits));
    const limit = [...logits].sort((a, b) => b - a);
    const fragile = defineExitStrategy({
      name: "fragile",
      options: v.object({}),
      needs: ["probs"],
      tasks: ["classification"],
      start: () => ({}),
      observe: ({ probs }) =>
        tf.squeeze<tf.Tensor1D>(tf.log(tf.slice(probs, [0, 0], [-1, 1])), [1]),
      decide: ([first], state, { site }) => {
        if (
          site.layer === 1 &&
          (first as number) > ((limit[0] as number) + (limit[1] as number)) / 2
        )
          throw new Error("cannot decide");
        return { exit: site.layer === 2, state };
      },
    });
    const { events, observers } = watched();
    const model = await opened({ observers }, { encoder, strategy: fragile() });
    const ends = await model.settle(texts);
    expect(ends.map(({ status }) => status)).toEqual(
      texts.map((_, index) => (index === culprit ? "rejected" : "fulfilled")),
    );
    expect(ends[culprit]).toMatchObject({ reason: { code: "STRATEGY_THREW" } });
    expect(events.filter(({ outcome }) => outcome === "failed")).toHaveLength(1);
  });

  it("are settled one by one: bad ones fail with their place, the others are answered", async () => {
    const model = await opened({ tooLong: "refuse", maxLength: 12 });
    const ends = await model.settle(["good", "", ["a", "b"], "good ".repeat(40), "flat"]);
    expect(ends.map(({ status }) => status)).toEqual([
      "fulfilled",
      "rejected",
      "rejected",
      "rejected",
      "fulfilled",
    ]);
    const messages = ends.map((end) => (end.status === "rejected" ? end.reason.message : ""));
    expect(messages[1]).toMatch(/request 1.*at least one token/);
    expect(messages[2]).toMatch(/request 2.*pair/);
    expect(messages[3]).toMatch(/request 3.*at most 12 tokens, got 42/);
    expect(await model.settle([])).toEqual([]);
  });
});

describe("disposing", () => {
  it("may refuse what has no answer yet", async () => {
    const model = await EarlyExitModel.fromParts(tinyParts(), { threads: 1, maxWait: 60_000 });
    const waiting = model.classify("good");
    const refused = expect(waiting).rejects.toMatchObject({ code: "DISPOSED" });
    await model.dispose({ pending: "reject" });
    await refused;
    await expect(model.classify("good")).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(model.settle(["good"])).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(model.selectThreshold({ rows: [], p95Ms: 1 })).rejects.toMatchObject({
      code: "DISPOSED",
    });
  });
});

describe("memory", () => {
  it("keeps no tensor of any call, eager or compiled", async () => {
    const model = await opened({ runtime: "eager" });
    await model.classify(texts);
    const before = tf.memory();
    for (let round = 0; round < 20; round += 1) await model.classify(texts);
    const after = tf.memory();
    expect(after.numTensors).toBe(before.numTensors);
    expect(after.numBytes).toBe(before.numBytes);
  });

  it("keeps nothing of 3000 calls, and opens no session for them", async () => {
    const runtime = onnxRuntime();
    const created = vi.spyOn(runtime.InferenceSession, "create");
    onTestFinished(() => created.mockRestore());
    const model = await opened({ runtime: "onnxruntime-node", maxQueue: 64 });
    // Each layer with its head, the first with the embeddings too, and the graph with all of them.
    const sessions = created.mock.calls.length;
    expect(sessions).toBe(4);
    const run = async (calls: number) => {
      for (let done = 0; done < calls; done += texts.length)
        await Promise.all(texts.map((text) => model.classify(text)));
    };
    await run(500);
    const tensors = tf.memory().numTensors;
    await run(3000);
    expect(tf.memory().numTensors).toBe(tensors);
    expect(created.mock.calls.length).toBe(sessions);
    expect(model.waiting).toBe(0);
  });
});

describe("options of the queue", () => {
  it("that cannot work are refused", async () => {
    for (const options of [{ maxQueue: 0 }, { maxWait: -1 }, { maxWait: Number.NaN }])
      await expect(EarlyExitModel.fromParts(tinyParts(), options)).rejects.toMatchObject({
        code: "BAD_OPTION",
      });
  });
});

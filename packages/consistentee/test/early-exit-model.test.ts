/** @file The model that a service holds, with real weights, sessions and folders. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { saveExitEncoder } from "@cee/backbone";
import { defineExitStrategy, entropy, patience, saveStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { describe, expect, it, onTestFinished } from "vitest";
import {
  type ClassifyInput,
  consistentEE,
  EarlyExitModel,
  type EarlyExitParts,
  type FromPretrainedOptions,
  type Prediction,
  saveEarlyExitModel,
} from "../src/index.js";
import { scratchFolder, texts, tinyParts } from "./tiny-model.js";

const one = { threads: 1 } as const;

async function opened(parts: EarlyExitParts = tinyParts(), options: FromPretrainedOptions = {}) {
  const model = await EarlyExitModel.fromParts(parts, { ...one, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

async function loaded(folder: string, options: FromPretrainedOptions = {}) {
  const model = await EarlyExitModel.fromPretrained(folder, { ...one, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

async function saved(parts: EarlyExitParts = tinyParts()): Promise<string> {
  const folder = scratchFolder();
  await saveEarlyExitModel(parts, folder);
  return folder;
}

function withoutTime(predictions: readonly Prediction[]) {
  return predictions.map(({ milliseconds: _, ...rest }) => rest);
}

async function all(stream: AsyncIterable<Prediction>): Promise<Prediction[]> {
  const answers: Prediction[] = [];
  for await (const answer of stream) answers.push(answer);
  return answers;
}

/** No request, and nothing that can be written down either. */
function circular(): unknown {
  const one: Record<string, unknown> = { text: "good" };
  one.pair = one;
  return one;
}

describe("answers", () => {
  it("name the class, its probability and the layer, and rows leave at different layers", async () => {
    const model = await opened();
    const answers = await model.classify(texts);
    expect(new Set(answers.map(({ exitLayer }) => exitLayer)).size).toBeGreaterThan(1);
    for (const { label, score, probabilities, layers, milliseconds, truncated } of answers) {
      const winner = probabilities.indexOf(Math.max(...probabilities));
      expect(label).toBe(["negative", "positive"][winner]);
      expect(score).toBe(probabilities[winner]);
      expect(probabilities.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 12);
      expect(layers).toBe(3);
      expect(milliseconds).toBeGreaterThan(0);
      expect(truncated).toBe(false);
    }
  });

  it("are the same alone, in a batch, in smaller batches and in a stream", async () => {
    const model = await opened();
    const small = await opened(tinyParts(), { maxBatch: 2 });
    const batch = await model.classify(texts);
    const alone: Prediction[] = [];
    for (const text of texts) alone.push(await model.classify(text));
    const others = [alone, await small.classify(texts), await all(small.stream(texts))];
    for (const other of others) {
      expect(other.map(({ exitLayer, label }) => [exitLayer, label])).toEqual(
        batch.map(({ exitLayer, label }) => [exitLayer, label]),
      );
      other.forEach(({ probabilities }, row) => {
        expect(probabilities).toBeAllclose(batch[row]?.probabilities ?? [], { atol: 1e-5 });
      });
    }
  });

  it("are values for a regression", async () => {
    const parts = tinyParts({ regression: true });
    const model = await opened(parts);
    const answer = await model.classify("good");
    expect(answer).toMatchObject({ label: "LABEL_0", probabilities: [] });
    expect(Number.isFinite(answer.score)).toBe(true);
  });

  it("read a pair alone or in a list, and no texts at all", async () => {
    const model = await opened();
    const [text, pair] = ["the plot", "a good plot"] as const;
    const alone = await model.classify({ text, pair });
    const listed = await model.classify([[text, pair], { text, pair }]);
    expect(listed.map(({ exitLayer }) => exitLayer)).toEqual([alone.exitLayer, alone.exitLayer]);
    expect(listed[0]?.score).toBeCloseTo(alone.score, 5);
    const single = await model.classify(`${text} ${pair}`);
    expect(Math.abs(alone.score - single.score)).toBeGreaterThan(1e-4);
    expect(await model.classify([text, pair])).toHaveLength(2);
    expect(await model.classify([])).toEqual([]);
  });
});

describe("a folder", () => {
  it("gives back identical answers, also saved again", async () => {
    const expected = withoutTime(await (await opened()).classify(texts));
    const folder = await saved();
    const model = await loaded(folder);
    expect(withoutTime(await model.classify(texts))).toEqual(expected);
    const again = scratchFolder();
    await model.save(again);
    await model.save(again);
    expect(withoutTime(await (await loaded(again)).classify(texts))).toEqual(expected);
    expect(readdirSync(again).sort()).toEqual(readdirSync(folder).sort());
  });

  it("may hold the strategy in strategy/, and what fit returned in one record", async () => {
    const { params, ...parts } = tinyParts();
    const flat = Object.entries(params).map(([name, tensor]) => [`strategy.${name}`, tensor]);
    const encoder = {
      ...parts.encoder,
      params: { ...parts.encoder.params, ...Object.fromEntries(flat) },
    };
    const expected = withoutTime(await (await opened()).classify(texts));
    const folder = await saved({ ...parts, encoder });
    expect(withoutTime(await (await loaded(folder)).classify(texts))).toEqual(expected);
    mkdirSync(join(folder, "strategy"));
    for (const name of ["exit-strategy.json", "exit-strategy.safetensors"])
      renameSync(join(folder, name), join(folder, "strategy", name));
    expect(withoutTime(await (await loaded(folder)).classify(texts))).toEqual(expected);
  });

  it("runs with saved or passed strategies without parameters", async () => {
    const folder = await saved({
      encoder: tinyParts().encoder,
      strategy: patience({ patience: 1 }),
    });
    const model = await loaded(folder);
    expect(model.strategy).toMatchObject({ name: "patience", options: { patience: 1 } });
    const layersOf = async (strategy: FromPretrainedOptions["strategy"]) => {
      const answers = await (await loaded(folder, strategy ? { strategy } : {})).classify(texts);
      return [...new Set(answers.map(({ exitLayer }) => exitLayer))];
    };
    expect(await layersOf(entropy({ threshold: 0.9999 }))).toContain(1);
    expect(await layersOf("never")).toEqual([3]);
    const atTwo = defineExitStrategy({
      name: "at-two",
      options: v.object({}),
      needs: ["logits"],
      tasks: ["classification"],
      start: () => ({}),
      observe: ({ logits }) => tf.max<tf.Tensor1D>(logits, 1),
      decide: (_observed, state, { site }) => ({ exit: site.layer === 2, state }),
    });
    expect(await layersOf(atTwo())).toEqual([2]);
    await saveEarlyExitModel({ encoder: tinyParts().encoder, strategy: atTwo() }, folder);
    const named = await loaded(folder, { moreStrategies: [atTwo] });
    expect((await named.classify("good")).exitLayer).toBe(2);
  });

  it("keeps the saved parameters under changed options", async () => {
    const folder = await saved();
    const model = await loaded(folder, { strategy: consistentEE({ threshold: 0 }) });
    expect(new Set((await model.classify(texts)).map((a) => a.exitLayer))).toEqual(new Set([1]));
    await expect(loaded(folder, { strategy: consistentEE({ width: 8 }) })).rejects.toMatchObject({
      code: "MODEL_MISMATCH",
    });
  });

  it("may be named by its hub id, which is downloaded once", async () => {
    const [folder, cacheDir] = [await saved(), scratchFolder()];
    const sha = "0123456789abcdef0123456789abcdef01234567";
    const asked: string[] = [];
    const hub = {
      hubUrl: "http://hub.invalid",
      cacheDir,
      fetch: async (url: string | URL | Request) => {
        const { pathname } = new URL(String(url));
        asked.push(pathname);
        if (pathname.startsWith("/api/models/org/exits/revision/"))
          return Response.json({
            id: "org/exits",
            sha,
            siblings: readdirSync(folder).map((rfilename) => ({ rfilename })),
          });
        const name = pathname.replace(`/org/exits/resolve/${sha}/`, "");
        return new Response(new Uint8Array(readFileSync(join(folder, name))));
      },
    };
    const expected = withoutTime(await (await loaded(folder)).classify(texts));
    const model = await loaded("org/exits", { hub });
    expect(withoutTime(await model.classify(texts))).toEqual(expected);
    expect(asked).toContain(`/org/exits/resolve/${sha}/model.safetensors`);
    asked.length = 0;
    const again = await loaded("org/exits", { hub: { ...hub, offline: true } });
    expect(withoutTime(await again.classify(texts))).toEqual(expected);
    expect(asked).toEqual([]);
  });

  it("is refused without exits, without a strategy, or with another model's", async () => {
    const folder = await saved();
    const other = tinyParts({ depth: 2 });
    await saveStrategy(folder, {
      strategy: consistentEE(),
      params: other.params,
      modelShape: other.encoder.shape,
      phasesCompleted: ["policy-1"],
      seed: 0,
    });
    await expect(loaded(folder)).rejects.toMatchObject({ code: "MODEL_MISMATCH" });
    rmSync(join(folder, "exit-strategy.json"));
    await expect(loaded(folder)).rejects.toMatchObject({ code: "NO_STRATEGY" });
    await expect(loaded(folder, { strategy: "consistentee" })).rejects.toMatchObject({
      code: "NOT_TRAINED",
    });
    await expect(loaded(folder, { strategy: "entropi" })).rejects.toThrow(/entropy/);
    rmSync(join(folder, "cee.json"));
    await expect(loaded(folder)).rejects.toMatchObject({ code: "NO_EXITS" });
  });

  it("is not written with parts that were never trained", async () => {
    const folder = scratchFolder();
    const parts = tinyParts();
    const fresh = { ...parts, encoder: { ...parts.encoder, trainedHeads: [3] } };
    await expect(saveEarlyExitModel(fresh, folder)).rejects.toMatchObject({ code: "NOT_TRAINED" });
    const { reports: _, ...unreported } = parts;
    await expect(saveEarlyExitModel(unreported, folder)).rejects.toMatchObject({
      code: "NOT_TRAINED",
    });
    expect(readdirSync(folder)).toEqual([]);
    await saveExitEncoder({ ...parts.encoder, tokenizer: undefined }, folder);
    await expect(loaded(folder, { strategy: "never" })).rejects.toMatchObject({
      code: "NO_TOKENIZER",
    });
  });
});

describe("a call", () => {
  it("keeps to its depth budget", async () => {
    const model = await opened();
    const full = await model.classify(texts);
    for (const maxLayer of [1, 2, 9]) {
      const answers = await model.classify(texts, { maxLayer });
      expect(answers.map(({ exitLayer }) => exitLayer)).toEqual(
        full.map(({ exitLayer }) => Math.min(exitLayer, maxLayer)),
      );
    }
    await expect(model.classify("good", { maxLayer: 0 })).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
    });
  });

  it("ends with the signal's reason, before and between layers, and leaves other calls alone", async () => {
    const model = await opened();
    const reason = new Error("gone");
    await expect(model.classify(texts, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const stopped = model.classify(texts, { signal: controller.signal });
    const other = model.classify(texts);
    controller.abort(reason);
    await expect(stopped).rejects.toBe(reason);
    expect(await other).toHaveLength(texts.length);
  });

  it("refuses empty texts, mixtures and what is no text, naming the request", async () => {
    const model = await opened();
    const bad: readonly [unknown, RegExp][] = [
      ["", /request 0.*at least one token/],
      [" \n", /at least one token/],
      [["good", ""], /request 1/],
      [{ text: "good", pair: " " }, /second text/],
      [{ text: "", pair: "good" }, /first text/],
      [["good", ["a", "b"]], /request 1.*pair/],
      [[["a", "b"], "good"], /request 1.*single/],
      [[["a", "b", "c"]], /list of 3/],
      [[7], /number/],
      [null, /null/],
      [{ text: "good" }, /got \{ text: string \}/],
      [{ text: 3, pair: null }, /got \{ text: number, pair: null \}/],
      [{}, /got \{\}/],
      [circular(), /got \{ text: string, pair: object \}/],
    ];
    for (const [input, message] of bad) {
      const call = model.classify(input as ClassifyInput[]);
      await expect(call).rejects.toMatchObject({ code: "BAD_INPUT" });
      await expect(call).rejects.toThrow(message);
    }
    expect(await model.classify(texts)).toHaveLength(texts.length);
  });

  it("truncates long texts and says so, or refuses them", async () => {
    const long = "good ".repeat(40);
    const model = await opened();
    const answers = await model.classify([long, "good"]);
    expect(answers.map(({ truncated }) => truncated)).toEqual([true, false]);
    const fitting = await model.classify("good ".repeat(30));
    expect(fitting).toMatchObject({ truncated: false, exitLayer: answers[0]?.exitLayer });
    expect((await model.classify({ text: long, pair: long })).truncated).toBe(true);
    const strict = await opened(tinyParts(), { tooLong: "refuse", maxLength: 8 });
    await expect(strict.classify(["good", long])).rejects.toThrow(/request 1.*at most 8.*42/);
  });

  it("refuses options that cannot work", async () => {
    for (const options of [
      { maxBatch: 0 },
      { maxLength: 99 },
      { maxLength: 4 },
      { tooLong: "cut" },
    ])
      await expect(opened(tinyParts(), options as FromPretrainedOptions)).rejects.toMatchObject({
        code: "BAD_OPTION",
      });
    await expect(opened(tinyParts(), { threads: 0 })).rejects.toThrow(/threads.*got 0/);
    await expect(opened(tinyParts(), { device: "abacus" })).rejects.toThrow(/abacus/);
  });

  it("reports weights whose answers are not finite", async () => {
    const parts = tinyParts();
    const bias = { dtype: "float32", shape: [2], data: Float32Array.of(Number.NaN, 0) } as const;
    const encoder = {
      ...parts.encoder,
      params: { ...parts.encoder.params, "heads.3.classifier.bias": bias },
    };
    const model = await opened({
      encoder,
      strategy: consistentEE({ threshold: 1 }),
      params: parts.params,
      reports: [{ phase: "policy-1" }],
    });
    await expect(model.classify("good")).rejects.toMatchObject({ code: "NOT_FINITE" });
  });
});

describe("a stream", () => {
  it("answers a slow source at once, in order", async () => {
    const model = await opened();
    const expected = await model.classify(texts);
    const seen: number[] = [];
    let asked = 0;
    async function* slow() {
      for (const text of texts.slice(0, 4)) {
        // The answer to each text is there before the next is asked for again.
        asked += 1;
        yield text;
        await new Promise((resolve) => setTimeout(resolve, 150));
      }
    }
    for await (const answer of model.stream(slow())) {
      expect(answer.exitLayer).toBe(expected[seen.length]?.exitLayer);
      seen.push(asked);
    }
    expect(seen).toHaveLength(4);
    expect(seen[0]).toBeLessThan(4);
  });

  it("answers what came before a bad request or a failing source", async () => {
    const model = await opened();
    const cause = new Error("no more");
    function* failing() {
      yield* texts.slice(0, 3);
      throw cause;
    }
    const cases = [
      [failing(), cause],
      [["good", "bad", "flat", "", "dull"], { code: "BAD_INPUT" }],
      [["good", "bad", "flat", ["a", "b"]], { code: "BAD_INPUT" }],
    ] as const;
    for (const [source, error] of cases) {
      let count = 0;
      const run = async () => {
        for await (const _ of model.stream(source as Iterable<ClassifyInput>)) count += 1;
      };
      await expect(run()).rejects.toMatchObject(error);
      expect(count).toBe(3);
    }
  });

  it("ends when its reader leaves or aborts, also while its source is silent", async () => {
    const model = await opened();
    let isClosed = false;
    function* endless() {
      try {
        for (;;) yield "good";
      } finally {
        isClosed = true;
      }
    }
    for await (const _ of model.stream(endless())) break;
    expect(isClosed).toBe(true);
    async function* silent() {
      yield "good";
      await new Promise(() => undefined);
    }
    const controller = new AbortController();
    const reason = new Error("enough");
    const run = async () => {
      for await (const _ of model.stream(silent(), { signal: controller.signal }))
        setTimeout(() => controller.abort(reason), 10);
    };
    await expect(run()).rejects.toBe(reason);
  });
});

describe("disposing", () => {
  it("lets calls in progress finish, refuses later ones, and may be repeated", async () => {
    const model = await EarlyExitModel.fromParts(tinyParts(), one);
    const running = model.classify(texts);
    await Promise.all([model.dispose(), model.dispose()]);
    expect(await running).toHaveLength(texts.length);
    await expect(model.classify("good")).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(model.save(scratchFolder())).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(all(model.stream(["good"]))).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(model.settle(["good"])).rejects.toMatchObject({ code: "DISPOSED" });
    const rows = texts.map((text) => ({ text }));
    await expect(model.selectThreshold({ rows, maxLoss: 0.1 })).rejects.toThrow(
      /must not be called on a model that was disposed of.*Load it again/,
    );
  });

  it("frees every tensor", async () => {
    const before = tf.memory().numTensors;
    const model = await EarlyExitModel.fromParts(tinyParts(), { runtime: "eager" });
    await model.classify(texts);
    expect(tf.memory().numTensors).toBeGreaterThan(before);
    await model.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
});

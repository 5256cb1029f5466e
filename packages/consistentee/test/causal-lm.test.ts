/** @file The front door of generation, and the program of docs/generation.md. */
import { createCausalDecoder, createLlamaConfig, type DecoderTokenizer } from "@cee/backbone";
import { alwaysAt, calm, defineExitStrategy } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CausalLM, consistentEEDecoder } from "../src/index.js";
import { watchSessions } from "./runtime.js";

/** One character a token: é is spread over two. */
const tokenizer: DecoderTokenizer = {
  vocabSize: 32,
  encode: (text) => [1, ...Array.from(text, (letter) => 2 + (letter.charCodeAt(0) % 30))],
  decode: (ids) =>
    Buffer.from(
      ids.flatMap((id) => (id === 1 ? [] : id === 30 ? [0xc3] : id === 31 ? [0xa9] : [65 + id])),
    ).toString("utf8"),
};
const decoder = createCausalDecoder({
  config: createLlamaConfig({
    vocabSize: 32,
    hidden: 16,
    depth: 4,
    heads: 2,
    intermediate: 24,
    maxPositions: 64,
    initializerRange: 0.35,
    bosTokenId: 1,
    eosTokenIds: [0],
  }),
  seed: 3,
  tokenizer,
});

let model: CausalLM;
beforeAll(async () => {
  model = await CausalLM.open(decoder, { threads: 1, strategy: calm({ threshold: 0.3 }) });
});
afterAll(() => model.dispose());

describe("CausalLM", () => {
  it("generates text and says where its tokens left", async () => {
    const { rows, stats } = await model.generateBatch(["hello", "a"], { maxNewTokens: 20 });
    const alone = await model.generate("a", { maxNewTokens: 20 });
    expect(rows[1]).toEqual(alone);
    for (const row of rows) {
      expect(row.exitLayers).toHaveLength(row.ids.length);
      expect(row.exitLayers[0]).toBe(4);
      expect(row.layers).toBe(4);
      expect(row.text).toBe(tokenizer.decode(row.ids));
    }
    expect(stats.meanExitLayer).toBeLessThan(4);
  });

  it("streams whole characters that make the same text", async () => {
    const pieces: string[] = [];
    const options = { maxNewTokens: 30, temperature: 1.5, seed: 4 };
    for await (const { text } of model.stream("hello", options)) pieces.push(text);
    const { text } = await model.generate("hello", options);
    expect(pieces.join("")).toBe(text);
    expect(pieces.length).toBeGreaterThan(5);
    expect(model.inUse).toEqual({ batches: 0, cacheBytes: 0 });
  });

  it("drops no unfinished character at the end, and decodes a few tokens at a time", async () => {
    let longest = 0;
    const counting = {
      ...tokenizer,
      decode(ids: readonly number[]) {
        longest = Math.max(longest, ids.length);
        return tokenizer.decode(ids);
      },
    };
    // Every token is the first half of a character.
    const params = { ...decoder.params };
    const head = params["backbone.lm_head.weight"] as { readonly shape: readonly number[] };
    const data = new Float32Array(32 * 16);
    params["backbone.lm_head.weight"] = { dtype: "float32", shape: head.shape, data };
    const opened = await CausalLM.open({ ...decoder, params, tokenizer: counting }, { threads: 1 });
    const pieces: string[] = [];
    for await (const { text } of opened.stream("a", { maxNewTokens: 40, stopTokens: [] }))
      pieces.push(text);
    expect(longest).toBeLessThan(5);
    expect(pieces).toHaveLength(40);
    expect(pieces.join("")).toBe(
      (await opened.generate("a", { maxNewTokens: 40, stopTokens: [] })).text,
    );
    await opened.dispose();
    const halves = await CausalLM.open(
      {
        ...decoder,
        params,
        tokenizer: { ...tokenizer, decode: (ids) => tokenizer.decode(ids.map(() => 30)) },
      },
      { threads: 1 },
    );
    const parts: string[] = [];
    for await (const { text } of halves.stream("a", { maxNewTokens: 1 })) parts.push(text);
    expect(parts.join("")).toBe("\uFFFD");
    await halves.dispose();
  });

  it("refuses a policy that nobody trained", async () => {
    const opening = CausalLM.open(decoder, { threads: 1, strategy: consistentEEDecoder() });
    await expect(opening).rejects.toMatchObject({ code: "NOT_TRAINED", who: "strategy" });
  });

  it("changes the knob of its strategy, never the strategy nor what was compiled with it", async () => {
    const never = calm({ threshold: 2 });
    expect((await model.generate("a", { strategy: never, maxNewTokens: 9 })).meanExitLayer).toBe(4);
    await expect(model.generate("a", { strategy: alwaysAt({ layer: 2 }) })).rejects.toMatchObject({
      code: "BAD_OPTION",
    });
    await expect(model.generate("a", { strategy: calm({ decay: "none" }) })).rejects.toThrow(
      /calm's decay was fixed at "paper" when the model was opened, got "none".*a call may change threshold/,
    );
  });

  it("runs ConsistentEE's policies at every layer below the last", async () => {
    const rule = consistentEEDecoder();
    const params = rule.definition.params?.(decoder.shape, rule.options, 1) ?? {};
    const opened = await CausalLM.open(decoder, {
      threads: 1,
      strategy: rule,
      strategyParams: params,
    });
    const at = (threshold: number) =>
      opened.generate("a", { strategy: consistentEEDecoder({ threshold }), maxNewTokens: 9 });
    expect((await at(0)).meanExitLayer).toBe(1);
    expect((await at(1)).meanExitLayer).toBe(4);
    await opened.dispose();
    await expect(opened.generate("a")).rejects.toMatchObject({ code: "DISPOSED" });
  });
});

describe("a cancelled generation", () => {
  it.each(["copy", "recompute", "verify"] as const)(
    "frees everything it held, keys and values by %s",
    async (keyValues) => {
      const sessions = watchSessions();
      const own = await CausalLM.open(decoder, {
        threads: 1,
        runtime: "onnxruntime-node",
        strategy: calm({ threshold: 0.3 }),
      });
      const options = { keyValues, maxNewTokens: 30 };
      // What is compiled when it is first needed stays with the model.
      await own.generateBatch(["hello", "a"], options);
      const before = { tensors: tf.memory().numTensors, sessions: sessions.size };
      expect(before.sessions).toBeGreaterThan(0);
      const abort = new AbortController();
      let seen = 0;
      const stream = async () => {
        for await (const _ of own.stream("hello", { ...options, signal: abort.signal })) {
          expect(own.inUse.batches).toBe(1);
          expect(own.inUse.cacheBytes).toBeGreaterThan(0);
          seen += 1;
          if (seen === 2) abort.abort(new Error("enough"));
        }
      };
      await expect(stream()).rejects.toThrow("enough");
      for await (const _ of own.stream("hello", options)) break;
      expect(own.inUse).toEqual({ batches: 0, cacheBytes: 0 });
      expect({ tensors: tf.memory().numTensors, sessions: sessions.size }).toEqual(before);
      await own.dispose();
      expect(sessions.size).toBe(0);
    },
  );

  /** Tells of every decision, so that a text can be cancelled between two layers of a token. */
  let onDecision = (): void => {};
  const told = defineExitStrategy({
    name: "told",
    options: v.object({}),
    needs: ["hidden"],
    tasks: ["generation"],
    start: () => ({}),
    observe: ({ hidden }) => tf.sum<tf.Tensor1D>(hidden, 1),
    decide: ([sum], state, { site }) => {
      onDecision();
      return { exit: site.layer > 1 && (sum as number) > 0, state };
    },
  });

  it.each(["copy", "recompute", "verify"] as const)(
    "in the middle of a token or of a draft frees every row of a batch, keys and values by %s",
    async (keyValues) => {
      const sessions = watchSessions();
      const own = await CausalLM.open(decoder, {
        threads: 1,
        runtime: "onnxruntime-node",
        strategy: told(),
      });
      const most = { keyValues, maxNewTokens: 24, draftLength: 3 };
      const batch = ["hello", "a", "early exit"];
      // A token that ends one row before the others.
      const [first] = (await own.generateBatch(batch, most)).rows;
      const options = { ...most, stopTokens: [first?.ids[7] as number] };
      let decisions = 0;
      let isHolding = false;
      onDecision = () => {
        decisions += 1;
        isHolding ||= own.inUse.cacheBytes > 0;
      };
      const { stats, rows } = await own.generateBatch(batch, options);
      // Drafts were confirmed and dropped, and rows ended at different times.
      if (keyValues === "verify") expect(stats.drafted).toBeGreaterThan(stats.accepted);
      expect(new Set(rows.map(({ ids }) => ids.length)).size).toBeGreaterThan(1);
      expect(isHolding).toBe(true);
      const all = decisions;
      const before = { tensors: tf.memory().numTensors, sessions: sessions.size };
      for (let share = 0; share < 8; share += 1) {
        const abort = new AbortController();
        const at = 1 + Math.floor((share * (all - 1)) / 8);
        decisions = 0;
        onDecision = () => {
          decisions += 1;
          if (decisions !== at) return;
          // By turns at once, and while the next layer runs.
          if (share % 2 === 0) abort.abort(new Error("enough"));
          else setImmediate(() => abort.abort(new Error("enough")));
        };
        await expect(
          own.generateBatch(batch, { ...options, signal: abort.signal }),
        ).rejects.toThrow("enough");
        expect(decisions).toBeLessThan(all);
        expect(own.inUse).toEqual({ batches: 0, cacheBytes: 0 });
        expect({ tensors: tf.memory().numTensors, sessions: sessions.size }).toEqual(before);
      }
      onDecision = () => {};
      expect((await own.generateBatch(batch, options)).rows).toEqual(rows);
      await own.dispose();
      expect(sessions.size).toBe(0);
    },
  );

  it("that never began, or whose model is disposed of under it, holds nothing", async () => {
    const sessions = watchSessions();
    const own = await CausalLM.open(decoder, { threads: 1, runtime: "onnxruntime-node" });
    const signal = AbortSignal.abort(new Error("never"));
    await expect(own.generate("a", { signal })).rejects.toThrow("never");
    expect(own.inUse).toEqual({ batches: 0, cacheBytes: 0 });
    const stream = own.stream("hello", { maxNewTokens: 30, stopTokens: [] });
    await stream.next();
    expect(own.inUse.batches).toBe(1);
    await own.dispose();
    expect(own.inUse).toEqual({ batches: 0, cacheBytes: 0 });
    expect(sessions.size).toBe(0);
    await expect(stream.next()).rejects.toMatchObject({ code: "DISPOSED" });
  });

  it("says that the model was disposed of while it ran", async () => {
    const own = await CausalLM.open(decoder, { threads: 1 });
    const running = own.generate("hello", { maxNewTokens: 30, stopTokens: [] });
    const ended = own.dispose();
    await expect(running).rejects.toMatchObject({ code: "DISPOSED" });
    await ended;
  });
});

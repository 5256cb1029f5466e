/** @file The front door of generation, and the program of docs/generation.md. */
import { createCausalDecoder, createLlamaConfig, type DecoderTokenizer } from "@cee/backbone";
import { alwaysAt, calm } from "@cee/exit-policies";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CausalLM, consistentEEDecoder } from "../src/index.js";

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
    expect(text.startsWith(pieces.join(""))).toBe(true);
    expect(pieces.length).toBeGreaterThan(5);
    expect(model.inUse).toEqual({ batches: 0, cacheBytes: 0 });
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

/** @file The compiled decoder and the token loop, on the golden model. */
import { copyFileSync, existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createEngine, createRng, type Engine, type HostTensor } from "@cee/engine";
import {
  alwaysAt,
  calm,
  calmState,
  type DeepComparison,
  type ExitStrategy,
  type GeneratedToken,
  type GenerateTokensOptions,
  type GenerationStats,
  generateTokens,
  toObserver,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CausalDecoder, createCausalDecoder, withOwnHeads } from "../src/decoder/decoder.js";
import { loadCausalDecoder, saveCausalDecoder, toLlamaName } from "../src/decoder/folder.js";
import { type DecoderRunner, type OpenDecoderOptions, openDecoder } from "../src/decoder/open.js";
import {
  emptyLlamaCache,
  type LlamaInputs,
  llama,
  llamaBlock,
  llamaEmbed,
  llamaFrame,
} from "../src/llama.js";
import { createLlamaConfig } from "../src/llama-config.js";
import { writeSafetensors } from "../src/safetensors.js";
import { toTensors } from "../src/testing.js";
import { golden, goldenModel, stepInputs } from "./helpers/llama.js";
import { scratchFolder } from "./helpers/scratch.js";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 1 });
});
afterAll(() => engine.dispose());

function goldenDecoder(tied: boolean): CausalDecoder {
  const { config, params } = goldenModel(tied);
  const shape = {
    task: "generation" as const,
    depth: config.depth,
    hidden: config.hidden,
    classes: config.vocabSize,
  };
  const { depth } = config;
  return {
    config,
    shape,
    heads: "shared",
    params,
    tokenizer: undefined,
    trainedHeads: [depth],
    notes: [],
  };
}

/** Six layers, deep enough for tokens that leave at different ones; weights large enough to be decided. */
const deep = createCausalDecoder({
  config: createLlamaConfig({
    vocabSize: 40,
    hidden: 16,
    depth: 6,
    heads: 4,
    kvHeads: 2,
    intermediate: 24,
    maxPositions: 160,
    initializerRange: 0.35,
  }),
  seed: 5,
});

interface Run {
  readonly tokens: readonly GeneratedToken[];
  readonly stats: GenerationStats;
}

async function collect(
  runner: DecoderRunner,
  prompts: readonly (readonly number[])[],
  options: GenerateTokensOptions,
  seeds: readonly number[] = prompts.map((_, row) => row),
): Promise<Run> {
  const tokens: GeneratedToken[] = [];
  const loop = generateTokens(
    runner,
    prompts.map((ids, row) => ({ ids, random: createRng(seeds[row] as number).next })),
    options,
  );
  for (;;) {
    const { value, done } = await loop.next();
    if (done) return { tokens, stats: value };
    tokens.push(value);
  }
}

const idsOf = ({ tokens }: Run, row = 0) =>
  tokens.filter((token) => token.row === row).map(({ id }) => id);
const layersOf = ({ tokens }: Run, row = 0) =>
  tokens.filter((token) => token.row === row).map(({ layer }) => layer);

const opened = new Map<string, Promise<DecoderRunner>>();
function open(decoder: CausalDecoder, strategy?: ExitStrategy, exits?: readonly number[]) {
  const key = `${decoder.heads} ${decoder.shape.depth} ${strategy?.name} ${exits}`;
  const options: OpenDecoderOptions = { observer: strategy && toObserver(strategy), exits };
  const known = opened.get(key) ?? openDecoder(engine, decoder, options);
  opened.set(key, known);
  return known;
}

const prompts = [
  [3, 7, 11, 2, 30],
  [25, 1],
  [4, 4, 9, 17, 5, 6, 8, 33, 12],
];

describe("the compiled decoder", () => {
  const texts = golden.cases.flatMap(({ tied, texts: all }) =>
    all.map((text) => ({ ...text, tied })),
  );

  it.each(texts)("gives PyTorch's logits for $ids.length tokens, tied: $tied", async (text) => {
    const decoder = goldenDecoder(text.tied);
    const runner = await openDecoder(engine, decoder, { exits: [1] });
    const pass = runner.begin(1, { maxTokens: 32 });
    const states: number[] = [];
    for (const piece of [text.ids.slice(0, 3), text.ids.slice(3)]) {
      pass.append(0, piece);
      await pass.advance([0], 1);
      const [out] = await pass.advance([0], 2);
      states.push(...(out?.states ?? []));
    }
    expect(states).toBeAllclose(text.hidden, { rtol: 1e-4, atol: 1e-4 });
    const logits = await pass.project(2, Float32Array.from(states));
    expect(logits).toBeAllclose(text.logits, { rtol: 1e-3, atol: 1e-3 });
    await runner.dispose();
  });

  it("gives rows of other lengths what they get alone", async () => {
    const runner = await open(deep);
    const together = await collect(runner, prompts, { maxNewTokens: 70 });
    for (const [row, prompt] of prompts.entries()) {
      const alone = await collect(runner, [prompt], { maxNewTokens: 70 });
      expect(idsOf(together, row)).toEqual(idsOf(alone));
    }
    expect(together.stats.meanExitLayer).toBe(6);
    expect(together.tokens.filter(({ isFromPrompt }) => isFromPrompt)).toHaveLength(3);
  });
});

describe("tokens that leave early", () => {
  const strategy = calm({ threshold: 0.35, decay: "none" });

  it.each(["copy", "recompute", "verify"] as const)(
    "in a batch leave where they do alone: %s",
    async (keyValues) => {
      const runner = await open(deep, strategy);
      const options = { strategy, keyValues, maxNewTokens: 40, stopTokens: [13] };
      const together = await collect(runner, prompts, options);
      for (const [row, prompt] of prompts.entries()) {
        const alone = await collect(runner, [prompt], options);
        expect(idsOf(together, row)).toEqual(idsOf(alone));
        expect(layersOf(together, row)).toEqual(layersOf(alone));
      }
      const layers = together.tokens.filter((t) => !t.isFromPrompt).map(({ layer }) => layer);
      expect(new Set(layers).size).toBeGreaterThan(2);
      const mean = layers.reduce((sum, layer) => sum + layer, 0) / layers.length;
      expect(together.stats.meanExitLayer).toBeCloseTo(mean, 10);
      expect(together.stats.exitHistogram.reduce((sum, n) => sum + n, 0)).toBe(layers.length);
    },
  );

  it("fill skipped layers in one call or in one for every exit, with the same text", async () => {
    const observer = toObserver(strategy);
    const options = { strategy, maxNewTokens: 40 };
    const texts = [];
    for (const maxFillBytes of [0, 2 ** 20]) {
      const runner = await openDecoder(engine, deep, { observer, maxFillBytes });
      texts.push((await collect(runner, prompts, options)).tokens);
      await runner.dispose();
    }
    expect(texts[1]).toEqual(texts[0]);
  });

  it.each([1, 3])("verify %i drafts to full depth's text, token for token", async (draftLength) => {
    const full = await collect(await open(deep), prompts, { maxNewTokens: 50 });
    for (const rule of [alwaysAt({ layer: 2 }), calm({ threshold: 0.2 })]) {
      const runner = await open(deep, rule, rule.name === "always-at" ? [2] : undefined);
      const drafted = await collect(runner, prompts, {
        strategy: rule,
        keyValues: "verify",
        maxNewTokens: 50,
        draftLength,
      });
      for (const row of prompts.keys()) expect(idsOf(drafted, row)).toEqual(idsOf(full, row));
      expect(drafted.stats.drafted).toBeGreaterThan(20);
      expect(drafted.stats.accepted).toBeGreaterThan(0);
      expect(drafted.stats.accepted).toBeLessThan(drafted.stats.drafted);
    }
  });

  it("leave exact keys and values behind when they are recomputed", async () => {
    // Tokens leave at layer 2 but for every fourth, which then must see what full depth would have left.
    const runner = await open(deep, alwaysAt({ layer: 2 }), [2]);
    const reference = await open(deep);
    const text = [3, 7, 11, 2, 30, 8, 9, 21, 22];
    const pass = runner.begin(1, { maxTokens: 20 });
    for (const id of text) {
      pass.append(0, [id]);
      await pass.advance([0], 2);
    }
    const [late] = await pass.advance([0], 6);
    const whole = reference.begin(1, { maxTokens: 20 });
    whole.append(0, text);
    const [at] = await whole.advance([0], 6);
    expect(late?.count).toBe(text.length);
    expect(late?.states).toBeAllclose(at?.states as Float32Array, { rtol: 1e-4, atol: 1e-4 });
    pass.dispose();
    whole.dispose();
  });

  it("copy the state they left with into the layers they skip", async () => {
    const runner = await open(deep, alwaysAt({ layer: 2 }), [2]);
    const run = await collect(runner, [prompts[0] as number[]], {
      strategy: alwaysAt({ layer: 2 }),
      maxNewTokens: 12,
    });
    expect(layersOf(run)).toEqual([6, ...new Array(11).fill(2)]);
    expect(run.stats.tokenLayers).toBe(22);
  });

  it("leave in skipped layers what those blocks make of the state, each behind its own norm", async () => {
    await tf.setBackend("cpu");
    const [prompt, early, late] = [[3, 7, 11], 8, 21];
    const { config } = deep;
    const params = toTensors(deep.params);
    const inputs = (ids: number[], past: number) =>
      toTensors(stepInputs([ids], past)) as unknown as LlamaInputs;
    let caches = llama(params, inputs(prompt, 0), emptyLlamaCache(1, config), config).caches;
    const through = (id: number, past: number, leavesAt: number) => {
      const step = inputs([id], past);
      const frame = llamaFrame(step, config);
      let hidden = llamaEmbed(params, step.ids);
      caches = caches.map((cache, index) => {
        const result = llamaBlock(params, index + 1, hidden, cache, frame, config);
        if (index + 1 <= leavesAt) hidden = result.hidden;
        return result.cache;
      });
      return hidden;
    };
    through(early, 3, 2);
    const expected = through(late, 4, 6).dataSync();

    const runner = await open(deep, alwaysAt({ layer: 2 }), [2]);
    const pass = runner.begin(1, { maxTokens: 8 });
    pass.append(0, prompt);
    for (const layer of [2, 6]) await pass.advance([0], layer);
    pass.append(0, [early]);
    await pass.advance([0], 2);
    await pass.copyUp([0]);
    pass.append(0, [late]);
    await pass.advance([0], 2);
    const [out] = await pass.advance([0], 6);
    pass.dispose();
    expect(out?.count).toBe(1);
    expect(out?.states).toBeAllclose(expected, { rtol: 1e-4, atol: 1e-4 });
  });

  it("are compared with full depth's tokens when it catches up", async () => {
    const strategy = calm({ threshold: 0.35, decay: "none" });
    const prompt = prompts[0] as number[];
    const seen: DeepComparison[] = [];
    const run = await collect(await open(deep, strategy), [prompt], {
      strategy,
      keyValues: "recompute",
      maxNewTokens: 30,
      onDeep: (comparison) => seen.push(comparison),
    });
    const ids = idsOf(run);
    const reference = await open(deep);
    expect(seen.length).toBeGreaterThan(5);
    for (const { position, shallowToken, deepToken, observed } of seen) {
      expect(shallowToken).toBe(ids[position]);
      expect(layersOf(run)[position]).toBeLessThan(6);
      expect(observed[0]).toBeGreaterThanOrEqual(Math.fround(0.35));
      const context = [...prompt, ...ids.slice(0, position)];
      expect(idsOf(await collect(reference, [context], { maxNewTokens: 1 }))).toEqual([deepToken]);
    }
  });

  it("compare states with those of the exit before, never at the first", async () => {
    const rule = calmState({ threshold: 0, decay: "none" });
    const run = await collect(await open(deep, rule), [prompts[0] as number[]], {
      strategy: rule,
      maxNewTokens: 30,
    });
    expect(Math.min(...layersOf(run))).toBe(2);
  });
});

describe("sampling", () => {
  it("depends on the seed and the row's own text alone", async () => {
    const runner = await open(deep);
    const options = { temperature: 1, topK: 20, topP: 0.9, maxNewTokens: 30 };
    const together = await collect(runner, prompts, options, [1, 2, 3]);
    const again = await collect(runner, [prompts[1] as number[]], options, [2]);
    const other = await collect(runner, [prompts[1] as number[]], options, [9]);
    expect(idsOf(together, 1)).toEqual(idsOf(again));
    expect(idsOf(other)).not.toEqual(idsOf(again));
  });
});

describe("memory", () => {
  it("is freed by a cancelled generation", async () => {
    const runner = await open(deep, calm());
    const before = tf.memory().numTensors;
    const abort = new AbortController();
    let seen = 0;
    const loop = (async () => {
      for await (const _ of generateTokens(runner, [{ ids: [1, 2, 3] }], {
        maxNewTokens: 100,
        signal: abort.signal,
      })) {
        expect(runner.openPasses).toBe(1);
        expect(runner.cacheBytes).toBeGreaterThan(0);
        seen += 1;
        if (seen === 5) abort.abort(new Error("enough"));
      }
    })();
    await expect(loop).rejects.toThrow("enough");
    expect(seen).toBe(5);
    for await (const _ of generateTokens(runner, [{ ids: [1, 2] }])) break;
    expect([runner.openPasses, runner.cacheBytes]).toEqual([0, 0]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it("is refused beyond its limit, before anything is reserved", async () => {
    const runner = await openDecoder(engine, deep, { maxCacheBytes: 80_000 });
    const loop = generateTokens(runner, [{ ids: [1] }, { ids: [1] }], { maxNewTokens: 100 });
    await expect(loop.next()).rejects.toMatchObject({
      code: "CACHE_TOO_LARGE",
      message: expect.stringMatching(
        /2 texts of up to 101 tokens may take 80000 bytes, got a need of 86016/,
      ),
    });
    await runner.dispose();
  });

  it("that cannot be had is an error that says how much, whatever was allowed", async () => {
    const positions = 2 ** 20;
    const wide = createCausalDecoder({
      config: createLlamaConfig({
        vocabSize: 4,
        hidden: 8,
        depth: 1,
        heads: 4,
        headSize: 1024,
        intermediate: 8,
        maxPositions: positions,
      }),
      seed: 1,
    });
    const runner = await openDecoder(engine, wide, { maxCacheBytes: Number.POSITIVE_INFINITY });
    // 2^49 bytes are more than any process can address.
    const pass = runner.begin(2 ** 14, { maxTokens: positions });
    expect(() => pass.append(0, new Int32Array(positions))).toThrow(
      expect.objectContaining({
        code: "CACHE_TOO_LARGE",
        message: expect.stringMatching(/16384 texts of 1048576 tokens need 562949953421312 bytes/),
      }),
    );
    pass.dispose();
    expect([runner.openPasses, runner.cacheBytes]).toEqual([0, 0]);
    await runner.dispose();
  });
});

describe("bad input", () => {
  it.each([
    ["without tokens", [], "BAD_PROMPT", /at least one token, got none/],
    ["beyond the positions", new Array(161).fill(1), "BAD_PROMPT", /at most 160 tokens.*got 161/],
    ["with a foreign id", [1, 40], "BAD_PROMPT", /0 to 39\), got 40/],
  ] as const)("a prompt %s is refused", async (_, ids, code, message) => {
    const loop = generateTokens(await open(deep), [{ ids }]);
    await expect(loop.next()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  it("a text that fills the positions ends there and says so", async () => {
    const run = await collect(await open(deep), [new Array(158).fill(1)], { maxNewTokens: 9 });
    expect(run.tokens).toHaveLength(3);
    expect(run.stats.finishReasons).toEqual(["positions"]);
  });

  it("logits that are NaN end the text with an error that names place and layer", async () => {
    const params = { ...deep.params };
    const norm = params["backbone.norm.weight"];
    if (!norm) throw new Error("no norm");
    params["backbone.norm.weight"] = { ...norm, data: new Float32Array(16).fill(Number.NaN) };
    const runner = await openDecoder(engine, { ...deep, params });
    await expect(generateTokens(runner, [{ ids: [1] }]).next()).rejects.toMatchObject({
      code: "NOT_FINITE",
      message: expect.stringMatching(
        /prompt 1.*token 1 must be finite, got NaN for id 0 at layer 6/,
      ),
    });
    expect(runner.openPasses).toBe(0);
    await runner.dispose();
  });

  it("logits that are NaN at one exit let no token go there, and are counted", async () => {
    const path = "heads.2.weight";
    const own = withOwnHeads(deep);
    const head = own.params[path] as HostTensor;
    const data = new Float32Array(head.data.length).fill(Number.NaN);
    const broken = { ...own, params: { ...own.params, [path]: { ...head, data } } };
    const rule = calm({ threshold: 0, decay: "none" });
    const options = { observer: toObserver(rule), exits: [2, 4] };
    const runner = await openDecoder(engine, { ...broken, trainedHeads: [2, 4, 6] }, options);
    const run = await collect(runner, prompts, { strategy: rule, maxNewTokens: 8 });
    expect(run.stats.exitHistogram).toEqual([0, 0, 0, 21, 0, 0]);
    expect(run.stats.nonFinite).toBe(21);
    await runner.dispose();
  });
});

describe("folders", () => {
  it("round-trip with heads of every layer's own", async () => {
    const folder = join(scratchFolder(), "model");
    const own = { ...withOwnHeads(deep), trainedHeads: [3, 6] };
    await saveCausalDecoder(own, folder);
    const loaded = await loadCausalDecoder(folder);
    expect(loaded.heads).toBe("per-layer");
    expect(loaded.trainedHeads).toEqual([3, 6]);
    expect({ ...loaded.config, extra: {} }).toEqual(own.config);
    expect(loaded.params).toEqual(own.params);
    const rule = alwaysAt({ layer: 2 });
    const runner = await open(loaded, rule);
    await expect(
      generateTokens(runner, [{ ids: [1] }], { strategy: rule }).next(),
    ).rejects.toMatchObject({
      code: "NOT_TRAINED",
      message: expect.stringMatching(/at layers 1, 2, 4, 5/),
    });
    // Where tokens may leave at trained layers only, the others do not matter.
    const late = alwaysAt({ layer: 3 });
    const run = await collect(await open(loaded, late, [3]), prompts, {
      strategy: late,
      maxNewTokens: 4,
    });
    expect(run.stats.meanExitLayer).toBe(3);
    expect((await collect(await open(loaded), prompts, { maxNewTokens: 4 })).stats).toMatchObject({
      meanExitLayer: 6,
    });
  });

  it("are read from shards, and refused where they lie", async () => {
    const folder = join(scratchFolder(), "shards");
    await saveCausalDecoder(deep, folder);
    const named = Object.entries(deep.params).map(
      ([path, tensor]) => [toLlamaName(path), tensor] as const,
    );
    const half = named.length >> 1;
    const shards = [named.slice(0, half), named.slice(half)];
    const map: Record<string, string> = {};
    shards.forEach((shard, index) => {
      const name = `model-${index + 1}.safetensors`;
      writeSafetensors(join(folder, name), Object.fromEntries(shard));
      for (const [tensor] of shard) map[tensor] = name;
    });
    const { rmSync } = await import("node:fs");
    rmSync(join(folder, "model.safetensors"));
    writeFileSync(
      join(folder, "model.safetensors.index.json"),
      JSON.stringify({ weight_map: map }),
    );
    expect((await loadCausalDecoder(folder)).params).toEqual(deep.params);

    truncateSync(join(folder, "model-2.safetensors"), 2000);
    await expect(loadCausalDecoder(folder)).rejects.toMatchObject({
      code: "BAD_FILE",
      who: join(folder, "model-2.safetensors"),
      message: expect.stringMatching(/got a file of 2000 bytes/),
    });
    const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
    writeFileSync(join(folder, "config.json"), JSON.stringify({ ...config, model_type: "gpt2" }));
    await expect(loadCausalDecoder(folder)).rejects.toMatchObject({
      code: "UNSUPPORTED_MODEL",
      message: expect.stringMatching(/config.json.*model_type must be "llama", got "gpt2"/),
    });
    await expect(loadCausalDecoder(join(folder, "nowhere"))).rejects.toMatchObject({
      code: "MISSING_FILE",
    });
  });

  /** In the layout of LLaMA's tokenizer.json. */
  function llamaTokenizer(size: number): object {
    const pieces = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581ab"];
    const filler = Array.from({ length: size - pieces.length }, (_, index) => `x${index}`);
    const special = (content: string, id: number) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    });
    return {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: ["<unk>", "<s>", "</s>"].map(special),
      normalizer: {
        type: "Sequence",
        normalizers: [
          { type: "Prepend", prepend: "\u2581" },
          { type: "Replace", pattern: { String: " " }, content: "\u2581" },
        ],
      },
      pre_tokenizer: null,
      post_processor: {
        type: "TemplateProcessing",
        single: [
          { SpecialToken: { id: "<s>", type_id: 0 } },
          { Sequence: { id: "A", type_id: 0 } },
        ],
        pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
        special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
      },
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: "\u2581" }, content: " " },
          { type: "Fuse" },
          { type: "Strip", content: " ", start: 1, stop: 0 },
        ],
      },
      model: {
        type: "BPE",
        unk_token: "<unk>",
        fuse_unk: true,
        byte_fallback: false,
        vocab: Object.fromEntries([...pieces, ...filler].map((piece, id) => [piece, id])),
        merges: ["a b", "\u2581 ab"],
      },
    };
  }

  it("read a text in spite of ids without a piece, as padded vocabularies have", async () => {
    const folder = join(scratchFolder(), "padded");
    await saveCausalDecoder(deep, folder);
    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(llamaTokenizer(32)));
    const { tokenizer } = await loadCausalDecoder(folder);
    expect(tokenizer?.decode([1, 7, 39, 3, 5])).toBe("ab b");
  });

  it("are read with their tokenizer.json, and refused with one of a larger vocabulary", async () => {
    const folder = join(scratchFolder(), "tokenizer");
    await saveCausalDecoder(deep, folder);
    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(llamaTokenizer(40)));
    const { tokenizer } = await loadCausalDecoder(folder);
    expect(tokenizer?.encode("ab b")).toEqual([1, 7, 3, 5]);
    expect(tokenizer?.decode([1, 7, 3, 5, 2])).toBe("ab b");

    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(llamaTokenizer(41)));
    await expect(loadCausalDecoder(folder)).rejects.toMatchObject({
      code: "BAD_TOKENIZER",
      message: expect.stringMatching(/tokenizer.json.*vocabulary of 40, got ids up to 40/),
    });
  });
});

const stories = join(process.env.CEE_DATA_DIR ?? "", "models", "stories260K");

describe.skipIf(!process.env.CEE_DATA_DIR || !existsSync(stories))(
  "the real stories260K (CEE_DATA_DIR)",
  () => {
    it("writes its known text, also when it drafts with three of five layers", async () => {
      const folder = scratchFolder();
      for (const name of ["stories260K.bin", "tok512.bin"])
        copyFileSync(join(stories, name), join(folder, name));
      const model = await loadCausalDecoder(join(folder, "stories260K.bin"));
      const runner = await openDecoder(engine, model);
      const full = await collect(runner, [[1]], { maxNewTokens: 200 });
      const text = model.tokenizer?.decode([1, ...idsOf(full)]);
      expect(text).toMatch(
        /^Once upon a time, there was a little girl named Lily. She loved to play outside in the park./,
      );
      const rule = alwaysAt({ layer: 3 });
      const drafting = await openDecoder(engine, model, { observer: toObserver(rule), exits: [3] });
      const drafted = await collect(drafting, [[1]], {
        strategy: rule,
        keyValues: "verify",
        maxNewTokens: 200,
      });
      expect(idsOf(drafted)).toEqual(idsOf(full));
      await runner.dispose();
      await drafting.dispose();
    });
  },
);

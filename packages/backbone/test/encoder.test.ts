import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HostTensor } from "@cee/engine";
import { describe, expect, it } from "vitest";
import { bertParameters } from "../src/bert.js";
import { createBertConfig, toBertConfigJson } from "../src/config.js";
import { createExitEncoder, type ExitEncoder, requireTrainedHeads } from "../src/encoder.js";
import { loadExitEncoder, saveExitEncoder } from "../src/encoder-folder.js";
import { BackboneError } from "../src/errors.js";
import { resolveHead } from "../src/heads/registry.js";
import { readSafetensors, writeSafetensors } from "../src/safetensors.js";
import { tinyBert } from "../src/testing.js";
import { createWordPieceTokenizer } from "../src/tokenizer.js";
import { createWordVocabulary } from "../src/word-piece.js";
import { scratchFolder } from "./helpers/scratch.js";

type Tensors = Record<string, HostTensor>;

async function errorOf(action: () => unknown): Promise<BackboneError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof BackboneError) return error;
    throw error;
  }
  throw new Error("expected an error");
}

/** A folder as other programs write it, after `change` has been at its tensors. */
function writePlain(model: ExitEncoder, change: (tensors: Tensors) => Tensors = (t) => t): string {
  const folder = scratchFolder();
  const backbone: Tensors = Object.fromEntries(
    Object.entries(model.params)
      .filter(([path]) => path.startsWith("backbone."))
      .map(([path, tensor]) => [path.replace("backbone.", "bert."), tensor]),
  );
  writeSafetensors(join(folder, "model.safetensors"), change(backbone));
  writeFileSync(join(folder, "config.json"), JSON.stringify(toBertConfigJson(model.config)));
  return folder;
}

const rename = (tensors: Tensors, change: (name: string) => string): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [change(name), tensor]));

describe("fresh encoders", () => {
  it("follow BERT's initialisation", () => {
    const config = createBertConfig({ vocabSize: 300, hidden: 64, depth: 2, heads: 4 });
    const { params } = createExitEncoder({ config, classes: 2, seed: 3 });
    const spread = (path: string) => {
      const data = Array.from(params[path]?.data ?? []);
      const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
      return [mean, Math.sqrt(data.reduce((sum, v) => sum + (v - mean) ** 2, 0) / data.length)];
    };
    for (const path of [
      "backbone.embeddings.word_embeddings.weight",
      "backbone.encoder.layer.1.intermediate.dense.weight",
    ]) {
      const [mean, deviation] = spread(path) as [number, number];
      expect(Math.abs(mean)).toBeLessThan(0.001);
      expect(Math.abs(deviation - 0.02)).toBeLessThan(0.0006);
    }
    const all = (path: string) => new Set(params[path]?.data);
    expect(all("backbone.encoder.layer.0.output.LayerNorm.weight")).toEqual(new Set([1]));
    expect(all("backbone.encoder.layer.0.output.LayerNorm.bias")).toEqual(new Set([0]));
    expect(all("backbone.encoder.layer.0.output.dense.bias")).toEqual(new Set([0]));
    const words = params["backbone.embeddings.word_embeddings.weight"]?.data;
    expect(words?.slice(0, 64)).toEqual(new Float32Array(64));
    expect(words?.[64]).not.toBe(0);
  });

  it("depend on the seed, and a deeper one begins with the same blocks and heads", () => {
    const shallow = tinyBert({ depth: 2, seed: 5 }).params;
    expect(tinyBert({ depth: 2, seed: 5 }).params).toEqual(shallow);
    expect(tinyBert({ depth: 4, seed: 5 }).params).toMatchObject(shallow);
    const path = "backbone.encoder.layer.0.attention.self.query.weight";
    expect(tinyBert({ depth: 2, seed: 6 }).params[path]?.data).not.toEqual(shallow[path]?.data);
    expect(shallow[path]?.data).not.toEqual(shallow[path.replace("query", "key")]?.data);
  });

  it("have exactly the encoder's parameters and the heads'", () => {
    const model = tinyBert({ depth: 2 });
    const names = Object.keys(model.params);
    const backbone = names.filter((path) => path.startsWith("backbone."));
    expect(backbone).toEqual([...bertParameters(model.config).keys()]);
    expect(names.length - backbone.length).toBe(4);
    for (const { shape, data } of Object.values(model.params))
      expect(data.length).toBe(shape.reduce((product, size) => product * size, 1));
  });

  it("know their task", async () => {
    const config = createBertConfig({ vocabSize: 9, hidden: 4, depth: 1, heads: 1 });
    const make = (options: object) => createExitEncoder({ config, seed: 0, ...options });
    expect(make({ labels: ["no", "yes"] })).toMatchObject({
      shape: { task: "classification", classes: 2 },
      labels: ["no", "yes"],
    });
    expect(make({ regression: true }).shape).toEqual({
      task: "regression",
      depth: 1,
      hidden: 4,
      classes: 1,
    });
    for (const wrong of [
      {},
      { classes: 1 },
      { classes: 2.5 },
      { classes: 3, labels: ["a", "b"] },
      { regression: true, classes: 2 },
    ])
      expect((await errorOf(() => make(wrong))).code).toBe("BAD_OPTION");
    const tokenizer = createWordPieceTokenizer(createWordVocabulary([], 80));
    expect((await errorOf(() => make({ classes: 2, tokenizer }))).code).toBe("BAD_TOKENIZER");
  });
});

describe("checkpoints of other programs", () => {
  const model = tinyBert();
  const backboneOf = ({ params }: ExitEncoder) =>
    Object.fromEntries(Object.entries(params).filter(([path]) => path.startsWith("backbone.")));

  it.each<[string, (name: string) => string]>([
    ["bert. prefixes", (name) => name],
    ["no prefix", (name) => name.replace("bert.", "")],
    [
      "gamma and beta",
      (name) =>
        name
          .replace("LayerNorm.weight", "LayerNorm.gamma")
          .replace("LayerNorm.bias", "LayerNorm.beta"),
    ],
  ])("load with %s", async (_, change) => {
    const folder = writePlain(model, (tensors) => rename(tensors, change));
    const loaded = await loadExitEncoder(folder, { classes: 3, seed: 7 });
    expect(backboneOf(loaded)).toEqual(backboneOf(model));
    expect(loaded.trainedHeads).toEqual([]);
    expect(loaded.notes).toEqual([]);
    expect(loaded.params["heads.2.classifier.weight"]?.shape).toEqual([3, 8]);
    const error = await errorOf(() => requireTrainedHeads(loaded, "test"));
    expect(error.code).toBe("NOT_TRAINED");
    expect(error.message).toContain("layers 1, 2, 3");
  });

  it("load from shards, and say when a shard does not hold what the index says", async () => {
    const folder = writePlain(model);
    const { tensors } = readSafetensors(join(folder, "model.safetensors"));
    const names = Object.keys(tensors);
    const shards = [names.slice(0, 10), names.slice(10)];
    const map: Record<string, string> = {};
    shards.forEach((part, index) => {
      const file = `model-0000${index + 1}-of-00002.safetensors`;
      const own = part.map((name) => [name, tensors[name] as HostTensor] as const);
      writeSafetensors(join(folder, file), Object.fromEntries(own));
      for (const name of part) map[name] = file;
    });
    rmSync(join(folder, "model.safetensors"));
    const index = join(folder, "model.safetensors.index.json");
    const write = (weights: unknown) =>
      writeFileSync(index, JSON.stringify({ metadata: {}, weight_map: weights }));
    write(map);
    expect(backboneOf(await loadExitEncoder(folder, { classes: 2 }))).toEqual(backboneOf(model));
    const load = () => loadExitEncoder(folder, { classes: 2 });
    write({ ...map, ghost: "model-00001-of-00002.safetensors" });
    expect((await errorOf(load)).message).toContain("ghost");
    write({ ...map, ghost: "../../etc/passwd" });
    expect((await errorOf(load)).message).toContain("beside the index");
    write({ ...map, ghost: "model-00003-of-00002.safetensors" });
    expect((await errorOf(load)).code).toBe("MISSING_FILE");
    write(undefined);
    expect((await errorOf(load)).message).toContain("weight_map");
  });

  it("start a pooler where they have none, and report tensors nobody asked for", async () => {
    const folder = writePlain(model, (tensors) => ({
      ...Object.fromEntries(Object.entries(tensors).filter(([name]) => !name.includes("pooler"))),
      "cls.predictions.bias": { dtype: "float32", shape: [20], data: new Float32Array(20) },
      "bert.embeddings.position_ids": { dtype: "int32", shape: [1, 32], data: new Int32Array(32) },
    }));
    const { notes, params } = await loadExitEncoder(folder, { classes: 2, seed: 4 });
    expect(notes).toEqual([
      "not used: bert.embeddings.position_ids, cls.predictions.bias",
      "missing and initialised: bert.pooler.dense.weight, bert.pooler.dense.bias",
    ]);
    const path = "backbone.pooler.dense.weight";
    expect(params[path]).toEqual(tinyBert({ seed: 4 }).params[path]);
  });

  it("take a fine-tuned classifier as the last layer's head", async () => {
    const data = Float32Array.from({ length: 16 }, (_, index) => index);
    const folder = writePlain(model, (tensors) => ({
      ...tensors,
      "classifier.weight": { dtype: "float32", shape: [2, 8], data },
      "classifier.bias": { dtype: "float32", shape: [2], data: Float32Array.of(1, 2) },
    }));
    const loaded = await loadExitEncoder(folder, { classes: 2 });
    expect(loaded.params["heads.3.classifier.weight"]?.data).toEqual(data);
    expect(loaded.trainedHeads).toEqual([3]);
    const other = await loadExitEncoder(folder, { classes: 5 });
    expect(other.trainedHeads).toEqual([]);
    expect(other.notes).toEqual(["not used: classifier.bias, classifier.weight"]);
  });

  it.each<[string, (tensors: Tensors) => Tensors, string, string]>([
    [
      "lack tensors",
      (t) =>
        Object.fromEntries(Object.entries(t).filter(([name]) => !name.includes("layer.2.att"))),
      "MISSING_TENSOR",
      "10 of",
    ],
    [
      "have another width",
      (t) => ({
        ...t,
        "bert.encoder.layer.1.output.dense.bias": {
          dtype: "float32",
          shape: [7],
          data: new Float32Array(7),
        },
      }),
      "SHAPE_MISMATCH",
      "bert.encoder.layer.1.output.dense.bias must be [8] by config.json, got [7]",
    ],
    [
      "hold integers",
      (t) => ({
        ...t,
        "bert.pooler.dense.bias": { dtype: "int32", shape: [8], data: new Int32Array(8) },
      }),
      "BAD_FILE",
      "I32",
    ],
    [
      "name a tensor twice",
      (t) => ({ ...t, "pooler.dense.bias": t["bert.pooler.dense.bias"] as HostTensor }),
      "BAD_FILE",
      "are both backbone.pooler.dense.bias",
    ],
  ])("are refused when they %s", async (_, change, code, text) => {
    const folder = writePlain(model, change);
    const error = await errorOf(() => loadExitEncoder(folder, { classes: 2 }));
    expect(error.code).toBe(code);
    expect(error.message).toContain(text);
    expect(error.message).toContain(folder);
  });

  it("need a tokenizer that fits", async () => {
    const folder = writePlain(model);
    const words = createWordVocabulary(["far too many words"], 100);
    writeFileSync(join(folder, "vocab.txt"), words.join("\n"));
    const error = await errorOf(() => loadExitEncoder(folder, { classes: 2 }));
    expect(error.code).toBe("BAD_TOKENIZER");
    expect(error.message).toContain(join(folder, "vocab.txt"));
  });

  it("say what is missing from an empty folder", async () => {
    const folder = scratchFolder();
    expect((await errorOf(() => loadExitEncoder(folder))).message).toContain("config.json");
    writeFileSync(join(folder, "config.json"), JSON.stringify(toBertConfigJson(model.config)));
    expect((await errorOf(() => loadExitEncoder(folder))).message).toContain("model.safetensors");
  });
});

describe("saved encoders", () => {
  const tokenizer = createWordPieceTokenizer(createWordVocabulary(["good", "bad"], 90));

  it.each(["linear", "highway"])("come back the same with a %s head", async (head) => {
    const folder = join(scratchFolder(), "deep", "model");
    const model = tinyBert({ head, classes: 3, tokenizer });
    model.trainedHeads = [1, 3];
    await saveExitEncoder(model, folder);
    const again = await loadExitEncoder(folder);
    expect(again.params).toEqual(model.params);
    expect(again.shape).toEqual(model.shape);
    expect(again.head.name).toBe(head);
    expect(again.trainedHeads).toEqual([1, 3]);
    expect(again.labels).toBeUndefined();
    expect(again.notes).toEqual([]);
    expect(again.tokenizer?.encode("good bad").ids).toEqual(tokenizer.encode("good bad").ids);
    expect(readdirSync(folder).sort()).toEqual([
      ...["cee.json", "config.json", "exits.safetensors", "model.safetensors"],
      ...["tokenizer.json", "vocab.txt"],
    ]);
  });

  it("keep a regression, labels and half precision", async () => {
    const folder = scratchFolder();
    await saveExitEncoder(tinyBert({ regression: true }), folder);
    const regression = await loadExitEncoder(folder);
    expect(regression.shape).toMatchObject({ task: "regression", classes: 1 });
    const named = createExitEncoder({ ...tinyBert(), labels: ["bad", "good"], seed: 2 });
    await saveExitEncoder(named, folder, { floats: "F16" });
    const again = await loadExitEncoder(folder);
    expect(again.labels).toEqual(["bad", "good"]);
    for (const [path, { data }] of Object.entries(named.params))
      expect(again.params[path]?.data as Float32Array).toBeAllclose(data, {
        rtol: 5e-4,
        atol: 1e-7,
      });
  });

  it("are plain checkpoints to other programs, full depth included", async () => {
    const folder = scratchFolder();
    const model = tinyBert({ classes: 3 });
    await saveExitEncoder(model, folder);
    const { tensors, metadata } = readSafetensors(join(folder, "model.safetensors"));
    expect(metadata.format).toBe("pt");
    expect(tensors["classifier.weight"]).toEqual(model.params["heads.3.classifier.weight"]);
    expect(Object.keys(tensors).filter((name) => !/^(bert|classifier)\./.test(name))).toEqual([]);
    const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
    expect(config.id2label).toEqual({ 0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2" });
    expect(config.architectures).toEqual(["BertForSequenceClassification"]);
    const plain = await loadExitEncoder(folder, { freshHeads: true, classes: 4, seed: 9 });
    expect(plain.shape.classes).toBe(4);
    expect(plain.trainedHeads).toEqual([]);
  });

  it("give the same bytes when saved twice", async () => {
    const [first, second] = [scratchFolder(), scratchFolder()];
    for (const folder of [first, second]) await saveExitEncoder(tinyBert({ tokenizer }), folder);
    for (const name of readdirSync(first))
      expect(readFileSync(join(second, name)).equals(readFileSync(join(first, name)))).toBe(true);
  });

  it("are refused when their files come from two saves", async () => {
    const [folder, other] = [scratchFolder(), scratchFolder()];
    await saveExitEncoder(tinyBert({ seed: 1 }), folder);
    await saveExitEncoder(tinyBert({ seed: 2 }), other);
    for (const name of ["model.safetensors", "exits.safetensors"]) {
      const path = join(folder, name);
      const own = readFileSync(path);
      writeFileSync(path, readFileSync(join(other, name)));
      const error = await errorOf(() => loadExitEncoder(folder));
      expect(error.code).toBe("BAD_FILE");
      expect(error.message).toContain("another save");
      writeFileSync(path, own);
    }
    expect((await loadExitEncoder(folder)).shape.depth).toBe(3);
  });

  it("are refused with another head, task or format than they were saved with", async () => {
    const folder = scratchFolder();
    await saveExitEncoder(tinyBert(), folder);
    const load = (options?: object) => errorOf(() => loadExitEncoder(folder, options));
    expect((await load({ head: "highway" })).message).toContain("head linear, got highway");
    expect((await load({ classes: 3 })).message).toContain("classes 2, got 3");
    expect((await load({ regression: true })).code).toBe("BAD_OPTION");
    const path = join(folder, "cee.json");
    const description = JSON.parse(readFileSync(path, "utf8"));
    const change = (fields: object) =>
      writeFileSync(path, JSON.stringify({ ...description, ...fields }));
    change({ format: 2 });
    expect((await load()).message).toContain("format must be 1, got 2");
    change({ head: "gone" });
    expect((await load()).code).toBe("UNKNOWN_HEAD");
    change({ head: "highway" });
    expect((await load()).message).toContain("heads.1.pooler.weight must be [8, 8]");
    change({ classes: 3 });
    expect((await load()).code).toBe("SHAPE_MISMATCH");
    change({ trainedHeads: ["1"] });
    expect((await load()).message).toContain("trainedHeads");
  });

  it("name a head of another package, which the caller passes", async () => {
    const folder = scratchFolder();
    const mine = { ...resolveHead("linear"), name: "mine" };
    await saveExitEncoder(tinyBert({ head: mine }), folder);
    expect((await errorOf(() => loadExitEncoder(folder))).code).toBe("UNKNOWN_HEAD");
    expect((await loadExitEncoder(folder, { moreHeads: [mine] })).head).toBe(mine);
    expect((await loadExitEncoder(folder, { head: mine })).head).toBe(mine);
  });

  it("clear away what a killed save left", async () => {
    const folder = scratchFolder();
    const left = join(folder, ".save.0123456789ab.tmp");
    mkdirSync(left);
    writeFileSync(join(left, "model.safetensors"), "half");
    await saveExitEncoder(tinyBert(), folder);
    expect(readdirSync(folder)).not.toContain(".save.0123456789ab.tmp");
  });

  it("leave an older save whole when they cannot be written", async () => {
    const folder = scratchFolder();
    await saveExitEncoder(tinyBert(), folder);
    const names = readdirSync(folder);
    const bad = tinyBert({ seed: 2 });
    const path = "heads.1.classifier.bias";
    bad.params = { ...bad.params, [path]: { ...(bad.params[path] as HostTensor), shape: [3] } };
    expect((await errorOf(() => saveExitEncoder(bad, folder))).code).toBe("BAD_INPUT");
    expect(readdirSync(folder)).toEqual(names);
    const again = await loadExitEncoder(folder);
    expect(again.params).toEqual(tinyBert().params);
  });
});

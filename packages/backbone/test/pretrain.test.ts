/** @file Pre-training runs: they learn, they resume to the same weights after SIGKILL, and they fail without harm. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEngine, createRng, type Engine } from "@cee/engine";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadExitEncoder } from "../src/encoder-folder.js";
import { initFromFolder } from "../src/pretrain/folder.js";
import { type PretrainOptions, pretrain } from "../src/pretrain/pretrain.js";
import { parsePretrainSettings } from "../src/pretrain/settings.js";
import { readSafetensors } from "../src/safetensors.js";

const config = {
  model: {
    vocab_size: 120,
    hidden_size: 16,
    num_hidden_layers: 3,
    num_attention_heads: 2,
    intermediate_size: 32,
    max_position_embeddings: 32,
  },
  seed: 5,
  lengths: [16, 24],
  batchTokens: 256,
  steps: 12,
  learningRate: 0.01,
  warmupSteps: 2,
  pairWeight: 0.1,
  exitsPerPlace: 1,
  checkpointMinutes: 0,
  evaluateEvery: 6,
  heldOutRows: 8,
};

let folder = "";
let engine: Engine;
const path = (name: string) => join(folder, name);
const run = (out: string, options: Partial<PretrainOptions> = {}) =>
  pretrain({
    engine,
    corpus: [path("text.txt")],
    config,
    out: path(out),
    cache: path("cache"),
    ...options,
  });
const stateOf = (out: string) => readSafetensors(join(path(out), "state.safetensors"));

/** Sentences that repeat one word, so that a masked one can be read off its neighbours. */
function invent(sentences: number): string {
  const rng = createRng("text");
  const words = Array.from(
    { length: 24 },
    (_, n) => `${"bdkm"[n % 4]}${"aeiou"[n % 5]}${"lnrstz"[n % 6]}`,
  );
  const sentence = () => {
    const word = words[rng.int(24)];
    return `${Array.from({ length: 5 + rng.int(5) }, () => word).join(" ")}.`;
  };
  return Array.from(
    { length: sentences },
    (_, n) => sentence() + (n % 20 === 19 ? "\n\n" : ""),
  ).join(" ");
}

/** Starts a run in a process of its own; `onStep` may kill it. */
function runInChild(
  out: string,
  onStep?: (step: number, kill: () => void) => void,
  limit?: number,
) {
  const script = new URL("./pretrain-child.ts", import.meta.url).pathname;
  const command = ["node", "--import", "tsx", "--conditions=@cee/source", script];
  const argument = JSON.stringify({
    corpus: [path("text.txt")],
    config,
    out: path(out),
    cache: path("cache"),
  });
  const prefix = limit === undefined ? "" : `trap '' XFSZ; ulimit -f ${limit}; `;
  const child = spawn("bash", ["-c", `${prefix}exec "$@"`, "bash", ...command, argument], {
    cwd: new URL("../../..", import.meta.url).pathname,
  });
  let output = "";
  let errors = "";
  child.stderr.on("data", (data: Buffer) => {
    errors += data.toString();
  });
  child.stdout.on("data", (data: Buffer) => {
    output += data.toString();
    const step = Number(/(?:.*\n)*step (\d+)\n/.exec(output)?.[1] ?? 0);
    onStep?.(step, () => child.kill("SIGKILL"));
  });
  return new Promise<{
    code: number | null;
    signal: string | null;
    output: string;
    errors: string;
  }>((resolve) => child.on("close", (code, signal) => resolve({ code, signal, output, errors })));
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cee-pretrain-"));
  await writeFile(path("text.txt"), invent(1500));
  engine = await createEngine({ threads: 1 });
  await run("whole");
});
afterAll(async () => {
  await engine.dispose();
  await rm(folder, { recursive: true, force: true });
});

describe("pretrain", () => {
  it("learns at every exit", async () => {
    const { progress, done } = await run("learns", {
      config: {
        ...config,
        model: { ...config.model, hidden_size: 32 },
        batchTokens: 512,
        steps: 200,
        learningRate: 0.005,
        checkpointMinutes: 60,
        evaluateEvery: 100,
        heldOutRows: 32,
      },
    });
    expect(done).toBe(true);
    const [first, last] = [progress.evaluations[0], progress.evaluations.at(-1)];
    expect(last?.step).toBe(200);
    // The frequencies of 24 words and a full stop leave 3.2 nats.
    for (const loss of last?.tokens ?? []) expect(loss).toBeLessThan(2.9);
    expect(last?.tokens).toHaveLength(3);
    expect(last?.pairs).toHaveLength(3);
    expect(last?.tokens[2]).toBeLessThan(first?.tokens[2] as number);
  });

  it("resumes after SIGKILL to the weights of an undisturbed run", async () => {
    const killed = await runInChild("killed", (step, kill) => step >= 5 && kill());
    expect(killed.signal).toBe("SIGKILL");
    const between = JSON.parse(stateOf("killed").metadata.progress as string) as { step: number };
    expect(between.step).toBeGreaterThan(0);
    expect(between.step).toBeLessThan(12);
    await run("killed");
    expect(stateOf("killed").tensors).toEqual(stateOf("whole").tensors);
    expect((await readdir(path("killed"))).filter((name) => name.includes("tmp"))).toEqual([]);
  });

  it("gives the same weights in parts", async () => {
    const stop = new AbortController();
    const part = await run("parts", {
      signal: stop.signal,
      onProgress: ({ step }) => step === 7 && stop.abort(),
    });
    expect(part).toMatchObject({ done: false, progress: { step: 7 } });
    await run("parts");
    expect(stateOf("parts").tensors).toEqual(stateOf("whole").tensors);
  });

  it("takes the same step in micro-batches as at once", async () => {
    const once = { ...config, steps: 1, exitsPerPlace: 2 };
    await run("micro-1", { config: once });
    await run("micro-4", { config: { ...once, microTokens: 64 } });
    const [whole, parts] = [stateOf("micro-1").tensors, stateOf("micro-4").tensors];
    for (const [name, { data }] of Object.entries(whole)) {
      if (!name.startsWith("m/")) continue;
      expect(parts[name]?.data, name).toBeAllclose(data as Float32Array, {
        rtol: 1e-3,
        atol: 1e-7,
      });
    }
  });

  it("writes weights that load as an encoder and start another run", async () => {
    const encoder = await loadExitEncoder(path("whole"), { classes: 2 });
    const state = stateOf("whole").tensors;
    const name = "backbone.encoder.layer.2.output.dense.weight";
    expect(encoder.params[name]?.data).toBeAllclose(state[`param/${name}`]?.data as Float32Array, {
      rtol: 1e-3,
      atol: 1e-6,
    });
    expect(encoder.tokenizer?.vocabSize).toBeLessThanOrEqual(120);
    const deeper = parsePretrainSettings(
      { ...config, model: { ...config.model, num_hidden_layers: 6 } },
      "deeper",
    ).model;
    const stacked = await initFromFolder(path("whole"), deeper, 1);
    for (const path of ["attention.self.query.weight", "output.LayerNorm.bias"]) {
      expect(stacked[`backbone.encoder.layer.4.${path}`]).toEqual(
        stacked[`backbone.encoder.layer.1.${path}`],
      );
    }
    const { progress } = await run("continued", { init: path("whole") });
    const [scratch] = (await run("whole")).progress.evaluations;
    expect(progress.evaluations[0]?.tokens[2]).toBeLessThan(scratch?.tokens[2] as number);
    await expect(
      run("other", {
        init: path("whole"),
        config: { ...config, model: { ...config.model, hidden_size: 32 } },
      }),
    ).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });

  it("writes embeddings at the scale of fresh ones, and starts from them at the scale they had", async () => {
    const { tensors } = stateOf("whole");
    const encoder = await loadExitEncoder(path("whole"), { classes: 2 });
    const words = encoder.params["backbone.embeddings.word_embeddings.weight"]
      ?.data as Float32Array;
    const squares = words.reduce((sum, value) => sum + value * value, 0);
    expect(Math.sqrt(squares / words.length)).toBeCloseTo(0.02, 4);

    const { model } = parsePretrainSettings(config, "config");
    const restored = await initFromFolder(path("whole"), model, 1);
    expect(Object.keys(restored)).toHaveLength(Object.keys(tensors).length / 3);
    // Half precision on file.
    for (const [name, { data }] of Object.entries(restored))
      expect(data, name).toBeAllclose(tensors[`param/${name}`]?.data as Float32Array, {
        rtol: 2e-3,
        atol: 1e-5,
      });
  });

  it("grows by blocks that hand on what they get", async () => {
    const deep = parsePretrainSettings(
      { ...config, model: { ...config.model, num_hidden_layers: 5 }, growth: "pass" },
      "deep",
    );
    const whole = parsePretrainSettings(config, "config").model;
    await expect(initFromFolder(path("whole"), deep.model, 1)).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
    });
    const grown = await initFromFolder(path("whole"), deep.model, 1, deep.growth);
    const all = await initFromFolder(path("whole"), whole, 1);
    for (const [name, tensor] of Object.entries(all)) expect(grown[name], name).toEqual(tensor);
    for (const norm of ["attention.output", "output"])
      expect(grown[`backbone.encoder.layer.4.${norm}.LayerNorm.weight`]).toEqual(
        all["backbone.encoder.layer.2.output.LayerNorm.weight"],
      );
    const { progress } = await run("grown", {
      init: path("whole"),
      config: {
        ...config,
        model: { ...config.model, num_hidden_layers: 5 },
        growth: "pass",
        steps: 1,
        learningRate: 1e-8,
      },
    });
    // The blocks on top change next to nothing: the loss after layer 5 is that after layer 3.
    const [losses] = progress.evaluations;
    expect(Math.abs((losses?.tokens[4] as number) - (losses?.tokens[2] as number))).toBeLessThan(
      0.2,
    );
  });

  it("takes the first blocks of a deeper folder", async () => {
    const shallow = parsePretrainSettings(
      { ...config, model: { ...config.model, num_hidden_layers: 2 }, exitsPerPlace: 1 },
      "shallow",
    ).model;
    const whole = parsePretrainSettings(config, "config").model;
    const first = await initFromFolder(path("whole"), shallow, 1);
    const all = await initFromFolder(path("whole"), whole, 1);
    expect(Object.keys(first).some((name) => name.includes("layer.2."))).toBe(false);
    for (const [name, tensor] of Object.entries(first)) expect(tensor, name).toEqual(all[name]);
  });

  it("refuses a checkpoint of another shape or run, and leaves it as it was", async () => {
    await cp(path("whole"), path("refused"), { recursive: true });
    const before = readFileSync(path("refused/state.safetensors"));
    for (const other of [
      { ...config, model: { ...config.model, hidden_size: 32 } },
      { ...config, model: { ...config.model, num_hidden_layers: 2 }, exitsPerPlace: 1 },
      { ...config, seed: 6 },
    ]) {
      await expect(run("refused", { config: other })).rejects.toMatchObject({
        code: "CHECKPOINT_MISMATCH",
      });
    }
    await writeFile(path("other.txt"), invent(1400));
    await expect(run("refused", { corpus: [path("other.txt")] })).rejects.toMatchObject({
      code: "CHECKPOINT_MISMATCH",
    });
    await expect(run("refused", { corpus: [path("absent.txt")] })).rejects.toMatchObject({
      code: "MISSING_FILE",
    });
    expect(readFileSync(path("refused/state.safetensors")).equals(before)).toBe(true);
  });

  it("keeps the last good checkpoint when the disk is full", async () => {
    await cp(path("parts"), path("full"), { recursive: true });
    const before = readFileSync(path("full/state.safetensors"));
    // All steps are done; what is left is to write the state once more.
    const child = await runInChild("full", undefined, Math.floor(before.length / 1024 / 2));
    expect(child.errors).toContain("WRITE_FAILED");
    expect(child.code).not.toBe(0);
    expect(readFileSync(path("full/state.safetensors")).equals(before)).toBe(true);
    expect((await readdir(path("full"))).filter((name) => name.includes("tmp"))).toEqual([]);
  });

  it("stops at its time limit with the weights so far", async () => {
    const { done, progress } = await run("limited", {
      config: { ...config, steps: 100_000 },
      minutes: 0.01,
    });
    expect(done).toBe(false);
    expect(progress.step).toBeGreaterThan(0);
    const card = JSON.parse(await readFile(path("limited/pretraining.json"), "utf8"));
    expect(card.step).toBe(progress.step);
  });
});

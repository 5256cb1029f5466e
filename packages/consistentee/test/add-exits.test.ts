/** @file Exits for a checkpoint that was fine-tuned without them. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createWordPieceTokenizer,
  createWordVocabulary,
  type ExitEncoder,
  fit,
  loadExitEncoder,
  readSafetensors,
  saveExitEncoder,
} from "@cee/backbone";
import { tinyBert } from "@cee/backbone/testing";
import { createEngine, createRng, softmaxCrossEntropy } from "@cee/engine";
import { alwaysAt, entropy, never, rightTool } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import {
  type AddExitsOptions,
  type AddExitsProgress,
  addExits,
  consistentEE,
  EarlyExitModel,
  type EarlyExitParts,
  type HeldOutRow,
  type Prediction,
  saveEarlyExitModel,
} from "../src/index.js";
import { scratchFolder } from "./tiny-model.js";

const DEPTH = 3;
const good = ["fine", "lovely", "great", "warm"];
const bad = ["dull", "weak", "cold", "flat"];
const neutral = ["the", "film", "a", "plot", "and", "scene", "its", "cast"];

/** A text of neutral words with one or three telling ones; the majority tells the class. */
function invent(count: number, seed: string): (HeldOutRow & { readonly label: string })[] {
  const rng = createRng(seed);
  return Array.from({ length: count }, () => {
    const label = rng.int(2);
    const [own, other] = label === 1 ? [good, bad] : [bad, good];
    const word = (from: readonly string[]) => from[rng.int(from.length)] as string;
    const words = Array.from({ length: 3 + rng.int(3) }, () => word(neutral));
    const telling = rng.int(2) === 0 ? [word(own)] : [word(own), word(other), word(own)];
    for (const one of telling) words.splice(rng.int(words.length + 1), 0, one);
    return { text: words.join(" "), label: label === 1 ? "positive" : "negative" };
  });
}

const rows = invent(300, "train");
const fresh = invent(120, "fresh");

/** A folder as Hugging Face's classes write it: fine-tuned at the last layer, no exits. */
let folder: string;
let fineTuned: ExitEncoder;
beforeAll(async () => {
  const tokenizer = createWordPieceTokenizer(
    createWordVocabulary(
      rows.map(({ text }) => text),
      200,
    ),
  );
  const encoder = tinyBert({
    depth: DEPTH,
    hidden: 16,
    tokenizer,
    dropout: 0,
    spread: 0.15,
    seed: 2,
  });
  const engine = await createEngine({ threads: 1 });
  const { params } = await fit({
    engine,
    model: encoder,
    params: encoder.params,
    plan: function* () {
      yield {
        name: "fine-tune",
        trains: ["backbone.**", "heads.3.**"],
        epochs: 8,
        batchSize: 16,
        learningRate: 5e-3,
        warmup: 0.1,
        losses: {
          last: ({ exits, labels, perRow }) =>
            tf.mul(
              tf.sum(
                softmaxCrossEntropy((exits[DEPTH - 1] as (typeof exits)[number]).logits, labels),
              ),
              perRow,
            ) as tf.Scalar,
        },
      };
    },
    train: rows.map(({ text, label }, index) => ({
      id: String(index),
      ...tokenizer.encode(text),
      label: label === "positive" ? 1 : 0,
    })),
    dev: [],
    seed: 1,
  });
  await engine.dispose();
  folder = mkdtempSync(join(tmpdir(), "cee-hf-"));
  fineTuned = { ...encoder, params, labels: ["negative", "positive"], trainedHeads: [DEPTH] };
  await saveExitEncoder(fineTuned, folder);
  for (const file of ["cee.json", "exits.safetensors"]) rmSync(join(folder, file));
  return () => rmSync(folder, { recursive: true, force: true });
}, 60_000);

const training = { epochs: 10, batchSize: 32, learningRate: 5e-3 };

function added(options: Partial<AddExitsOptions> = {}, model: string | ExitEncoder = folder) {
  return addExits(model, { rows, training, threads: 1, ...options });
}

async function opened(parts: EarlyExitParts) {
  const model = await EarlyExitModel.fromParts(parts, { threads: 1 });
  onTestFinished(() => model.dispose());
  return model;
}

/** Share of fresh rows answered right, or as by other answers. */
async function accuracy(parts: EarlyExitParts, wanted: readonly string[]) {
  const answers = await (await opened(parts)).classify(fresh.map(({ text }) => text));
  return answers.filter(({ label }, index) => label === wanted[index]).length / fresh.length;
}

const truth = fresh.map(({ label }) => label);

describe("exits added afterwards", () => {
  it("learn below a classifier that answers exactly as before, and stay in an ordinary folder", async () => {
    const seen: AddExitsProgress[] = [];
    const parts = await added({ onProgress: (progress) => void seen.push(progress) });
    expect(parts.encoder.trainedHeads).toEqual([1, 2, 3]);
    expect(seen[0]).toMatchObject({ stage: "recording", total: rows.length });
    expect(seen.at(-1)).toMatchObject({ stage: "training", phase: "exits", epochs: 10 });
    // One recording for all epochs.
    expect(seen.filter((one) => one.stage === "recording" && one.rows === one.total)).toHaveLength(
      1,
    );

    // Frozen: nothing of the checkpoint has moved.
    const before = await loadExitEncoder(folder, { head: "highway" });
    for (const [path, { data }] of Object.entries(before.params))
      if (path.startsWith("backbone.") || path.startsWith(`heads.${DEPTH}.`))
        expect(parts.encoder.params[path]?.data, path).toEqual(data);

    const full = await opened({ encoder: parts.encoder, strategy: never() });
    const original = await opened({
      encoder: { ...fineTuned, trainedHeads: [1, 2, 3] },
      strategy: never(),
    });
    const all = fresh.map(({ text }) => text);
    const answers = await full.classify(all);
    const expected = await original.classify(all);
    answers.forEach(({ probabilities }, index) => {
      expect(probabilities).toBeAllclose(expected[index]?.probabilities ?? [], { atol: 1e-6 });
    });
    const fullAccuracy = await accuracy({ encoder: parts.encoder, strategy: never() }, truth);
    expect(fullAccuracy).toBeGreaterThan(0.85);
    for (const layer of [1, 2]) {
      const early = await accuracy(
        { encoder: parts.encoder, strategy: alwaysAt({ layer }) },
        truth,
      );
      expect(early, `layer ${layer}`).toBeGreaterThan(0.7);
    }

    const saved = scratchFolder();
    await saveEarlyExitModel(parts, saved);
    const again = await EarlyExitModel.fromPretrained(saved, { threads: 1 });
    onTestFinished(() => again.dispose());
    const live = await opened(parts);
    const strip = (list: readonly Prediction[]) => list.map(({ milliseconds: _, ...rest }) => rest);
    const fromFolder = await again.classify(all);
    expect(strip(fromFolder)).toEqual(strip(await live.classify(all)));
    expect(fromFolder.some(({ exitLayer }) => exitLayer < DEPTH)).toBe(true);
    // Other programs still find their classifier.
    const { tensors } = readSafetensors(join(saved, "model.safetensors"));
    const source = readSafetensors(join(folder, "model.safetensors")).tensors;
    expect(Object.keys(tensors).sort()).toEqual(Object.keys(source).sort());
    for (const name of Object.keys(source)) expect(tensors[name], name).toEqual(source[name]);
  });

  it("learn full depth's answers from texts without labels, with either head", async () => {
    const unlabelled = rows.map(({ text }) => ({ text }));
    for (const head of ["highway", "linear"] as const) {
      const parts = await added({ rows: unlabelled, head });
      const full = await (await opened({ encoder: parts.encoder, strategy: never() })).classify(
        fresh.map(({ text }) => text),
      );
      const agreement = await accuracy(
        { encoder: parts.encoder, strategy: alwaysAt({ layer: 2 }) },
        full.map(({ label }) => label),
      );
      expect(agreement, head).toBeGreaterThan(0.75);
    }
  });

  it("come with ConsistentEE's policies, with temperatures, and with a threshold that keeps its promise", async () => {
    const policy = await added({
      strategy: consistentEE({ alpha: 0.1, policy: { epochs: 10, batchSize: 64 } }),
    });
    expect(policy.reports?.map(({ phase }) => phase)).toEqual(["exits", "policy-1"]);
    const folderOfPolicy = scratchFolder();
    await saveEarlyExitModel(policy, folderOfPolicy);
    const served = await EarlyExitModel.fromPretrained(folderOfPolicy, { threads: 1 });
    onTestFinished(() => served.dispose());
    expect(served.strategy.name).toBe("consistentee");
    const layers = (await served.classify(fresh.map(({ text }) => text))).map((a) => a.exitLayer);
    expect(Math.min(...layers)).toBeLessThan(DEPTH);

    const warm = await added({ strategy: rightTool(), calibration: fresh });
    expect(warm.strategy.options.temperatures).toHaveLength(DEPTH);

    const model = await opened(await added({ strategy: entropy() }));
    const point = await model.selectThreshold({ rows: invent(600, "select"), maxLoss: 0.05 });
    expect(point.isFullDepth).toBe(false);
    const others = invent(2000, "others");
    const early = await model.classify(others.map(({ text }) => text));
    const full = await (
      await opened({ encoder: (await added()).encoder, strategy: never() })
    ).classify(others.map(({ text }) => text));
    const lost = others.filter(
      ({ label }, index) => full[index]?.label === label && early[index]?.label !== label,
    ).length;
    // The true loss is within 0.05 with confidence 0.95; 2000 fresh rows see it to 3 standard errors.
    expect(lost / 2000).toBeLessThan(0.05 + 3 * Math.sqrt((0.05 * 0.95) / 2000));
    expect(early.some(({ exitLayer }) => exitLayer < DEPTH)).toBe(true);
  });

  it("go on where they were interrupted", async () => {
    const whole = await added();
    const out = scratchFolder();
    const controller = new AbortController();
    const stopped = added({
      out,
      signal: controller.signal,
      onProgress: (one) => {
        if (one.stage === "training" && one.step === 37) controller.abort();
      },
    });
    await expect(stopped).rejects.toMatchObject({ code: "ABORTED" });
    const resumed = await added({ out });
    for (const [path, { data }] of Object.entries(whole.encoder.params))
      expect(resumed.encoder.params[path]?.data, path).toEqual(data);
  });
});

describe("what cannot get exits", () => {
  it("is refused with the reason", async () => {
    const bare = scratchFolder();
    await saveExitEncoder({ ...fineTuned, labels: undefined }, bare);
    for (const file of ["cee.json", "exits.safetensors"]) rmSync(join(bare, file));
    const withoutClassifier = await loadExitEncoder(bare, { head: "highway", freshHeads: true });
    const cases: readonly [Partial<AddExitsOptions>, string, string | ExitEncoder | undefined][] = [
      [{}, "NO_CLASSIFIER", withoutClassifier],
      [{}, "NO_TOKENIZER", { ...fineTuned, tokenizer: undefined }],
      [{ rows: [] }, "BAD_INPUT", undefined],
      [{ rows: [{ text: "fine", label: 1 }, { text: "dull" }] }, "BAD_INPUT", undefined],
      [{ rows: [{ text: "fine", label: 2 }] }, "BAD_INPUT", undefined],
      [{ rows: [{ text: "", label: 1 }] }, "BAD_INPUT", undefined],
      [{ distill: 2 }, "BAD_OPTION", undefined],
      [{ rows: [{ text: "fine" }], distill: 0.5 }, "MISSING_LABEL", undefined],
      [{ rows: [{ text: "fine" }], strategy: consistentEE() }, "MISSING_LABEL", undefined],
      [
        {
          strategy: {
            ...consistentEE(),
            name: "other",
          },
        },
        "NOT_TRAINABLE",
        undefined,
      ],
    ];
    for (const [options, code, model] of cases)
      await expect(added(options, model ?? folder)).rejects.toMatchObject({ code });
    await expect(added({}, scratchFolder())).rejects.toMatchObject({ code: "MISSING_FILE" });
  });
});

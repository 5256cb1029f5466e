/** @file Thresholds chosen on a real model's held-out rows, stored with it and read back. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { entropy, never } from "@cee/exit-policies";
import { describe, expect, it, onTestFinished } from "vitest";
import {
  EarlyExitModel,
  type EarlyExitParts,
  type FromPretrainedOptions,
  type HeldOutRow,
} from "../src/index.js";
import { scratchFolder, texts, tinyParts } from "./tiny-model.js";

const GRID = [0, 0.05, 0.2, 0.5, 0.7];

async function opened(
  options: FromPretrainedOptions = {},
  strategy = entropy({ threshold: 0.05 }),
) {
  const parts: EarlyExitParts = { encoder: tinyParts().encoder, strategy };
  const model = await EarlyExitModel.fromParts(parts, { threads: 1, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

/** Every text many times, in turns, with what full depth says as its label. */
async function heldOut(copies: number): Promise<HeldOutRow[]> {
  const full = await (await opened({}, never())).classify(texts);
  return Array.from({ length: copies * texts.length }, (_, index) => {
    const at = index % texts.length;
    return { text: texts[at] as string, label: full[at]?.label as string };
  });
}

describe("selection on a model", () => {
  it("takes the fastest value within the loss, uses it at once, and comes back with the folder", async () => {
    const rows = await heldOut(40);
    const model = await opened();
    const point = await model.selectThreshold({ rows, maxLoss: 0.3, confidence: 0.9, grid: GRID });
    expect(point).toMatchObject({
      isFullDepth: false,
      guarantee: { kind: "risk", loss: "accuracy", maxLoss: 0.3, confidence: 0.9 },
      data: { rows: rows.length, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      knob: { name: "threshold" },
    });
    // By hand: share of texts whose early answer differs, at each value from the slowest on.
    const full = await (await opened({}, never())).classify(texts);
    const losses: [number, number][] = [];
    for (const threshold of GRID) {
      const early = await (await opened({}, entropy({ threshold }))).classify(texts);
      const wrong = early.filter(({ label }, index) => label !== full[index]?.label).length;
      losses.push([threshold, wrong / texts.length]);
    }
    const chosen = point.knob?.value as number;
    const within = losses.filter(([value]) => value <= chosen);
    expect(within.every(([, loss]) => loss < 0.3)).toBe(true);
    const next = losses[within.length];
    if (next) expect(next[1]).toBeGreaterThan(0.2);
    expect(model.strategy.options).toEqual({ threshold: chosen });
    const answers = await model.classify(texts);
    const histogram = [1, 2, 3].map(
      (layer) => 40 * answers.filter(({ exitLayer }) => exitLayer === layer).length,
    );
    expect(point.exits).toEqual(histogram);

    const folder = scratchFolder();
    await model.save(folder);
    const again = await EarlyExitModel.fromPretrained(folder, { threads: 1, drift: {} });
    onTestFinished(() => again.dispose());
    expect(again.operatingPoint).toEqual(point);
    expect((await again.classify(texts)).map(({ exitLayer }) => exitLayer)).toEqual(
      answers.map(({ exitLayer }) => exitLayer),
    );
    // Another strategy, asked for by hand, was not chosen on anything.
    const other = await EarlyExitModel.fromPretrained(folder, { threads: 1, strategy: "never" });
    onTestFinished(() => other.dispose());
    expect(other.operatingPoint).toBeUndefined();

    const path = join(folder, "operating-point.json");
    const stored = readFileSync(path, "utf8");
    for (const [from, to, code] of [
      ['"format": 1', '"format": 7', "BAD_FILE"],
      ['"isFullDepth": false', '"isFullDepth": "no"', "BAD_FILE"],
      ["{", "", "BAD_FILE"],
    ] as const) {
      writeFileSync(path, stored.replace(from, to));
      const load = EarlyExitModel.fromPretrained(folder, { threads: 1 });
      await expect(load).rejects.toMatchObject({ code });
    }
    writeFileSync(path, stored);
    const config = join(folder, "exit-strategy.json");
    writeFileSync(config, readFileSync(config, "utf8").replace(`${chosen}`, "0.123"));
    await expect(EarlyExitModel.fromPretrained(folder, { threads: 1 })).rejects.toMatchObject({
      code: "MODEL_MISMATCH",
    });
  });

  it("runs at full depth with too few rows, says so, and still does after loading", async () => {
    const rows = await heldOut(2);
    const model = await opened({}, entropy({ threshold: 0.7 }));
    expect(new Set((await model.classify(texts)).map(({ exitLayer }) => exitLayer))).toContain(1);
    const point = await model.selectThreshold({ rows, maxLoss: 0.01, confidence: 0.95 });
    expect(point).toMatchObject({
      isFullDepth: true,
      knob: null,
      exits: [0, 0, rows.length],
      guarantee: { rowsNeeded: 299 },
    });
    expect(point.note).toMatch(/^Full depth: .*at least 299 held-out rows, got 18/);
    expect(model.health).toMatchObject({ state: "full-depth", reason: point.note });
    expect(model.resetFallback()).toBe(false);
    const folder = scratchFolder();
    await model.save(folder);
    const again = await EarlyExitModel.fromPretrained(folder, { threads: 1 });
    onTestFinished(() => again.dispose());
    // Nothing drifts where nothing may leave.
    const watched = await EarlyExitModel.fromPretrained(folder, {
      threads: 1,
      drift: { window: texts.length },
    });
    onTestFinished(() => watched.dispose());
    await watched.classify(texts);
    expect(watched.health.drift).toBeUndefined();
    for (const one of [model, again])
      expect((await one.classify(texts)).map(({ exitLayer }) => exitLayer)).toEqual(
        texts.map(() => 3),
      );
  });

  it("predicts latency from this machine's times and takes the slowest value that meets the target", async () => {
    const rows = texts.map((text) => ({ text }));
    const model = await opened();
    const generous = await model.selectThreshold({ rows, p95Ms: 1e6, grid: GRID, rounds: 2 });
    expect(generous).toMatchObject({
      knob: { value: 0 },
      guarantee: { kind: "latency", isMet: true, machine: { threads: 1 } },
    });
    const impossible = await model.selectThreshold({ rows, p95Ms: 1e-6, grid: GRID, rounds: 2 });
    expect(impossible).toMatchObject({ guarantee: { isMet: false }, isFullDepth: false });
    expect(impossible.note).toMatch(/misses/);
    const { guarantee } = impossible;
    if (guarantee.kind !== "latency") throw new Error("not by latency");
    expect(guarantee.candidates.map(({ value }) => value)).toEqual(GRID);
    expect(guarantee.candidates.every(({ predictedP95Ms }) => predictedP95Ms > 0)).toBe(true);
    // More layers cannot be predicted to take less time.
    expect(guarantee.candidates[0]?.predictedP95Ms).toBeGreaterThanOrEqual(
      guarantee.candidates.at(-1)?.predictedP95Ms as number,
    );
  });

  it("leaves requests that come meanwhile unharmed", async () => {
    const rows = await heldOut(10);
    const model = await opened();
    const before = await model.classify(texts);
    const selecting = model.selectThreshold({ rows, maxLoss: 0.5, grid: [0] });
    const answers = await Promise.all(texts.map((text) => model.classify(text)));
    await selecting;
    expect(answers).toHaveLength(before.length);
  });

  it("refuses what makes no sense", async () => {
    const model = await opened();
    const bad: readonly [object, object][] = [
      [{ rows: [{ text: "good" }] }, { code: "BAD_OPTION" }],
      [{ rows: [{ text: "good" }], maxLoss: 0.1, p95Ms: 3 }, { code: "BAD_OPTION" }],
      [{ rows: [{ text: "good" }], p95Ms: 3, rounds: 0 }, { code: "BAD_OPTION" }],
      [{ rows: [], p95Ms: 3 }, { code: "INVALID_OPTIONS" }],
      [{ rows: [{ text: "good" }], maxLoss: 2 }, { code: "INVALID_OPTIONS" }],
      [
        { rows: [{ text: "" }], maxLoss: 0.1 },
        { code: "BAD_INPUT", who: "row 0" },
      ],
      [{ rows: [{ text: "good", label: "fine" }], maxLoss: 0.1 }, { code: "BAD_INPUT" }],
      [{ rows: [{ text: "good", label: 2 }], maxLoss: 0.1 }, { code: "BAD_INPUT" }],
      [{ rows: [{ text: "good" }, { text: "a", pair: "b" }], maxLoss: 0.1 }, { code: "BAD_INPUT" }],
    ];
    for (const [options, error] of bad)
      await expect(model.selectThreshold(options as never)).rejects.toMatchObject(error);
    expect(await model.classify(texts)).toHaveLength(texts.length);
  });
});

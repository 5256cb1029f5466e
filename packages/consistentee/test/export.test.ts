/** @file A model's folder as a file of its own: what it says of the model, and that it decides alike. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { defineExitStrategy, entropy } from "@cee/exit-policies";
import { describe, expect, it, onTestFinished } from "vitest";
import {
  checkExport,
  EarlyExitModel,
  type EarlyExitParts,
  exportModel,
  saveEarlyExitModel,
} from "../src/index.js";
import { scratchFolder, texts, tinyParts } from "./tiny-model.js";

async function saved(parts: EarlyExitParts = tinyParts()): Promise<string> {
  const folder = scratchFolder();
  await saveEarlyExitModel(parts, folder);
  return folder;
}

describe("exportModel", () => {
  it("writes a learned strategy that decides as in the library", async () => {
    const folder = await saved();
    const file = join(scratchFolder(), "model.onnx");
    for (const rows of ["one", "many"] as const) {
      const made = await exportModel(folder, file, { rows });
      expect(made).toMatchObject({ files: [file], strategy: "consistentee", notes: [] });
      const found = await checkExport(folder, file, { rows, inputs: texts, threads: 1 });
      expect(found).toMatchObject({ rows: texts.length, unexplained: 0 });
      expect(found.meanExitLayer.library).toBeGreaterThan(1);
      expect(found.meanExitLayer.library).toBeLessThan(3);
      expect(found.largestLogitGap).toBeLessThan(1e-4);
    }
  });

  it("finds a file of another model out", async () => {
    const [one, other] = [await saved(), await saved(tinyParts({ seed: 6 }))];
    const file = join(scratchFolder(), "model.onnx");
    await exportModel(other, file);
    const found = await checkExport(one, file, { threads: 1, inputs: 40 });
    expect(found.unexplained).toBeGreaterThan(0);
  });

  it("keeps a model at full depth that was set to it, unless a knob is named", async () => {
    const parts: EarlyExitParts = {
      encoder: tinyParts().encoder,
      strategy: entropy({ threshold: 0.5 }),
    };
    const model = await EarlyExitModel.fromParts(parts, { threads: 1 });
    onTestFinished(() => model.dispose());
    // Far too few rows for such a guarantee.
    const rows = texts.map((text) => ({ text, label: "positive" }));
    const point = await model.selectThreshold({ rows, maxLoss: 0.001, confidence: 0.99 });
    expect(point.isFullDepth).toBe(true);
    const file = join(scratchFolder(), "model.onnx");
    const made = model.exportOnnx(file);
    expect(made).toMatchObject({ strategy: "never", knob: undefined });
    expect(made.notes[0]).toContain(point.note);
    expect(model.exportOnnx(file, { knob: 0.5 })).toMatchObject({
      strategy: "entropy",
      knob: { option: "threshold", value: 0.5 },
      notes: [],
    });
  });

  it("refuses a strategy that decides on the host alone, and writes nothing", async () => {
    const { decideTensor: _, ...definition } = entropy.definition;
    const strategy = defineExitStrategy({ ...definition, name: "host-only" })();
    const model = await EarlyExitModel.fromParts(
      { encoder: tinyParts().encoder, strategy },
      { threads: 1 },
    );
    onTestFinished(() => model.dispose());
    const file = join(scratchFolder(), "model.onnx");
    expect(() => model.exportOnnx(file)).toThrow(
      expect.objectContaining({
        code: "NOT_EXPORTABLE",
        message: expect.stringMatching(/host-only.*decides on the host alone.*decideTensor/),
      }),
    );
    expect(existsSync(file)).toBe(false);
    // It runs all the same, layer by layer.
    expect(await model.classify(texts)).toHaveLength(texts.length);
  });

  it("refuses a knob that the strategy does not have, and a model that was disposed of", async () => {
    const file = join(scratchFolder(), "model.onnx");
    const model = await EarlyExitModel.fromParts(tinyParts(), { threads: 1 });
    await model.dispose();
    expect(() => model.exportOnnx(file)).toThrow(expect.objectContaining({ code: "DISPOSED" }));
    await expect(
      exportModel(await saved(), file, { strategy: "never", knob: 1 }),
    ).rejects.toMatchObject({ code: "BAD_OPTION" });
  });
});

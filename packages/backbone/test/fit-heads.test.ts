/** @file Heads trained from recorded states: the same steps as with the encoder frozen, and the same model afterwards. */
import { createEngine, type Engine, type HostParams } from "@cee/engine";
import type { TrainingPhase } from "@cee/exit-policies";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createHighway } from "../src/heads/highway.js";
import { tinyBert } from "../src/testing.js";
import { type FitOptions, fit } from "../src/train/fit.js";
import { allExits, inventRows } from "./helpers/tiny-training.js";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 1 });
});
afterAll(() => engine.dispose());

const phase: TrainingPhase = {
  name: "heads",
  trains: ["heads.**"],
  epochs: 3,
  batchSize: 8,
  learningRate: 0.01,
  warmup: 0.1,
  weightDecay: 0.01,
  dropout: false,
  losses: { all: allExits },
};

async function train(head: string, change: Partial<TrainingPhase>, more: Partial<FitOptions> = {}) {
  const model = tinyBert({ depth: 3, hidden: 16, head });
  const result = await fit({
    engine,
    model,
    params: model.params,
    plan: function* () {
      yield { ...phase, ...change };
    },
    // One length, so that both sources make the same batches.
    train: inventRows(24, "train").map((row) => ({
      ...row,
      ids: Int32Array.from({ length: 10 }, (_, index) => row.ids[index % row.ids.length] as number),
      types: new Int32Array(10),
    })),
    dev: [],
    seed: 3,
    ...more,
  });
  return { before: model.params, ...result };
}

function changed(before: HostParams, after: HostParams): string[] {
  return Object.keys(before).filter((path) => {
    const [a, b] = [before[path], after[path]];
    return a?.data.some((value, index) => value !== b?.data[index]);
  });
}

describe("heads from the record", () => {
  it.each(["linear", "highway"])(
    "learn what they learn behind a frozen encoder: %s",
    async (head) => {
      const recorded = await train(head, { source: "record" });
      const alive = await train(head, { source: "data" });
      expect(recorded.reports[0]?.steps).toBe(alive.reports[0]?.steps);
      const names = changed(recorded.before, recorded.params);
      expect(names).toEqual(changed(alive.before, alive.params));
      expect(names.length).toBeGreaterThan(0);
      expect(names.every((path) => path.startsWith("heads."))).toBe(true);
      expect(recorded.trained.heads).toEqual([1, 2, 3]);
      // Whether the two make the same batches is up to the planner; the loss after three epochs tells that both learn.
      expect(recorded.reports[0]?.loss).toBeCloseTo(alive.reports[0]?.loss as number, 1);
    },
  );

  it("take the very same step on one whole batch", async () => {
    for (const head of ["linear", "highway"]) {
      const whole = { epochs: 1, batchSize: 24 } as const;
      const recorded = await train(head, { ...whole, source: "record" });
      const alive = await train(head, { ...whole, source: "data" });
      expect(recorded.reports[0]?.loss).toBeCloseTo(alive.reports[0]?.loss as number, 5);
      for (const [path, { data }] of Object.entries(recorded.params))
        expect(data as Float32Array, path).toBeAllclose(alive.params[path]?.data as Float32Array, {
          rtol: 1e-3,
          atol: 1e-4,
        });
    }
  });

  it("say how far recording has come, and leave other layers alone", async () => {
    const seen: (readonly [number, number])[] = [];
    const { before, params, trained } = await train(
      "highway",
      { source: "record", trains: ["heads.1.**", "heads.2.classifier.*"] },
      { onRecording: (rows, total) => void seen.push([rows, total]), recordBatch: 10 },
    );
    expect(seen).toEqual([
      [10, 24],
      [20, 24],
      [24, 24],
    ]);
    expect(changed(before, params).sort()).toEqual([
      "heads.1.classifier.bias",
      "heads.1.classifier.weight",
      "heads.1.pooler.bias",
      "heads.1.pooler.weight",
      "heads.2.classifier.bias",
      "heads.2.classifier.weight",
    ]);
    expect(trained.heads).toEqual([1, 2]);
  });

  it("are refused where the head may read more than the first token, and so is the encoder", async () => {
    const { readsFirstToken: _, ...reader } = createHighway({ pooler: "fresh" });
    const model = tinyBert({ head: { ...reader, name: "reader" } });
    const options = { model, params: model.params };
    await expect(train("highway", { source: "record" }, options)).rejects.toMatchObject({
      code: "BAD_PHASE",
      message: expect.stringContaining('the head "reader"'),
    });
    await expect(
      train("highway", { source: "record", trains: ["heads.**", "backbone.pooler.**"] }),
    ).rejects.toThrow(/strategy\.\*\* and heads\.\*\* only/);
  });
});

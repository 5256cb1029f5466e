/** @file What a caller may ask of single rows of a running batch. */
import { describe, expect, it } from "vitest";
import { classify, entropy, type RowAnswer, type RowHooks, toObserver } from "../src/index.js";
import { fixedExits } from "../src/testing/index.js";
import { gradedLogits } from "./fixtures.js";

const ROWS = Array.from({ length: 20 }, (_, row) => row);
const DEPTH = 8;
const strategy = entropy({ threshold: 0.4 });
const fixture = gradedLogits(3, ROWS.length, DEPTH);

async function run(rows: RowHooks = {}) {
  const runner = await fixedExits(fixture).open(toObserver(strategy));
  const made = await classify(runner, ROWS, strategy, { rows });
  await runner.dispose();
  return made;
}

describe("rows of a batch", () => {
  it("have depth budgets of their own", async () => {
    const plain = await run();
    const budgets = ROWS.map((row) => (row % 3 === 0 ? undefined : 1 + (row % 4)));
    const { exitLayers } = await run({ maxLayer: (row) => budgets[row] });
    expect([...exitLayers]).toEqual(
      ROWS.map((row) => Math.min(plain.exitLayers[row] as number, budgets[row] ?? DEPTH)),
    );
  });

  it.each([0, 1.5, Number.NaN])("refuse a budget that is no layer: %s", async (budget) => {
    const call = run({ maxLayer: (row) => (row === 3 ? budget : undefined) });
    await expect(call).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
      message: expect.stringContaining(`got ${budget} for row 3`),
    });
  });

  it("are told their answer before the others are done", async () => {
    const plain = await run();
    const told: [number, RowAnswer][] = [];
    await run({ onExit: (row, answer) => told.push([row, answer]) });
    expect(told.map(([row]) => row).sort((a, b) => a - b)).toEqual(ROWS);
    const layers = told.map(([, { layer }]) => layer);
    expect(layers).toEqual([...layers].sort((a, b) => a - b));
    expect(new Set(layers).size).toBeGreaterThan(2);
    for (const [row, { layer, logits, prediction }] of told) {
      expect(layer).toBe(plain.exitLayers[row]);
      expect([...logits]).toEqual([...plain.logits.subarray(2 * row, 2 * row + 2)]);
      expect(prediction).toBe(plain.predictions[row]);
    }
  });

  it("are dropped without an answer once abandoned, and change nothing for the others", async () => {
    const plain = await run();
    const gone = new Set<number>();
    const { exitLayers, rowLayers } = await run({
      // Every odd row is given up when the first row gets its answer.
      onExit: (_, { layer }) => {
        if (layer < DEPTH) for (const row of ROWS) if (row % 2 === 1) gone.add(row);
      },
      isAbandoned: (row) => gone.has(row),
    });
    const first = Math.min(...plain.exitLayers);
    const expected = ROWS.map((row) => {
      const layer = plain.exitLayers[row] as number;
      return row % 2 === 1 && layer > first ? 0 : layer;
    });
    expect([...exitLayers]).toEqual(expected);
    expect(expected).toContain(0);
    expect(rowLayers).toBe(expected.reduce((sum, layer) => sum + (layer || first), 0));
    const nothing = await run({ isAbandoned: () => true });
    expect(nothing.rowLayers).toBe(0);
  });

  it("may run on to full depth after their answer, which stays as it was", async () => {
    const plain = await run();
    const full = new Map<number, RowAnswer>();
    const asked: number[] = [];
    const made = await run({
      onVerdict: (row) => {
        asked.push(row);
        return row % 2 === 0 ? "compare" : "leave";
      },
      onFullDepth: (row, answer) => full.set(row, answer),
    });
    expect([...made.exitLayers]).toEqual([...plain.exitLayers]);
    expect([...made.logits]).toEqual([...plain.logits]);
    const early = ROWS.filter((row) => (plain.exitLayers[row] as number) < DEPTH);
    expect(asked.sort((a, b) => a - b)).toEqual(early);
    expect([...full.keys()].sort((a, b) => a - b)).toEqual(early.filter((row) => row % 2 === 0));
    for (const [row, { layer, logits }] of full) {
      expect(layer).toBe(DEPTH);
      expect([...logits]).toEqual(fixture[row]?.[DEPTH - 1]);
    }
    // Rows that run on cost their layers, the others don't.
    const cost = ROWS.map((row) => (full.has(row) ? DEPTH : (plain.exitLayers[row] as number)));
    expect(made.rowLayers).toBe(cost.reduce((a, b) => a + b));
  });

  it("may be held until their budget is spent, while the caller learns where they would have left", async () => {
    const plain = await run();
    const wouldLeave = new Map<number, number>();
    const budget = (row: number) => (row % 5 === 0 ? 6 : DEPTH);
    const made = await run({
      maxLayer: budget,
      onVerdict: (row, { layer }) => {
        expect(wouldLeave.has(row)).toBe(false);
        wouldLeave.set(row, layer);
        return "hold";
      },
    });
    expect([...made.exitLayers]).toEqual(ROWS.map(budget));
    for (const row of ROWS) {
      const layer = plain.exitLayers[row] as number;
      expect(wouldLeave.get(row)).toBe(layer < budget(row) ? layer : undefined);
      expect([...made.logits.subarray(2 * row, 2 * row + 2)]).toEqual(
        fixture[row]?.[budget(row) - 1],
      );
    }
  });
});

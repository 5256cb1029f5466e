/** @file Threshold selection on simulated populations whose true loss is known. N = rows, T = layers, C = classes. */
import { describe, expect, it } from "vitest";
import {
  type CostModel,
  type ExitRecord,
  entropy,
  never,
  patience,
  replaySweep,
  selectByLatency,
  selectByRisk,
} from "../src/index.js";
import { random } from "./fixtures.js";

const DEPTH = 6;
const GRID = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.68];

/** Rows whose early answers are wrong the more often the less certain they are; the last layer is mostly right. */
function population(rows: number, seed: number): ExitRecord {
  const next = random(seed);
  const logits = new Float32Array(rows * DEPTH * 2);
  const observed = new Float32Array(rows * DEPTH);
  const labels = new Float32Array(rows);
  for (let row = 0; row < rows; row += 1) {
    const label = next() < 0.5 ? 0 : 1;
    labels[row] = label;
    for (let index = 0; index < DEPTH; index += 1) {
      const sure = Math.min(0.995, 0.5 + 0.5 * next() ** (1 / (1 + index)));
      const isRight = next() < sure;
      const margin = Math.log(sure / (1 - sure));
      const answer = isRight ? label : 1 - label;
      logits[(row * DEPTH + index) * 2 + answer] = margin;
      observed[row * DEPTH + index] = -sure * Math.log(sure) - (1 - sure) * Math.log(1 - sure);
    }
  }
  return {
    shape: { task: "classification", depth: DEPTH, hidden: 4, classes: 2 },
    ids: Array.from({ length: rows }, (_, row) => String(row)),
    labels,
    logits,
    observed,
    observedWidth: 1,
  };
}

function take(record: ExitRecord, rows: readonly number[]): ExitRecord {
  const pick = (from: Float32Array, width: number) => {
    const to = new Float32Array(rows.length * width);
    rows.forEach((row, index) => {
      to.set(from.subarray(row * width, (row + 1) * width), index * width);
    });
    return to;
  };
  return {
    ...record,
    ids: rows.map(String),
    labels: pick(record.labels, 1),
    logits: pick(record.logits, DEPTH * 2),
    observed: pick(record.observed, DEPTH),
  };
}

function draw(record: ExitRecord, count: number, next: () => number): ExitRecord {
  const { length } = record.ids;
  return take(
    record,
    Array.from({ length: count }, () => Math.floor(next() * length)),
  );
}

/** True loss of every grid value over the whole population. */
function trueLosses(record: ExitRecord, isLost: (row: number, early: number) => boolean) {
  return new Map(
    replaySweep(record, entropy(), GRID).map(({ value, predictions }) => {
      let sum = 0;
      predictions.forEach((early, row) => {
        if (isLost(row, early)) sum += 1;
      });
      return [value, sum / predictions.length];
    }),
  );
}

function fullAnswer({ logits }: ExitRecord, row: number): number {
  const at = (row * DEPTH + DEPTH - 1) * 2;
  return (logits[at + 1] as number) > (logits[at] as number) ? 1 : 0;
}

describe("selection by risk", () => {
  it("breaks its promise in at most one of twenty recalibrations, where choosing by the mean alone breaks it often", () => {
    const all = population(20_000, 1);
    const next = random(2);
    for (const loss of ["agreement", "accuracy"] as const) {
      const truth = trueLosses(all, (row, early) => {
        const full = fullAnswer(all, row);
        return loss === "agreement"
          ? early !== full
          : full === all.labels[row] && early !== all.labels[row];
      });
      // The hardest case: one value's true loss lies just above the limit.
      const maxLoss = (truth.get(0.55) as number) - 1e-6;
      let [violations, naive, early] = [0, 0, 0];
      for (let run = 0; run < 1000; run += 1) {
        const sample = draw(all, 300, next);
        const chosen = selectByRisk(sample, entropy(), {
          maxLoss,
          confidence: 0.95,
          loss,
          grid: GRID,
        });
        if (!chosen.isFullDepth) {
          early += 1;
          if ((truth.get(chosen.value as number) as number) > maxLoss) violations += 1;
        }
        const losses = replaySweep(sample, entropy(), GRID).map(({ value, predictions }) => {
          let sum = 0;
          predictions.forEach((answer, row) => {
            const full = fullAnswer(sample, row);
            const isLost =
              loss === "agreement"
                ? answer !== full
                : full === sample.labels[row] && answer !== sample.labels[row];
            if (isLost) sum += 1;
          });
          return [value, sum / 300] as const;
        });
        const best = losses.filter(([, mean]) => mean <= maxLoss).at(-1);
        if (best && (truth.get(best[0]) as number) > maxLoss) naive += 1;
      }
      // 50 of 1000 are allowed; three standard errors of that count are 21.
      expect(violations, loss).toBeLessThanOrEqual(50 + 21);
      expect(early, loss).toBeGreaterThan(700);
      expect(naive, loss).toBeGreaterThan(3 * 71);
    }
  });

  it("keeps its promise for losses between 0 and 1", () => {
    const all = population(5000, 3);
    const next = random(4);
    // Half a point for a changed answer, a quarter for every other early exit.
    const loss = ({ early, full }: { early: number; full: number }) =>
      early === full ? 0.02 : 0.6;
    const truth = new Map(
      replaySweep(all, entropy(), GRID).map(({ value, predictions }) => {
        let sum = 0;
        predictions.forEach((early, row) => {
          sum += loss({ early, full: fullAnswer(all, row) });
        });
        return [value, sum / 5000];
      }),
    );
    let violations = 0;
    for (let run = 0; run < 300; run += 1) {
      const sample = draw(all, 400, next);
      const { value } = selectByRisk(sample, entropy(), { maxLoss: 0.1, loss, grid: GRID });
      if (value !== undefined && (truth.get(value) as number) > 0.1) violations += 1;
    }
    expect(violations).toBeLessThanOrEqual(15 + 12);
  });

  it("falls back to full depth with too few rows, and says how many it takes", () => {
    const sample = population(200, 5);
    const chosen = selectByRisk(sample, entropy({ threshold: 0.3 }), { maxLoss: 0.01 });
    expect(chosen).toMatchObject({
      isFullDepth: true,
      value: undefined,
      rows: 200,
      rowsNeeded: 299,
    });
    expect(chosen.note).toMatch(/^Full depth: .*at least 299 held-out rows, got 200/);
    expect(new Set(chosen.exitLayers)).toEqual(new Set([DEPTH]));
    expect(chosen.strategy.options).toEqual({ threshold: 0.3 });
    expect(selectByRisk(take(sample, []), entropy(), { maxLoss: 0.5 }).isFullDepth).toBe(true);
  });

  it("starts from the slowest value, whichever way the knob turns, and takes a strategy without a knob as it is", () => {
    const record = population(2000, 6);
    const agreeing = { ...record, observed: Float32Array.from(record.observed, () => 0) };
    const chosen = selectByRisk(agreeing, patience(), { maxLoss: 0.2, loss: "agreement" });
    const values = chosen.tested.map(({ value }) => value as number);
    expect(values).toEqual([...values].sort((a, b) => b - a));
    const plain = selectByRisk(record, never(), { maxLoss: 0.01 });
    expect(plain).toMatchObject({ isFullDepth: false, value: undefined });
    expect(plain.tested).toHaveLength(1);
  });

  it("refuses what makes no sense", () => {
    const record = population(50, 7);
    const unlabelled = { ...record, labels: new Float32Array(50).fill(Number.NaN) };
    for (const options of [
      { maxLoss: 0 },
      { maxLoss: 1 },
      { maxLoss: 0.1, confidence: 1 },
      { maxLoss: 0.1, grid: [] },
      { maxLoss: 0.1, loss: () => 2 },
    ])
      expect(() => selectByRisk(record, entropy(), options)).toThrow(/selectThreshold/);
    expect(() => selectByRisk(unlabelled, entropy(), { maxLoss: 0.1, loss: "accuracy" })).toThrow(
      /needs every row's label/,
    );
    expect(selectByRisk(unlabelled, entropy(), { maxLoss: 0.1 }).loss).toBe("agreement");
  });
});

describe("selection by latency", () => {
  const record = population(400, 8);
  const tokens = record.ids.map((_, row) => (row % 4 === 0 ? 60 : 12));
  /** A layer of a long request takes four times as long; the second round is slower by a tenth. */
  const costs: CostModel = {
    lengths: [16, 64].map((length, place) => ({
      length,
      untilLayer: [1, 1.1].map((noise) =>
        Array.from({ length: DEPTH }, (_, index) => noise * (0.5 + (index + 1) * 4 ** place)),
      ),
    })),
  };

  it("takes the slowest value whose predicted percentile meets the target", () => {
    for (const p95Ms of [6, 12, 20, 40]) {
      const chosen = selectByLatency(record, entropy(), { p95Ms, tokens, costs, grid: GRID });
      const slowest = chosen.candidates.find((one) => one.predictedP95Ms <= p95Ms);
      expect(chosen.isMet).toBe(slowest !== undefined);
      if (slowest) expect(chosen.value).toBe(slowest.value);
      const layers = [...chosen.exitLayers];
      const times = layers.flatMap((layer, row) =>
        [1, 1.1].map((noise) => noise * (0.5 + layer * (row % 4 === 0 ? 4 : 1))),
      );
      const within = times.filter((time) => time <= chosen.predictedP95Ms + 1e-9).length;
      expect(within / times.length).toBeGreaterThanOrEqual(0.95);
    }
  });

  it("takes the fastest value and says so where none meets the target", () => {
    const chosen = selectByLatency(record, entropy(), { p95Ms: 0.1, tokens, costs, grid: GRID });
    expect(chosen).toMatchObject({ isMet: false, value: GRID.at(-1) });
    expect(chosen.note).toMatch(/misses 0\.1 ms.*maxLayer/);
  });

  it("refuses costs and rows that do not fit", () => {
    const options = { p95Ms: 5, tokens, costs };
    for (const change of [
      { p95Ms: 0 },
      { tokens: [1] },
      { costs: { lengths: [] } },
      { costs: { lengths: [{ length: 16, untilLayer: [[1]] }] } },
      { costs: { lengths: [...costs.lengths].reverse() } },
    ])
      expect(() => selectByLatency(record, entropy(), { ...options, ...change })).toThrow(
        /selectThreshold/,
      );
  });
});

/** @file The trained policy on recorded rows whose loss falls with depth. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type ConsistentEEInput,
  memorizedLayerPerRow,
  policyPhase,
  policyReport,
  resolveOptions,
} from "../src/index.js";
import { exitsOf, graded, mean, type PolicyTrainer, policyTrainer, shape } from "./support.js";

const rows = graded(96, 5);
let trainer: PolicyTrainer;
beforeAll(async () => {
  trainer = await policyTrainer(shape);
});
afterAll(() => trainer.dispose());

async function trained(options: ConsistentEEInput) {
  const resolved = resolveOptions(options);
  const phase = { ...policyPhase(resolved, 1), name: resolved.objective };
  const record = await trainer.train(rows, phase);
  return { exits: exitsOf(record), report: policyReport(record, resolved) };
}

describe("trained policy", () => {
  it("exits at the last layer when layers cost nothing", async () => {
    for (const reward of ["vanilla", "hardness"] as const)
      expect(new Set((await trained({ alpha: 0, reward })).exits)).toEqual(new Set([shape.depth]));
  });

  it("exits everything at layer 1 under the vanilla reward with a large alpha", async () => {
    const { exits } = await trained({ alpha: 10, reward: "vanilla" });
    expect(new Set(exits)).toEqual(new Set([1]));
  });

  it("under the hardness reward keeps rows with M = L deep while all others collapse", async () => {
    const { exits } = await trained({ alpha: 20, reward: "hardness" });
    const memorized = memorizedLayerPerRow(rows.record);
    exits.forEach((exit, row) => {
      expect(exit).toBe(memorized[row] === shape.depth ? shape.depth : 1);
    });
    expect(memorized.filter((layer) => layer === shape.depth)).toHaveLength(16);
  });

  it("exits earlier as alpha grows, within 0.3 layers, and comes near the oracle", async () => {
    for (const reward of ["vanilla", "hardness"] as const) {
      const layers: number[] = [];
      for (const alpha of [0, 0.05, 0.15, 0.3, 0.6, 1.2, 5]) {
        const { report, exits } = await trained({ alpha, reward });
        expect(mean(exits)).toBeCloseTo(report.meanExitLayer, 9);
        expect(report.objective).toBeLessThanOrEqual(report.oracleObjective + 1e-9);
        expect(report.oracleObjective - report.objective).toBeLessThan(0.1 + 0.05 * alpha);
        layers.push(report.meanExitLayer);
      }
      layers.slice(1).forEach((layer, index) => {
        expect(layer).toBeLessThan((layers[index] as number) + 0.3);
      });
      expect(layers[0]).toBe(shape.depth);
      expect(layers.at(-1)).toBeLessThan(2);
    }
  });

  it("learns the same from sampled exits", async () => {
    const options = { alpha: 0.3, reward: "vanilla" } as const;
    const exact = await trained({ ...options, objective: "exact" });
    const sampled = await trained({
      ...options,
      objective: "sampled",
      baseline: "leave-one-out",
      epsilonStart: 0.1,
      epsilonEnd: 0.01,
    });
    expect(Math.abs(sampled.report.objective - exact.report.objective)).toBeLessThan(0.02);
    expect(Math.abs(sampled.report.meanExitLayer - exact.report.meanExitLayer)).toBeLessThan(0.3);
  });
});

import { describe, expect, it } from "vitest";
import {
  agreement,
  type ExitRecord,
  type ExitStrategy,
  entropy,
  nearTies,
  patience,
  record,
  replay,
  toObserver,
} from "../src/index.js";
import { type FixedExitsOptions, type Fixture, fixedExits } from "../src/testing/index.js";
import { gradedLogits, random } from "./fixtures.js";

async function recordOf(
  logits: Fixture,
  strategy: ExitStrategy,
  options: FixedExitsOptions = {},
): Promise<ExitRecord> {
  const runner = await fixedExits(logits, options).open(toObserver(strategy));
  const rows = logits.map((_, row) => row);
  return record(runner, [rows], { ids: rows.map(String), labels: rows });
}

describe("near ties", () => {
  it("are the rows within epsilon of a threshold, up to their exit", async () => {
    const strategy = entropy({ threshold: 0.5 });
    const made = await recordOf(gradedLogits(1, 4, 4), strategy);
    made.logits.fill(0);
    for (let cell = 0; cell < 16; cell += 1) made.logits[cell * 2] = 3;
    made.observed.set([
      ...[0.6, 0.50005, 0.6, 0.6], // stays just above
      ...[0.6, 0.49995, 0.6, 0.6], // leaves just below
      ...[0.6, 0.4, 0.50001, 0.6], // close only after it has left
      ...[0.6, 0.6, 0.6, 0.5], // close only where nothing is decided
    ]);
    expect(nearTies(made, strategy)).toEqual([0, 1]);
    expect(nearTies(made, strategy, 1e-6)).toEqual([]);
  });

  it("include answers whose two highest logits are close", async () => {
    const strategy = entropy({ threshold: 0 });
    const rows = [
      [
        [3, 0],
        [1, 1.00005],
      ],
      [
        [1, 1.00005],
        [3, 0],
      ],
    ];
    expect(nearTies(await recordOf(rows, strategy), strategy)).toEqual([0]);
  });

  it("do not take labels for measurements, but exchange close ones", async () => {
    const strategy = patience({ patience: 1 });
    const clear = [
      [3, 0],
      [0, 3],
      [0, 3],
      [0, 3],
    ];
    const close = [
      [3, 0],
      [1, 1.00005],
      [0, 3],
      [0, 3],
    ];
    const late = [
      [3, 0],
      [3, 0],
      [1, 1.00005],
      [0, 3],
    ];
    const made = await recordOf([clear, close, late], strategy);
    expect([...replay(made, strategy).exitLayers]).toEqual([3, 3, 2]);
    expect(nearTies(made, strategy)).toEqual([1]);
  });

  it("see differences that two values make together", async () => {
    const strategy = patience({ patience: 1, tolerance: 0.1 });
    const made = await recordOf(
      [
        [[1], [1.10015], [5]],
        [[1], [1.2], [5]],
      ],
      strategy,
      {
        task: "regression",
      },
    );
    expect(nearTies(made, strategy)).toEqual([0]);
  });

  it("explain every difference that noise of their size makes", async () => {
    for (const strategy of [entropy({ threshold: 0.3 }), patience({ patience: 2 })]) {
      const made = await recordOf(gradedLogits(8, 300, 6), strategy);
      const epsilon = 0.02;
      const ties = nearTies(made, strategy, epsilon);
      const next = random(9);
      const noisy: ExitRecord = {
        ...made,
        observed:
          strategy.name === "patience"
            ? made.observed
            : made.observed.map((value) => value + (2 * next() - 1) * epsilon),
      };
      const report = agreement(replay(made, strategy), replay(noisy, strategy), ties);
      expect(report.unexplained).toEqual([]);
      if (strategy.name === "entropy") expect(report.differing.length).toBeGreaterThan(0);
      expect(report.nearTieShare).toBe(ties.length / 300);
      expect(report.nearTieShare).toBeLessThan(0.5);
    }
  });

  it("leave real disagreements unexplained", async () => {
    const strategy = entropy({ threshold: 0.3 });
    const made = await recordOf(gradedLogits(8, 20, 6), strategy);
    const [a, b] = [replay(made, strategy), replay(made, entropy({ threshold: 0.05 }))];
    const report = agreement(a, b, nearTies(made, strategy));
    expect(report.unexplained.length).toBeGreaterThan(5);
    expect(() => agreement(a, { ...b, rows: 3 })).toThrowError("the same rows");
  });
});

/** @file CALM's calibration on losses whose outcome is worked out by hand. */
import { describe, expect, it } from "vitest";
import { calibrateTextRisk, riskLoss, textualLoss } from "../src/calibration/text-risk.js";

const prompts = (loss: number) => new Array<number>(500).fill(loss);

describe("calibrateTextRisk", () => {
  it("stops at the first threshold that fails", async () => {
    const losses = new Map([
      [1, 0],
      [0.95, 0.01],
      [0.9, 0.03],
      [0.85, 0.06],
      [0.8, 0],
    ]);
    const asked: number[] = [];
    const result = await calibrateTextRisk({
      tolerance: 0.1,
      thresholds: [...losses.keys()],
      lossesAt(threshold) {
        asked.push(threshold);
        return prompts(losses.get(threshold) as number);
      },
    });
    expect(result.threshold).toBe(0.9);
    expect(asked).toEqual([1, 0.95, 0.9, 0.85]);
    const values = result.tested.map(({ pValue }) => pValue);
    expect(values).toBeAllclose([4.54e-5, 3.04e-4, 0.00745, 0.2019], { rtol: 2e-3, atol: 0 });
  });

  it("stays at full depth where the safest fails, and takes the last where all pass", async () => {
    const never = await calibrateTextRisk({
      tolerance: 0.1,
      thresholds: [1, 0.5],
      lossesAt: () => prompts(0.2),
    });
    expect(never.threshold).toBeUndefined();
    const always = await calibrateTextRisk({
      tolerance: 0.1,
      thresholds: [1, 0.5],
      lossesAt: async () => prompts(0),
    });
    expect(always.threshold).toBe(0.5);
  });

  it("refuses losses that are none", async () => {
    for (const losses of [[1.2], [Number.NaN], []])
      await expect(
        calibrateTextRisk({ tolerance: 0.1, thresholds: [1], lossesAt: () => losses }),
      ).rejects.toMatchObject({ code: "BAD_RECORD" });
    await expect(
      calibrateTextRisk({ tolerance: 0, thresholds: [1], lossesAt: () => [0] }),
    ).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
  });
});

describe("losses", () => {
  const overlap = (a: string, b: string) => Number(a === b);
  it("compare with full depth, or with what it lost against a reference", () => {
    expect(textualLoss("a", "a", overlap)).toBe(0);
    expect(textualLoss("b", "a", overlap)).toBe(1);
    const risk = (a: string, b: string) => 1 - overlap(a, b);
    expect(riskLoss("b", "a", "a", risk)).toBe(1);
    expect(riskLoss("a", "b", "a", risk)).toBe(0);
    expect(riskLoss("b", "c", "a", risk)).toBe(0);
  });
});

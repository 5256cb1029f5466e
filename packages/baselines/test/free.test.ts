/** @file FREE's adaptive threshold on worked-out numbers. */
import { describe, expect, it } from "vitest";
import { AdaptiveThreshold, estimateThreshold } from "../src/free/adaptive-threshold.js";

const confidences = [0.2, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99];
const confirmed = [0, 0, 1, 0, 1, 1, 1, 1];

describe("FREE's adaptive threshold", () => {
  it("fits both components by weighted moments", () => {
    const result = estimateThreshold(confidences, confirmed);
    expect([result.refuted.a, result.refuted.b]).toBeAllclose([2.0817, 2.7186], {
      atol: 1e-4,
      rtol: 0,
    });
    expect([result.confirmed.a, result.confirmed.b]).toBeAllclose([2.9792, 0.6194], {
      atol: 1e-4,
      rtol: 0,
    });
    expect(result.threshold).toBeCloseTo(0.7, 10);
  });

  it("is lowest where everything was confirmed", () => {
    expect(
      estimateThreshold(
        confidences,
        confidences.map(() => 1),
      ).threshold,
    ).toBeCloseTo(0.3, 10);
  });

  it("stays a number where confidences do not vary", () => {
    for (const label of [0, 1])
      for (const value of [0, 0.5, 1]) {
        const { threshold } = estimateThreshold([value, value], [label, label]);
        expect(threshold).toBeGreaterThanOrEqual(0.3);
        expect(threshold).toBeLessThanOrEqual(0.9);
      }
  });

  it("is the configured one before any comparison, and stops moving", () => {
    const adaptive = new AdaptiveThreshold({ initial: 0.8, maxUpdates: 1 });
    expect(adaptive.next()).toBe(0.8);
    confidences.forEach((value, index) => {
      adaptive.add(value, confirmed[index] === 1);
    });
    expect(adaptive.next()).toBeCloseTo(0.7, 10);
    for (const value of confidences) adaptive.add(value, true);
    expect(adaptive.next()).toBeCloseTo(0.7, 10);
  });
});

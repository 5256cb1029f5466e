/** @file `bench decode` on a tiny decoder: what it reports, not how fast it is. */
import { describe, expect, it } from "vitest";
import { runDecodeBench } from "../src/decode/decode-bench.js";

describe("bench decode", () => {
  it("times forced depths beside predictions, and names the cost of every exit test", async () => {
    const lines: string[] = [];
    const { forced, exitTests, bars, tokensPerSecond } = await runDecodeBench({
      width: 64,
      depth: 3,
      vocabulary: 40,
      prompt: 4,
      tokens: 7,
      rounds: 1,
      log: (line) => lines.push(line),
    });
    expect(tokensPerSecond).toBeGreaterThan(0);
    expect(forced.map(({ meanExitLayer }) => meanExitLayer)).toEqual([1, 2, 2, 2]);
    for (const { measured, predicted } of forced) {
      expect(measured).toBeGreaterThan(0);
      expect(predicted).toBeGreaterThan(0);
    }
    expect(Object.keys(exitTests)).toContain("ConsistentEE");
    const [bar] = bars;
    const isWithin = forced.every(
      ({ measured, predicted }) => Math.abs(measured / predicted - 1) <= 0.1,
    );
    expect(bar?.isMet).toBe(isWithin);
    expect(lines.join("\n")).toContain("Forced mean exit depth 2.00 of 3");
  }, 60_000);
});

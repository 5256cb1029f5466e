/** @file `bench decode` on a tiny decoder: what it reports, not how fast it is. */
import { describe, expect, it } from "vitest";
import { runDecodeBench } from "../src/decode/decode-bench.js";
import { describeDecodeBench } from "../src/decode/decode-text.js";
import { recorded } from "./helpers.js";

describe("bench decode", () => {
  it("times forced depths beside predictions, and names the cost of every exit test", async () => {
    const sizes = { width: 64, depth: 3, vocabulary: 40, prompt: 4, tokens: 7, rounds: 2 };
    const result = await runDecodeBench(sizes, recorded().hooks);
    const { forced, exitTests, bars, transformers, tokensPerSecond } = result;
    const gain = transformers?.gain;
    expect(tokensPerSecond).toBeGreaterThan(0);
    expect(forced.map(({ meanExitLayer }) => meanExitLayer)).toEqual([1, 2, 2, 2]);
    for (const { measured, predicted } of forced) {
      expect(measured).toBeGreaterThan(0);
      expect(predicted).toBeGreaterThan(0);
    }
    expect(Object.keys(exitTests)).toContain("ConsistentEE");
    // The library is a development dependency; a mismatch of logits or texts would have thrown.
    expect(gain?.estimate).toBeGreaterThan(0);
    expect(bars.map(({ name, isMet }) => [name.split(",")[0], isMet])).toEqual([
      ["full depth", (gain?.high ?? 0) >= 1],
      ...forced.map(({ meanExitLayer, ratio }) => [
        `forced mean exit depth ${meanExitLayer.toFixed(2)}`,
        ratio.high >= 0.9 && ratio.low <= 1.1,
      ]),
    ]);
    const text = describeDecodeBench(result);
    expect(text).toContain("Forced mean exit depth 2.00 of 3");
    expect(text).toMatch(/^(met {4}|OPEN {3}|NOT MET) {2}full depth, tokens per second/m);
  }, 60_000);
});

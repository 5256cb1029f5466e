import { describe, expect, it } from "vitest";
import { describeReplayBench, runReplayBench } from "../src/replay/replay-bench.js";
import { recorded } from "./helpers.js";

describe("bench replay", () => {
  it("replays every strategy by both paths, equal, at mean exits from 2 to L - 1", async () => {
    const options = { rows: 40, layers: 6, values: 12, rounds: 1, milliseconds: 1 };
    const result = await runReplayBench(options, recorded().hooks);
    const { speeds, bars } = result;
    expect(speeds.map(({ strategy }) => strategy)).toEqual([
      "entropy",
      "right-tool",
      "pcee",
      "patience",
    ]);
    for (const { isEqual, meanExitLayers, values, decide, sorted, strategy } of speeds) {
      expect(isEqual).toBe(true);
      expect(values).toBe(12);
      expect(meanExitLayers[0]).toBeGreaterThanOrEqual(2);
      expect(meanExitLayers[1]).toBeLessThanOrEqual(5);
      expect(meanExitLayers[1] - meanExitLayers[0]).toBeGreaterThan(1);
      expect(decide).toBeGreaterThan(0);
      expect(sorted === null).toBe(["pcee", "patience"].includes(strategy));
    }
    expect(bars).toHaveLength(3);
    expect(bars[2]?.isMet).toBe(true);
    const text = describeReplayBench(result);
    expect(text).toContain("40 rows x 6 layers");
    expect(text).toMatch(/entropy +12 /);
    expect(text).toContain("has state");
  });
});

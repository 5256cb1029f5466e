/** @file Interleaved timing: on a clock that only the timed models move. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { timeModels } from "../src/glue/timing.js";
import type { TimedModel } from "../src/methods/method.js";

let clock = 0;
beforeEach(() => {
  clock = 0;
  vi.spyOn(performance, "now").mockImplementation(() => clock);
});
afterEach(() => void vi.restoreAllMocks());

const rows = [1, 2, 3].map((id) => ({
  id: String(id),
  ids: Int32Array.of(2, 5, 3),
  types: Int32Array.of(0, 0, 0),
  label: 0,
}));

/** Takes `milliseconds(call)` per row and notes its turn. */
function model(name: string, turns: string[], milliseconds: (call: number) => number): TimedModel {
  let calls = 0;
  return {
    answer: async () => {
      turns.push(name);
      clock += milliseconds(calls);
      calls += 1;
    },
    dispose: async () => undefined,
  };
}

describe("timeModels", () => {
  it("gives one minus the ratio of median times", async () => {
    const turns: string[] = [];
    const full = model("full", turns, () => 8);
    const fast = model("fast", turns, () => 2);
    const slow = model("slow", turns, () => 10);
    const timing = await timeModels(full, [fast, slow], { rows, padId: 0 });
    expect(timing.savedRuntime).toEqual([0.75, -0.25]);
    expect(timing.savedRuntimeRange).toEqual([
      [0.75, 0.75],
      [-0.25, -0.25],
    ]);
    expect(timing.fullMillisecondsPerRow).toBe(8);
    expect(timing.millisecondsPerRow).toEqual([2, 10]);
  });

  it("does not count the first round, nor let one slow round decide", async () => {
    // Three rows a round: round 0 warms up, round 2 is disturbed.
    const disturbed = (call: number) => (call < 3 || (call >= 6 && call < 9) ? 1000 : 4);
    const timing = await timeModels(
      model("full", [], () => 8),
      [model("a", [], disturbed)],
      { rows, padId: 0 },
    );
    expect(timing.savedRuntime).toEqual([0.5]);
    // The disturbed round is not hidden: it is the low end of the range.
    expect(timing.savedRuntimeRange).toEqual([[1 - 1000 / 8, 0.5]]);
  });

  it("takes turns row by row, and another model goes first in each round", async () => {
    const turns: string[] = [];
    await timeModels(
      model("f", turns, () => 1),
      [model("a", turns, () => 1)],
      {
        rows,
        padId: 0,
        rounds: 1,
      },
    );
    expect(turns.join("")).toBe("fafafa" + "afafaf");
  });

  it("stops between rows when asked to", async () => {
    const controller = new AbortController();
    const turns: string[] = [];
    const full = model("f", turns, () => {
      controller.abort();
      return 1;
    });
    const { signal } = controller;
    const timed = timeModels(full, [model("a", turns, () => 1)], { rows, padId: 0, signal });
    await expect(timed).rejects.toMatchObject({ code: "STOPPED" });
    expect(turns.join("")).toBe("fa");
  });
});

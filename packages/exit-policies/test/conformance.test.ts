import { describe, expect, it } from "vitest";
import { alwaysAt, entropy, never, patience, pcee, rightTool } from "../src/index.js";
import { conformance } from "../src/testing/index.js";

const kits = {
  entropy: conformance(entropy, {
    configurations: [[], [{ threshold: 0.4 }]],
    knobEnds: { slowest: 0, fastest: { value: 0.7, layer: 1 } },
    vectors: [
      { name: "below", options: { threshold: 0.3 }, observed: [0.5, 0.2, 0.1], exitLayer: 2 },
      { name: "tie", options: { threshold: 0.25 }, observed: [0.5, 0.25, 0.1, 0], exitLayer: 3 },
    ],
  }),
  patience: conformance(patience, {
    configurations: [[{ patience: 2 }], [{ patience: 1, tolerance: 0.5 }]],
    knobEnds: { slowest: 6, fastest: { value: 1, layer: 2 } },
    vectors: [1, 2, 3, 4, 5].map((k) => ({
      name: `patience ${k}`,
      options: { patience: k },
      observed: [1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0],
      exitLayer: [3, 6, 10, 11, 12][k - 1] as number,
    })),
  }),
  pcee: conformance(pcee, {
    configurations: [[], [{ threshold: 0.6, patience: 1 }]],
    shape: { depth: 8 },
    // The grid ends at half of the highest entropy.
    knobEnds: { slowest: 0 },
  }),
  "right-tool": conformance(rightTool, {
    configurations: [[], [{ threshold: 0.7, temperatures: [2, 1.5, 1, 0.5, 0.5, 0.5] }]],
    knobEnds: { slowest: 1, fastest: { value: 0, layer: 1 } },
  }),
  "always-at": conformance(alwaysAt, {
    configurations: [[{ layer: 3 }]],
    knobEnds: { slowest: 12, fastest: { value: 1, layer: 1 } },
  }),
  never: conformance(never, { configurations: [[]] }),
};

describe.each(Object.entries(kits))("%s conforms", (_, checks) => {
  it("to at least 40 checks", () => {
    expect(checks.length).toBeGreaterThanOrEqual(40);
    expect(new Set(checks.map((check) => check.name)).size).toBe(checks.length);
  });
  for (const check of checks) it(check.name, check.run);
});

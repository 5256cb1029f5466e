/** @file Every strategy of this package keeps the contract; the vectors are those of the papers and their code. */
import { describe, expect, it } from "vitest";
import * as everything from "../src/index.js";
import {
  alwaysAt,
  builtInStrategies,
  calm,
  calmMeta,
  calmState,
  conformal,
  entropy,
  fastBert,
  never,
  patience,
  pcee,
  rightTool,
  shallowDeep,
  zeroTimeWaste,
} from "../src/index.js";
import { conformance } from "../src/testing/index.js";

/** CAT's calibration scores in its vectors. */
const scores = [0.5, 0.9, 0.95];

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
  "fast-bert": conformance(fastBert, {
    configurations: [[], [{ speed: 0.2 }]],
    knobEnds: { slowest: -1, fastest: { value: 1, layer: 1 } },
    vectors: [
      { name: "a tie exits", options: { speed: 0.5 }, observed: [0.6, 0.5, 0.1], exitLayer: 2 },
      { name: "NaN stays", options: { speed: 1 }, observed: [Number.NaN, 0.9, 0], exitLayer: 2 },
    ],
  }),
  "zero-time-waste": conformance(zeroTimeWaste, {
    configurations: [[], [{ threshold: 0.6 }]],
    knobEnds: { slowest: 1.1, fastest: { value: 0, layer: 1 } },
    vectors: [
      { name: "a tie stays", options: { threshold: 0.5 }, observed: [0.5, 0.75, 1], exitLayer: 2 },
    ],
  }),
  conformal: conformance(conformal, {
    configurations: [[{ scores }], [{ epsilon: 0.5, scores: [0.2, 0.4, 0.45, 0.5] }]],
    knobEnds: { slowest: 0 },
    vectors: [
      // Maxima .5 .9 .95: at .5 the threshold is .95, at .3 it is infinite.
      {
        name: "quantile",
        options: { epsilon: 0.5, scores },
        observed: [0.9, 0.951, 0.99],
        exitLayer: 2,
      },
      {
        name: "a tie stays",
        options: { epsilon: 0.5, scores },
        observed: [0.95, 0.94, 0.99, 1],
        exitLayer: 3,
      },
      {
        name: "too few rows for so small a risk",
        options: { epsilon: 0.3, scores },
        observed: [1, 1, 1],
        exitLayer: 3,
      },
      {
        name: "nothing to calibrate with",
        options: { scores: [] },
        observed: [1, 1],
        exitLayer: 2,
      },
      {
        name: "any risk",
        options: { epsilon: 1, scores },
        observed: [0.51, 0.2, 0.1],
        exitLayer: 1,
      },
    ],
  }),
  // The paper's falling threshold is clipped to [0, 1], and 0 is 0.1 at the first token: the ends need a constant one.
  calm: conformance(calm, {
    configurations: [[{ decay: "none" }], [{ threshold: 0.6, decay: "none" }]],
    knobEnds: { slowest: 2.1, fastest: { value: 0, layer: 1 } },
    vectors: [
      {
        name: "a tie exits",
        options: { threshold: 0.5, decay: "none" },
        observed: [0.4, 0.5, 1],
        exitLayer: 2,
      },
      {
        name: "the threshold at the first token is 0.9 * 0.5 + 0.1",
        options: { threshold: 0.5, decay: "paper" },
        observed: [0.54, 0.5, 0.56, 1],
        exitLayer: 3,
      },
      {
        name: "no exit before minLayer",
        options: { threshold: 0.5, minLayer: 3 },
        observed: [1, 1, 1, 1],
        exitLayer: 3,
      },
    ],
  }),
  "calm-state": conformance(calmState, {
    configurations: [[{ decay: "none" }], [{ threshold: 0.9, normed: true, decay: "none" }]],
    knobEnds: { slowest: 1.1, fastest: { value: -1.001, layer: 2 } },
  }),
  "calm-meta": conformance(calmMeta, {
    configurations: [[], [{ threshold: 0.4 }]],
    knobEnds: { slowest: 1.1, fastest: { value: 0, layer: 1 } },
  }),
  "shallow-deep": conformance(shallowDeep, {
    configurations: [[{ layer: 2 }]],
    knobEnds: { slowest: 1, fastest: { value: -1, layer: 2 } },
    vectors: [
      {
        name: "a tie stays, and there is one exit",
        options: { layer: 2, threshold: 0.5 },
        observed: [0.9, 0.5, 0.9, 0.9],
        exitLayer: 4,
      },
    ],
  }),
  never: conformance(never, { configurations: [[]] }),
};

it("leaves out no strategy that the package exports, nor any kit", () => {
  const exported = Object.values(everything).filter(
    (value) => typeof value === "function" && "strategyName" in value,
  );
  expect(new Set(builtInStrategies)).toEqual(new Set(exported));
  const names = builtInStrategies.map(({ strategyName }) => strategyName);
  expect([...names].sort()).toEqual(Object.keys(kits).sort());
});

describe.each(Object.entries(kits))("%s conforms", (_, checks) => {
  it("to at least 40 checks", () => {
    expect(checks.length).toBeGreaterThanOrEqual(40);
    expect(new Set(checks.map((check) => check.name)).size).toBe(checks.length);
  });
  for (const check of checks) it(check.name, check.run);
});

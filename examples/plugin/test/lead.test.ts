/** @file The strategy keeps the contract, and decides as it says. */
import { conformance } from "@cee/exit-policies/testing";
import { describe, it } from "vitest";
import lead from "../lead.js";

describe("lead", () => {
  const checks = conformance(lead, {
    configurations: [[], [{ margin: 0.3, layers: 1 }]],
    // Nobody leads by more than 1.
    knobEnds: { slowest: 1 },
    vectors: [
      {
        name: "twice the same answer",
        options: { margin: 0.5 },
        observed: [
          [0.6, 1],
          [0.7, 1],
          [0.9, 1],
        ],
        exitLayer: 2,
      },
      {
        name: "another answer starts again",
        options: { margin: 0.5 },
        observed: [
          [0.6, 1],
          [0.7, 0],
          [0.9, 0],
          [0.1, 0],
        ],
        exitLayer: 3,
      },
      {
        name: "a tie stays",
        options: { margin: 0.5, layers: 1 },
        observed: [
          [0.5, 0],
          [0.6, 0],
          [0, 0],
        ],
        exitLayer: 2,
      },
    ],
  });
  for (const { name, run } of checks) it(name, run);
});

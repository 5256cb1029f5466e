/** @file The strategy keeps the contract, and decides as its README says. */
import { test } from "node:test";
import { conformance } from "@cee/exit-policies/testing";
import myStrategy from "../src/index.js";

const checks = conformance(myStrategy, {
  configurations: [[], [{ margin: 0.5 }]],
  // Beyond this value of the knob nobody leaves early.
  knobEnds: { slowest: 1 },
  // The numbers of a paper belong here, with ties and the last layer.
  vectors: [
    { name: "above", options: { margin: 0.5 }, observed: [0.1, 0.6, 0.9], exitLayer: 2 },
    { name: "a tie stays", options: { margin: 0.5 }, observed: [0.5, 0.5, 0.9, 0], exitLayer: 3 },
    { name: "NaN stays", options: { margin: 0 }, observed: [Number.NaN, 0.3, 0], exitLayer: 2 },
    { name: "the last layer answers", options: { margin: 0.9 }, observed: [0, 0, 0], exitLayer: 3 },
  ],
});

for (const { name, run } of checks) test(name, run);

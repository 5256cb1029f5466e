/** @file What the comparisons, matched curves and single inputs of `results.json` look like. */
import { mismatch, type Shape } from "./shape.js";

const difference: Shape = {
  estimate: "number",
  low: "number",
  high: "number",
  p: "number",
  holmP: "number",
};
const mean: Shape = { oneOf: ["null", { mean: "number", standardError: "number" }] };
const answer: Shape = { oneOf: ["text", "number"] };

const shapes = {
  comparisons: [
    {
      task: "text",
      split: "text",
      seed: "number",
      operatingPoint: "text",
      first: "text",
      second: "text",
      scoreDifference: difference,
      exitDifference: { oneOf: ["null", difference] },
      mcNemar: {
        oneOf: [
          "null",
          { onlyFirst: "number", onlySecond: "number", p: "number", holmP: "number" },
        ],
      },
    },
  ],
  matched: [
    {
      task: "text",
      split: "text",
      method: "text",
      seeds: "number",
      atSpeed: [{ savedLayers: "number", score: mean }],
      atScore: [{ relativeScore: "number", savedLayers: mean }],
      area: { oneOf: ["null", { from: "number", to: "number", score: mean }] },
    },
  ],
  inputs: [
    {
      task: "text",
      split: "text",
      method: "text",
      seed: "number",
      id: "text",
      text: "text",
      "pair?": "text",
      label: answer,
      "hardness?": "text",
      answers: [answer],
      observed: { oneOf: ["null", ["number?"]] },
      knob: {
        oneOf: ["null", { name: "text", direction: "text", value: "number?", exits: [["number"]] }],
      },
      exit: "number",
    },
  ],
  responses: [
    {
      task: "text",
      id: "text",
      prompt: "text",
      reference: "text",
      answers: [
        {
          method: "text",
          knob: { oneOf: ["null", { name: "text", value: "number" }] },
          speedup: "number",
          score: "number",
          text: "text",
        },
      ],
    },
  ],
  taken: [{ task: "text", method: "text", seed: "number" }],
} as const satisfies Readonly<Record<string, Shape>>;

/** Where a list of the results is not what it must be; `undefined` where it is fine. */
export function listMismatch(name: keyof typeof shapes, value: unknown): string | undefined {
  return mismatch(value, shapes[name], "");
}

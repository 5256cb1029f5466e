/** @file Single inputs in results: whose texts are kept, and what a damaged list is answered with. */
import { describe, expect, it } from "vitest";
import type { TaskDefinition } from "../src/data/task.js";
import { describeRow } from "../src/glue/answers.js";
import { validateResults } from "../src/results.js";
import { richResults } from "./rich-results.js";

const task: TaskDefinition = {
  name: "pairs",
  title: "Pairs",
  pair: true,
  regression: false,
  labels: ["no", "yes"],
  metric: "accuracy",
  metrics: ["accuracy"],
};
const row = { id: "dev-7", text: "A sentence.", pair: "Another one.", label: 1 };

describe("texts of single inputs", () => {
  it("are kept for generated rows, and for given data only when asked for", () => {
    expect(describeRow(row, task, false)).toEqual({ id: "dev-7", text: "", label: "yes" });
    expect(describeRow(row, task, true)).toEqual({ ...row, label: "yes" });
    const generated = { ...row, hardness: "word" } as const;
    expect(describeRow(generated, task, false)).toEqual({ ...generated, label: "yes" });
  });
});

describe("lists of results that are damaged", () => {
  const results = richResults();
  it.each([
    ["inputs", [{ ...results.inputs![0]!, answers: [null] }], "inputs[0].answers[0]: expected"],
    ["inputs", [{ ...results.inputs![0]!, pair: 1 }], "inputs[0].pair: expected text, got 1"],
    ["comparisons", [{ ...results.comparisons![0]!, mcNemar: {} }], "mcNemar.onlyFirst"],
    ["matched", {}, "matched: expected a list, got {}"],
    ["taken", [1], "taken[0]: expected an object, got 1"],
  ])("in %s are refused with the place", (name, value, message) => {
    const check = () => validateResults({ ...results, [name]: value }, "results.json");
    expect(check).toThrow(message);
    expect(check).toThrow(expect.objectContaining({ code: "BAD_RESULTS" }));
  });

  it("are fine where they are whole", () => {
    expect(validateResults(results)).toBe(results);
  });
});

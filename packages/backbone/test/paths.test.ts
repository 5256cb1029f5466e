/** @file Parameter path patterns. */
import { describe, expect, it } from "vitest";
import { pathMatcher } from "../src/train/paths.js";

const cases: readonly (readonly [pattern: string, matched: string[], others: string[]])[] = [
  [
    "backbone.**",
    ["backbone.pooler.dense.bias", "backbone.x"],
    ["heads.1.x", "backbones.x", "my.backbone.x"],
  ],
  [
    "heads.*.classifier.*",
    ["heads.1.classifier.weight", "heads.12.classifier.bias"],
    ["heads.1.pooler.weight", "heads.1.classifier.weight.extra", "heads.1.deep.classifier.weight"],
  ],
  ["heads.1.**", ["heads.1.classifier.bias"], ["heads.12.classifier.bias", "heads.2.x"]],
  ["**.bias", ["bias", "heads.1.classifier.bias"], ["heads.1.classifier.weight", "a.bias.b"]],
  ["heads.**.bias", ["heads.bias", "heads.1.a.b.bias"], ["heads.1.a.b.weight"]],
  ["**", ["anything", "a.b.c"], []],
  ["heads.1*.weight", ["heads.1.weight", "heads.12.weight"], ["heads.21.weight"]],
  ["strategy.weight", ["strategy.weight"], ["strategy.weights", "strategyXweight"]],
  ["strategy.a+(b)|c", ["strategy.a+(b)|c"], ["strategy.aab", "c"]],
];

describe("pathMatcher", () => {
  it.each(cases)("understands %s", (pattern, matched, others) => {
    const matches = pathMatcher([pattern]);
    expect(matched.filter((path) => !matches(path))).toEqual([]);
    expect(others.filter(matches)).toEqual([]);
  });

  it("matches what one of several patterns matches, and nothing without patterns", () => {
    const matches = pathMatcher(["heads.**", "strategy.*"]);
    expect(["heads.1.x", "strategy.y", "backbone.z"].map(matches)).toEqual([true, true, false]);
    expect(pathMatcher([])("heads.1.x")).toBe(false);
  });
});

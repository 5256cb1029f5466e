/** @file The pages of methods give what the committed cells hold. */
import { expect, it } from "vitest";
import { measured, measuredPage, measuredPages, resultsPage } from "../docs/measured.js";
import { methods } from "../packages/bench/src/methods/registry.js";

it.each([...measuredPages.keys()])("the measured rows of %s are up to date", (name) => {
  const { is, should } = measuredPage(name);
  expect(is, "run pnpm docs:measured, and commit").toBe(should);
});

it("the tables of results.md are up to date", () => {
  const { is, should } = resultsPage();
  expect(is, "run pnpm docs:measured, and commit").toBe(should);
});

it("every method of bench glue is on a page", () => {
  const named = [...measuredPages.values()].flat();
  expect([...named].sort()).toEqual(methods.map(({ name }) => name).sort());
});

it("a method is shown with its score, its layers and its time", () => {
  expect(measured(["deebert"])).toMatch(
    /\| `deebert` \| sst-2, seed 42 \| within 1 % \| threshold [\d.]+ \| [\d.]+ \([\d.]+ to [\d.]+\) \| 71\.8 \| \d+ % \| \d+ % \| [\d.]+ of [\d.]+, \d+ % \|/,
  );
  expect(measured(["tr-bert"])).toContain("none within 1 %; its best");
});

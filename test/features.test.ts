/** @file The page with the table of features says what the definitions say now. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { featuresFile, featuresPage } from "../docs/features.js";

it("the table of features is up to date", async () => {
  const page = await featuresPage();
  expect(readFileSync(featuresFile, "utf8"), "run pnpm docs:features, and commit").toBe(page);
});

it("the table tells strategies apart", async () => {
  const lines = (await featuresPage()).split("\n");
  const row = (name: string) =>
    lines
      .find((line) => line.startsWith(`| \`${name}\``))
      ?.split("|")
      .slice(3, 10)
      .map((cell) => cell.trim());
  expect(row("entropy")).toEqual(["yes", "–", "–", "–", "–", "yes", "yes"]);
  expect(row("patience")?.[1]).toBe("yes");
  expect(row("calm-meta")).toEqual(["yes", "–", "yes", "yes", "–", "–", "yes"]);
  expect(row("conformal")?.[4]).toBe("yes");
  expect(row("consistentee-decoder")?.slice(0, 3)).toEqual(["–", "–", "yes"]);
});

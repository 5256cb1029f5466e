/** @file Holds the README to its word: the pinned commands, the links, and the strategy that it shows. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const readme = readFileSync(join(root, "README.md"), "utf8");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

// Where the strategy's imports resolve: a package that has all of them. The folder is ignored by git.
const cache = join(root, "packages", "consistentee", ".cache");
mkdirSync(cache, { recursive: true });
const folder = mkdtempSync(join(cache, "readme-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const [strategy] = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code as string);
const entry = join(folder, "strategy.ts");
writeFileSync(entry, `${strategy}\nexport { conformance } from "@cee/exit-policies/testing";\n`);
const { default: shown, conformance } = await import(/* @vite-ignore */ entry);

describe("the README", () => {
  it("gives the two commands with the pinned package manager", () => {
    for (const command of ["bench glue", "test"])
      expect(readme.split("\n")).toContain(`npx -y ${manifest.packageManager} ${command}`);
  });

  it("links to what is there", () => {
    const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map(([, link]) => link as string);
    expect(links.length).toBeGreaterThan(5);
    for (const link of links) expect(existsSync(join(root, link)), link).toBe(true);
  });

  describe("shows a strategy that", () => {
    for (const check of conformance(shown, { configurations: [[], [{ threshold: 0.6 }]] }))
      it(check.name, check.run);
  });
});

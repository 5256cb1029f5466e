/** @file `cee new strategy`: the package that it writes can take part in a benchmark, and nothing is overwritten. */
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { cee } from "../src/cee.js";
import { vetPlugin } from "../src/plugins/vet.js";
import { temporaryFolder } from "./helpers.js";

afterEach(() => vi.restoreAllMocks());

/** What the command prints. */
async function run(...words: string[]): Promise<string> {
  let printed = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += text;
    return true;
  });
  expect(await cee(["new", ...words])).toBe(0);
  return printed;
}

describe("cee new strategy", () => {
  it("writes a package under the new name that passes the vital checks", {
    timeout: 120_000,
  }, async () => {
    const parent = await temporaryFolder();
    const folder = path.join(parent, "exit-strategy-two-words");
    const printed = await run("strategy", "two-words", `--out=${folder}`, "--json");
    const written = JSON.parse(printed);
    expect(written).toMatchObject({ strategy: "two-words", package: "exit-strategy-two-words" });
    expect(written.files).toContain(".gitignore");
    const texts = await Promise.all(
      (written.files as string[]).map((file) => readFile(path.join(folder, file), "utf8")),
    );
    const all = texts.join("\n");
    expect(all).not.toMatch(/my-?strategy/i);
    expect(all).toContain('name: "two-words"');
    expect(all).toContain("import twoWords from");
    const manifest = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
    expect(manifest.name).toBe("exit-strategy-two-words");
    expect(manifest.peerDependencies["@cee/exit-policies"]).toMatch(/^\^\d+\.\d+\.\d+/);
    expect(await vetPlugin("strategy", "./src/index.ts", { from: folder })).toBeUndefined();
  });

  it("takes the package's name as well, and says what comes next", async () => {
    const folder = path.join(await temporaryFolder(), "x");
    const printed = await run("strategy", "exit-strategy-margin", "--out", folder);
    expect(printed).toContain("npm test");
    expect(await readFile(path.join(folder, "src/index.ts"), "utf8")).toContain('name: "margin"');
  });

  it("leaves what is there alone", async () => {
    const folder = await temporaryFolder({ "notes.txt": "mine" });
    for (const out of [folder, path.join(folder, "notes.txt")])
      await expect(cee(["new", "strategy", "margin", "--out", out])).rejects.toMatchObject({
        code: "WRITE_FAILED",
        who: "--out",
      });
    expect(await readdir(folder)).toEqual(["notes.txt"]);
  });

  it.each([
    [[], "expected what to write"],
    [["stratgy", "margin"], 'Did you mean "strategy"?'],
    [["strategy"], "expected one name, got none"],
    [["strategy", "a", "b"], "expected one name, got a b"],
    [["strategy", "My_Rule"], "lower-case words joined by dashes"],
    [["strategy", "entropy"], "a strategy of this project"],
    [["strategy", "full"], "a strategy of this project"],
    [["strategy", "margin", "--jsn"], 'Did you mean "--json"?'],
  ])("%j is refused", async (words, message) => {
    await expect(cee(["new", ...words])).rejects.toThrow(message);
  });
});

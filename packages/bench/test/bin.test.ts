/** @file The program `cee`, built as it is published, and the repository's scripts that run it from the sources. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cee } from "../src/cee.js";
import { exitCodeOf } from "../src/cli.js";

const home = fileURLToPath(new URL("..", import.meta.url));
const root = join(home, "../..");
const manifest = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const require = createRequire(import.meta.url);

// Inside the package, so that what the built files import is found. The folder is ignored by git.
let folder = "";
beforeAll(() => {
  mkdirSync(join(home, ".cache"), { recursive: true });
  folder = mkdtempSync(join(home, ".cache", "bin-"));
  for (const part of ["bin", "package.json"])
    cpSync(join(home, part), join(folder, part), { recursive: true });
  const tsup = join(dirname(require.resolve("tsup/package.json")), "dist/cli-default.js");
  const { status, stdout, stderr } = node([tsup, "--no-dts", "--out-dir", join(folder, "dist")]);
  expect(status, stdout + stderr).toBe(0);
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function node(args: readonly string[], cwd = home) {
  const { CEE_DEBUG: _, ...env } = process.env;
  return spawnSync(process.execPath, args, { cwd, env, encoding: "utf8" });
}

describe("the built program", () => {
  const cee = (...words: string[]) => node([join(folder, manifest.bin.cee), ...words]);

  it.each([
    [["--help"], "Usage: cee <command>"],
    [["help", "bench"], "Usage: cee bench <command>"],
    [["bench", "glue", "--help"], "Usage: cee bench glue"],
    [["new", "--help"], "Usage: cee new strategy"],
    [["help", "new"], "Usage: cee new strategy"],
    [["help", "bench", "engine"], "Usage: cee bench engine"],
  ])("%j prints help that names it", (words, start) => {
    const { status, stdout, stderr } = cee(...words);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.startsWith(start), stdout).toBe(true);
    expect(stdout).not.toContain("pnpm");
  });

  it.each([
    [[], "Usage: cee <command>"],
    [["pretrian"], 'Did you mean "pretrain"?'],
    [["--tasks", "rte"], "Try: cee --help"],
    [["bench", "--tasks"], "Try: cee bench glue --help"],
    [["bench", "glue", "--preset", "smal"], 'Did you mean "small"?'],
  ])("%j is a usage error on standard error", (words, part) => {
    const { status, stdout, stderr } = cee(...words);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toContain(part);
  });

  it("says its version", () => {
    expect(cee("--version")).toMatchObject({
      status: 0,
      stdout: `${manifest.version}\n`,
      stderr: "",
    });
  });

  it("brings the template of a strategy", () => {
    const { status, stdout, stderr } = node(
      [
        "--conditions=@cee/source",
        "--import",
        "tsx",
        join(folder, manifest.bin.cee),
        "new",
        "strategy",
        "margin",
      ],
      folder,
    );
    expect(status, stderr).toBe(0);
    expect(stdout).toContain("Wrote 6 files to exit-strategy-margin");
    const written = readFileSync(join(folder, "exit-strategy-margin/src/index.ts"), "utf8");
    expect(written).toContain('name: "margin"');
  });

  it("starts the benchmark's code, which lies beside it", () => {
    const words =
      "--widths 16 --depth 2 --heads 2 --vocabulary 64 --batch 2 --length 8 --threads 1 --rounds 1 --wasm-rounds 0 --no-torch";
    const sources = ["--conditions=@cee/source", "--import", "tsx"];
    const { status, stdout, stderr } = node([
      ...sources,
      join(folder, manifest.bin.cee),
      ...["bench", "engine", ...words.split(" ")],
    ]);
    expect(status, stderr).toBe(0);
    expect(stdout).toContain("| 16 | training step | compiled |");
  });
});

describe("the repository's script", () => {
  it.each([
    ["bench", ["--help"], "Usage: pnpm bench <command>"],
    ["cee", ["--help"], "Usage: pnpm cee <command>"],
    ["cee", ["bench", "--help"], "Usage: pnpm bench <command>"],
    ["cee", ["pretrain", "--help"], "Usage: pnpm cee pretrain"],
    ["cee", ["export", "--help"], "Usage: pnpm cee export"],
  ])("%s %j runs", (name, words, start) => {
    const [program, ...args] = scripts[name].split(" ");
    // Not tsx's own program: it kills a busy child on Ctrl-C, before the child can stop in order.
    expect(program).toBe("node");
    const { status, stdout, stderr } = node([...args, ...words], root);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.startsWith(start), stdout).toBe(true);
  });
});

describe("pretrain", () => {
  const refusal = async (...words: string[]) =>
    cee(["pretrain", ...words], { cee: "pnpm cee", bench: "" }).catch((cause: unknown) => cause);

  it.each([
    [["--corpsu", "a"], 'Did you mean "--corpus"?'],
    [[], "[--corpus] is needed. Try: pnpm cee pretrain"],
    [["--corpus", "a.txt", "--out", "b"], "[--config] is needed"],
    [["--export", "b", "--config", "c.json"], "[--out] is needed"],
    [["a.txt", "--config", "c.json", "--out", "b", "--minutes", "0"], "a number above 0"],
    [["--corpus"], "[--corpus] expected a file or folder"],
    [["--progress=yes"], "takes no value"],
  ])("%j is a usage error", async (words, part) => {
    const cause = await refusal(...words);
    expect((cause as Error).message).toContain(part);
    expect(exitCodeOf(cause)).toBe(2);
  });

  it("says what is wrong with the settings of what it is to export", async () => {
    const file = join(folder, "settings.json");
    const words = ["--export", join(folder, "weights"), "--out", folder, "--config"];
    expect(await refusal(...words, file)).toMatchObject({ code: "MISSING_FILE", who: "--config" });
    writeFileSync(file, "{");
    expect(await refusal(...words, file)).toMatchObject({ code: "BAD_FILE", who: file });
  });
});

/** @file The command line: help, usage errors, exit codes. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it, vi } from "vitest";
import { exitCodeOf, main } from "../src/cli.js";
import { embeddedTaskNames } from "../src/data/embedded.js";
import { glueTaskNames } from "../src/data/glue-tasks.js";
import { methodNames } from "../src/methods/registry.js";
import { benchChild } from "./glue-helpers.js";

afterEach(() => void vi.restoreAllMocks());

/** What one command prints, and its exit code. */
async function run(...words: string[]) {
  let [stdout, stderr] = ["", ""];
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += text;
    return true;
  });
  try {
    return { code: await main(words), stdout, stderr };
  } finally {
    vi.restoreAllMocks();
  }
}

describe("--help", () => {
  it("says what the commands are, on standard output", async () => {
    for (const words of [["--help"], ["-h"], ["help"]]) {
      const { code, stdout, stderr } = await run(...words);
      expect(code).toBe(0);
      expect(stdout).toContain("pnpm bench glue");
      expect(stdout).toContain("engine");
      expect(stderr).toBe("");
    }
  });

  it("of glue names every option, method and task", async () => {
    const { code, stdout } = await run("glue", "--help");
    expect(code).toBe(0);
    for (const name of [...methodNames, ...glueTaskNames, ...embeddedTaskNames])
      expect(stdout).toContain(name);
    const error = await main(["glue", "--nothing"]).catch((cause: Error) => cause.message);
    const options = /Known: (.*)\.$/.exec(String(error))?.[1]?.split(", ") ?? [];
    expect(options.length).toBeGreaterThan(15);
    // --seed is another spelling of --seeds.
    for (const option of options) expect(stdout).toContain(option);
    expect((await run("help", "glue")).stdout).toBe(stdout);
    expect((await run("glue", "--resume", "-h")).stdout).toBe(stdout);
  });

  it("of engine names its options", async () => {
    const { code, stdout } = await run("engine", "--help");
    expect(code).toBe(0);
    expect(stdout).toContain("--widths");
  });

  it("loads nothing heavy: the command line's own imports are Node's and its own", async () => {
    const seen = new Set<string>();
    const foreign = new Set<string>();
    const follow = async (file: string): Promise<void> => {
      if (seen.has(file)) return;
      seen.add(file);
      const text = await readFile(file, "utf8");
      for (const [, from] of text.matchAll(
        /^(?:import|export)\s(?!type\b)[^;]*?from "([^"]+)";/gm,
      )) {
        if (from?.startsWith("."))
          await follow(path.resolve(path.dirname(file), from.replace(/\.js$/, ".ts")));
        else if (!from?.startsWith("node:")) foreign.add(String(from));
      }
    };
    await follow(fileURLToPath(new URL("../src/bin.ts", import.meta.url)));
    expect([...seen].map((file) => path.basename(file)).sort()).toEqual([
      "arguments.ts",
      "bin.ts",
      "cee.ts",
      "cli-help.ts",
      "cli.ts",
      "command.ts",
      "errors.ts",
      "options.ts",
      "stop.ts",
    ]);
    expect([...foreign]).toEqual([]);
  });
});

describe("usage errors", () => {
  it.each([
    [["glu"], 'Did you mean "glue"?'],
    [["--tasks", "rte"], "expected a command before the options"],
    [["toString"], "there is no such command"],
    [["glue", "rte"], "is not expected here"],
    [["glue", "--taks", "rte"], 'Did you mean "--tasks"?'],
    [["glue", "--tasks", "sentimnt"], 'Did you mean "sentiment"?'],
    [["glue", "--tasks", "rte"], "It is a GLUE task: give the folder"],
    [["glue", "--methods", "entopy"], 'Did you mean "entropy"?'],
    [["glue", "--methods", "pcee"], "add --strategy pcee"],
    [["glue", "--strategy", "./nowhere.js"], "no file at"],
    [["glue", "--strategy", "patiense"], 'Did you mean "patience"?'],
    [["glue", "--strategy", "nowhere.ts"], "such as ./nowhere.ts."],
    [["glue", "--strategy-options", '{"entropi": {}}'], "Add the strategy with --strategy."],
    [["paper", "--strategy-options", '{"entropy": {}}'], "It is a method of the table"],
    [
      ["glue", "--strategy", "pcee", "--strategy-options", '{"pce": {"threshold": 0.1}}'],
      'options is called "pce". Did you mean "pcee"?',
    ],
    [["report", "--folder", "runs/a"], "[--folder] there is no such option. Known: --json."],
    [["glue", "--backbone", "frsh:2x16"], "Give mini, fresh:<layers>x<width>"],
    [
      ["glue", "--methods", "entropy", "--tasks", "similarity"],
      "entropy is made for classification",
    ],
    [["glue", "--json", "--dry-run"], "a dry run has no results"],
    [["engine", "--width", "128"], 'Did you mean "--widths"?'],
    [["engine", "--widths", "1,x"], "whole numbers >= 8"],
    [["engine", "--dropout", "1"], "below 1"],
  ])("%j says what was found and expected, with exit code 2", async (words, part) => {
    const cause = await main(words).catch((error: unknown) => error);
    expect(cause).toBeInstanceOf(Error);
    expect((cause as Error).message).toContain(part);
    expect(exitCodeOf(cause)).toBe(2);
  });

  it("prints the overview where no command is given, with exit code 2", async () => {
    const { code, stdout, stderr } = await run();
    expect(code).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toContain("Usage:");
  });

  it("are one line on standard error; CEE_DEBUG=1 adds where they come from", async () => {
    const words = ["glue", "--preset", "smal"];
    const [plain, debug] = await Promise.all([
      benchChild(words),
      benchChild(words, { env: { CEE_DEBUG: "1" } }),
    ]);
    expect(plain).toMatchObject({
      code: 2,
      stdout: "",
      stderr: '[--preset] got "smal". Did you mean "small"? Known: small, paper.\n',
    });
    expect(debug.code).toBe(2);
    expect(debug.stderr).toMatch(/\n\s+at .*options\.ts/);
  });
});

it("engine times a small model and judges the project's bars only when asked to", async () => {
  const words =
    "engine --widths 16 --depth 2 --heads 2 --vocabulary 64 --batch 2 --length 8 --threads 1 --rounds 1 --wasm-rounds 0 --no-torch";
  const { code, stdout } = await run(...words.split(" "));
  expect(code).toBe(0);
  expect(stdout).toContain("2 layers, width 16");
  expect(stdout).toMatch(/forward/);
  expect(stdout).toMatch(/training step/);
});

it("other errors have exit code 1", () => {
  expect(exitCodeOf(new Error("anything"))).toBe(1);
  expect(exitCodeOf("text")).toBe(1);
  expect(exitCodeOf(undefined)).toBe(1);
});

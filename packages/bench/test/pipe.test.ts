/** @file What the benchmarks leave in a pipe, and what Ctrl-C leaves of them. */
import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { benchChild, tiny } from "./glue-helpers.js";
import { temporaryFolder } from "./helpers.js";

/** Sizes that make a round short, by command. */
const small: Readonly<Record<string, string>> = {
  decode:
    "--width 64 --depth 3 --vocabulary 40 --prompt 4 --tokens 7 --threads 1 --no-transformers",
  engine:
    "--widths 16 --depth 2 --heads 2 --vocabulary 64 --batch 2 --length 8 --threads 1 --wasm-rounds 0 --no-torch",
  pretraining:
    "--depth 3 --width 16 --heads 2 --vocabulary 50 --batch 4 --length 16 --threads 1 --no-torch",
  replay: "--rows 40 --layers 6 --values 12 --milliseconds 1",
};
const wordsOf = (command: string, ...more: string[]) => [
  command,
  ...(small[command] as string).split(" "),
  ...more,
];

/**
 * A Python that has PyTorch, leaves its process and what it was asked in `record`, and computes for a minute, whatever becomes of
 * its standard input.
 */
const busyPython = (record: string, hasLoaded: boolean) => `#!/bin/sh
if [ "$1" = -c ]; then echo 2.0; exit; fi
read -r line
printf '%s %s' $$ "$line" > ${record}.part
mv ${record}.part ${record}
${hasLoaded ? `sleep 1; echo '{"blas": [], "core": null}'` : ""}
exec sleep 60
`;

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe("a benchmark in a pipe", { timeout: 120_000 }, () => {
  it.each([
    ["engine", ["timings", "bars", "notes"], /^Encoder: .*\nforward at .*\ntraining step at .*\n$/],
    [
      "pretraining",
      ["timings", "kernels", "bars"],
      /^Pre-training step: .*\nstep, compiled: .*\n$/,
    ],
    ["decode", ["perToken", "forced", "exitTests", "parts"], /^Decoder: .*\nFull depth: .*\n$/],
    ["replay", ["speeds", "bars"], /^Record: .*\n(.* points\/s through decide\n){4}$/],
  ] as const)(
    "%s --json prints one object, and nothing moves on standard error",
    async (command, keys, said) => {
      const { code, stdout, stderr } = await benchChild(wordsOf(command, "--rounds=1", "--json"));
      expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringMatching(said) });
      expect(stdout.endsWith("}\n")).toBe(true);
      expect(Object.keys(JSON.parse(stdout))).toEqual(
        expect.arrayContaining(["settings", ...keys]),
      );
    },
  );

  it.each([
    ["glue", (results: unknown) => results],
    ["paper", (results: unknown, paper: unknown) => ({ results, paper })],
  ])("%s --json prints what its files hold, and nothing else", async (command, expected) => {
    const out = path.join(await temporaryFolder(), "run");
    const words = [command, "--tasks=sentiment", "--methods=full,patience", ...tiny];
    const { code, stdout, stderr } = await benchChild([...words, `--out=${out}`, "--json"]);
    expect(code, stderr).toBe(0);
    const held = async (name: string) =>
      JSON.parse(await readFile(path.join(out, name), "utf8").catch(() => "null"));
    const [results, paper] = [await held("results.json"), await held("paper.json")];
    expect(JSON.parse(stdout)).toEqual(expected(results, paper));
    // No progress line, and a line for what is finished.
    expect(stderr).not.toContain("\r");
    expect(stderr).not.toContain("\u001b");
    expect(stderr).toMatch(/^sentiment · seed 42 done in /m);
    expect(stderr.split("\n").length).toBeLessThan(20);
    const report = await benchChild(["report", out, "--json"]);
    expect(report.code, report.stderr).toBe(0);
    expect(JSON.parse(report.stdout)).toMatchObject({
      folder: out,
      files: expect.arrayContaining([path.join(out, "report.html")]),
    });
  });

  it("speed names the way to go on after Ctrl-C, and prints one object", async () => {
    const out = path.join(await temporaryFolder(), "run");
    const words = `speed --widths 16 --depth 2 --length 8 --vocabulary 256 --threads 1 --parts decide,depths --no-torch --json --out ${out}`;
    let isAsked = false;
    const stopped = await benchChild([...words.split(" "), "--rounds", "1000000"], {
      onPrint(stderr, child) {
        if (!isAsked && stderr.includes("2 layers, width 16")) isAsked = child.kill("SIGINT");
      },
    });
    expect(stopped).toMatchObject({ code: 130, stdout: "" });
    expect(stopped.stderr).toMatch(/\nStopped\. To go on:\n {2}pnpm bench speed .* --resume\n$/);
    const whole = await benchChild([...words.split(" "), "--rounds", "3"]);
    expect(whole.code, whole.stderr).toBe(0);
    expect(JSON.parse(whole.stdout)).toEqual(
      JSON.parse(await readFile(path.join(out, "speed.json"), "utf8")),
    );
  });

  it.each(Object.keys(small))(
    "%s ends by Ctrl-C without a result, and says so",
    async (command) => {
      let isAsked = false;
      const { code, stdout, stderr } = await benchChild(wordsOf(command, "--rounds=1000000"), {
        onPrint(_, child) {
          if (!isAsked) child.kill("SIGINT");
          isAsked = true;
        },
      });
      expect({ code, stdout }).toEqual({ code: 130, stdout: "" });
      const lines = stderr
        .trim()
        .split("\n")
        .filter((line) => line !== "");
      expect(lines.at(-2)).toMatch(/^Stopping after the step in progress/);
      expect(lines.at(-1)).toBe("Stopped.");
    },
  );

  it.each([
    ["engine", 1],
    ["pretraining", 1],
    ["engine", 2],
  ])(
    "%s takes PyTorch with it on Ctrl-C, pressed %i times",
    { timeout: 240_000 },
    async (command, times) => {
      const folder = await temporaryFolder();
      const record = path.join(folder, "record");
      const python = path.join(folder, "python3");
      // Pressed once, the benchmark waits for what is in progress.
      await writeFile(python, busyPython(record, times === 1), { mode: 0o755 });
      let child: ChildProcess | undefined;
      const words = wordsOf(command, "--rounds=1").filter((word) => word !== "--no-torch");
      const finished = benchChild(words, {
        env: { PATH: `${folder}${path.delimiter}${process.env.PATH}` },
        onPrint(_, one) {
          child = one;
        },
      });
      const asked = await vi.waitFor(() => readFile(record, "utf8"), {
        timeout: 200_000,
        interval: 50,
      });
      const [, process_ = "", request = ""] = /^(\d+) (.*)$/.exec(asked) ?? [];
      const pid = Number(process_);
      const { manifest } = JSON.parse(request);
      onTestFinished(() => {
        if (isAlive(pid)) process.kill(pid, "SIGKILL");
      });
      expect(existsSync(manifest)).toBe(true);
      for (let press = 0; press < times; press += 1) {
        if (press > 0) await new Promise((resolve) => setTimeout(resolve, 1500));
        child?.kill("SIGINT");
      }
      expect(await finished).toMatchObject({ code: 130, stdout: "" });
      await vi.waitFor(() => expect(isAlive(pid)).toBe(false), { timeout: 5000 });
      expect(existsSync(path.dirname(manifest))).toBe(false);
    },
  );
});

/** @file Tiny runs of `bench glue`: in this process, or in a child that can be stopped, killed or starved. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { parseArgs } from "../src/arguments.js";
import { glueFlags, glueLists, parseGlueOptions } from "../src/glue/options.js";
import type { GlueOutcome } from "../src/glue/output.js";
import type { ProgressLine } from "../src/glue/progress.js";
import { runGlue } from "../src/glue/run.js";
import type { Results } from "../src/results.js";

/** Options that make a run take a second or two. */
export const tiny: readonly string[] = [
  "--backbone=fresh:2x16",
  "--limit=24",
  "--dev-limit=12",
  "--epochs=1",
  "--max-length=16",
  "--threads=1",
  "--workers=1",
];

export interface Recorded extends GlueOutcome {
  /** Lines that stay. */
  readonly printed: readonly string[];
  /** Texts of the progress line that reported optimiser steps. */
  readonly steps: readonly string[];
}

/** {@link tiny}, but for what `words` say themselves. */
function completed(words: readonly string[]): string[] {
  const name = (word: string) => word.split("=")[0];
  return [...tiny.filter((word) => !words.some((given) => name(given) === name(word))), ...words];
}

/** Runs in this process. */
export async function bench(words: readonly string[], signal?: AbortSignal): Promise<Recorded> {
  const printed: string[] = [];
  const steps: string[] = [];
  const progress: ProgressLine = {
    plan: () => undefined,
    update: (text, units = 0) => {
      if (units > 0) steps.push(text);
    },
    settle: () => undefined,
    print: (line) => void printed.push(line),
    stop: () => undefined,
  };
  const command = `pnpm bench glue ${words.join(" ")}`;
  const options = parseGlueOptions(
    parseArgs(completed(words), { flags: glueFlags, lists: glueLists }),
    command,
  );
  const outcome = await runGlue(options, { progress, ...(signal ? { signal } : {}) });
  return { ...outcome, printed, steps };
}

export interface Finished {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ChildOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Largest file in blocks of 512 or 1024 bytes, as a full disk. */
  readonly largestFile?: number;
  /** @default the repository */
  readonly cwd?: string;
  /** Called with what was printed on standard error so far, whenever more comes. */
  readonly onPrint?: (stderr: string, child: ChildProcess) => void;
}

const tsx = import.meta.resolve("tsx");
const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Runs the command line in a child. */
export function benchChild(
  words: readonly string[],
  options: ChildOptions = {},
): Promise<Finished> {
  const { env = {}, largestFile, onPrint, cwd = root } = options;
  const bin = path.join(root, "packages/bench/src/bin.ts");
  const args = ["--conditions=@cee/source", "--import", tsx, bin, "bench", ...words];
  const limit = `trap '' XFSZ; ulimit -f ${largestFile}; exec "$@"`;
  const [file, ...rest] =
    largestFile === undefined
      ? [process.execPath, ...args]
      : ["/bin/sh", "-c", limit, "sh", process.execPath, ...args];
  const { CEE_DEBUG: _, ...clean } = process.env;
  const child = spawn(file, rest, { cwd, env: { ...clean, ...env } });
  onTestFinished(() => void child.kill("SIGKILL"));
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
    onPrint?.(stderr, child);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** `results.json` without measured times. */
export async function timeless(out: string): Promise<unknown> {
  const results = JSON.parse(await readFile(path.join(out, "results.json"), "utf8")) as Results;
  const rows = results.rows.map(({ savedRuntime: _, savedRuntimeRange: __, ...row }) => row);
  return { ...results, rows };
}

/** Rows of a sentence task in GLUE's layout; the label is in the words. */
export function sentenceFile(rows: number, header = "sentence\tlabel"): string {
  const lines = Array.from(
    { length: rows },
    (_, row) => `film number ${row} is ${row % 2 === 0 ? "dull" : "lovely"}\t${row % 2}`,
  );
  return `${[header, ...lines].join("\n")}\n`;
}

/** The source of a strategy; `body` overrides members of the definition. */
export function strategySource(name: string, body = ""): string {
  const at = (file: string) => JSON.stringify(path.join(root, file));
  return `import { defineExitStrategy } from ${at("packages/exit-policies/src/index.ts")};
import { createRequire } from "node:module";
const require = createRequire(${at("packages/exit-policies/package.json")});
const v = require("valibot");
const tf = createRequire(${at("packages/bench/package.json")})("@tensorflow/tfjs");
export default defineExitStrategy({
  name: ${JSON.stringify(name)},
  options: v.strictObject({ threshold: v.optional(v.number(), 0.5) }),
  needs: ["probs"],
  tasks: ["classification"],
  knob: { option: "threshold", grid: [0.5, 0.9], direction: "lower-is-faster" },
  observe: ({ probs }) => tf.max(probs, 1),
  start: () => ({}),
  decide: (observed, state, { options }) => ({ exit: observed[0] > options.threshold, state }),
  ${body}
});
`;
}

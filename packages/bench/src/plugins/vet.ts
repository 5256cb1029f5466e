/** @file Whether a plugin may take part: it is tried in a child process first, under a time limit. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { BenchError } from "../errors.js";
import { isSource } from "./load.js";
import type { VetMessage } from "./vet-child.js";

const LIMIT_SECONDS = 60;

/** Seconds that a plugin may take to load and to pass its checks. @throws BenchError `BAD_OPTION` */
export function pluginSeconds(text: string | undefined = process.env.CEE_PLUGIN_SECONDS): number {
  if (text === undefined || text === "") return LIMIT_SECONDS;
  const seconds = Number(text);
  if (seconds > 0 && seconds < 1e6) return seconds;
  throw new BenchError(
    "BAD_OPTION",
    "CEE_PLUGIN_SECONDS",
    `expected a number of seconds above 0, got "${text}".`,
  );
}

/**
 * Loads the plugin in a child and runs the conformance checks that a benchmark relies on.
 * @returns what is wrong with it, naming it; `undefined` when nothing is
 */
export function vetPlugin(
  kind: "strategy" | "head",
  specifier: string,
  from: string,
  {
    seconds = pluginSeconds(),
    signal,
  }: { seconds?: number; signal?: AbortSignal | undefined } = {},
): Promise<string | undefined> {
  const file = fileURLToPath(
    new URL(isSource ? "./vet-child.ts" : "./vet-child.js", import.meta.url),
  );
  // From the sources, the child needs what a runner such as vitest does for this process otherwise.
  const sources = ["--conditions=@cee/source", "--import", "tsx"];
  const child = fork(file, [kind, specifier, from], {
    execArgv: isSource ? sources : process.execArgv,
    // A plugin may print; standard output belongs to the table.
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: "3" },
  });
  return verdictOf(child, specifier, seconds, signal);
}

function verdictOf(
  child: ChildProcess,
  specifier: string,
  seconds: number,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    let doing = "starting";
    let verdict: { readonly problem: string | undefined } | undefined;
    let printed = "";
    const timer = setTimeout(() => {
      verdict ??= {
        problem: `[${specifier}] did not return within ${seconds} s, got no further than ${doing}. Look for a loop without an end; CEE_PLUGIN_SECONDS sets another limit.`,
      };
      child.kill("SIGKILL");
    }, seconds * 1000);
    const stop = () => void child.kill("SIGKILL");
    signal?.addEventListener("abort", stop, { once: true });
    child.stderr?.on("data", (chunk) => {
      printed = `${printed}${chunk}`.slice(-2000);
    });
    child.on("message", (message: VetMessage) => {
      if ("doing" in message) doing = message.doing;
      else if ("done" in message) verdict ??= { problem: undefined };
      else verdict ??= { problem: named(specifier, message.refused) };
    });
    child.on("error", reject);
    child.on("close", (code, killed) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      if (signal?.aborted) reject(new BenchError("STOPPED", "bench", "was stopped."));
      else if (verdict) resolve(verdict.problem);
      else
        resolve(
          `[${specifier}] ended its process with ${killed ?? `code ${code}`} while ${doing}. A plugin must not end the process.${lastLine(printed)}`,
        );
    });
  });
}

/** Messages of checks name the strategy; a user knows the plugin by what was typed. */
function named(specifier: string, message: string): string {
  return message.includes(specifier) ? message : `[${specifier}] ${message}`;
}

function lastLine(printed: string): string {
  const line = printed.trim().split("\n").at(-1);
  return line ? ` It printed: ${line.slice(0, 200)}` : "";
}

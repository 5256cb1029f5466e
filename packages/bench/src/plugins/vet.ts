/** @file Whether a plugin may take part: it is tried in a child process first, under a time limit. */
import { type ChildProcess, fork } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { BenchError } from "../errors.js";
import { isSource } from "./load.js";
import type { OptionsByName, VetMessage } from "./vet-child.js";

const LIMIT_SECONDS = 60;

/** Seconds that a plugin may take to load, and for each of its checks. @throws BenchError `BAD_OPTION` */
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

export interface VetOptions {
  /** Folder that relative paths and packages are looked up from. */
  readonly from: string;
  readonly strategyOptions?: OptionsByName;
  /** It has been tried before. @default false */
  readonly isVetted?: boolean;
  /** @default what {@link pluginSeconds} says */
  readonly seconds?: number;
  readonly signal?: AbortSignal | undefined;
}

/** What is wrong with a plugin. */
export interface Refusal {
  /** Names the plugin. */
  readonly problem: string;
  readonly code: unknown;
}

/**
 * Loads the plugin in a child and runs the conformance checks that a benchmark relies on.
 * @returns `undefined` when nothing is wrong; @throws BenchError `STOPPED`
 */
export function vetPlugin(
  kind: "strategy" | "head",
  specifier: string,
  { from, strategyOptions = {}, seconds = pluginSeconds(), signal }: VetOptions,
): Promise<Refusal | undefined> {
  const file = fileURLToPath(
    new URL(isSource ? "./vet-child.ts" : "./vet-child.js", import.meta.url),
  );
  const child = fork(file, [kind, specifier, from, JSON.stringify(strategyOptions)], {
    execArgv: isSource ? forSources() : process.execArgv,
    // A plugin may print; standard output belongs to the table.
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: "3" },
  });
  return verdictOf(child, specifier, seconds, signal);
}

/** From the sources, the child needs what a runner such as vitest does for this process otherwise. */
function forSources(): string[] {
  const tsx = createRequire(import.meta.url).resolve("tsx");
  return ["--conditions=@cee/source", "--import", pathToFileURL(tsx).href];
}

function verdictOf(
  child: ChildProcess,
  specifier: string,
  seconds: number,
  signal: AbortSignal | undefined,
): Promise<Refusal | undefined> {
  return new Promise((resolve, reject) => {
    let doing = "starting";
    let isDone = false;
    let refusal: Refusal | undefined;
    let printed = "";
    // The child's own start, which may be slow on a busy machine, is not counted against the plugin.
    let timer: NodeJS.Timeout | undefined;
    const expire = () => {
      refusal ??= {
        code: "TIMEOUT",
        problem: `[${specifier}] did not return within ${seconds} s, got stuck ${doing}. Look for a loop without an end; CEE_PLUGIN_SECONDS sets another limit.`,
      };
      child.kill("SIGKILL");
    };
    const stop = () => void child.kill("SIGKILL");
    signal?.addEventListener("abort", stop, { once: true });
    child.stderr?.on("data", (chunk) => {
      printed = `${printed}${chunk}`.slice(-2000);
    });
    child.on("message", (message: VetMessage) => {
      clearTimeout(timer);
      timer = setTimeout(expire, seconds * 1000);
      if ("doing" in message) doing = message.doing;
      else if ("done" in message) isDone = true;
      else refusal ??= { problem: named(specifier, message.refused), code: message.code };
    });
    child.on("error", reject);
    child.on("close", (code, killed) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      if (signal?.aborted) reject(new BenchError("STOPPED", "bench", "was stopped."));
      else if (isDone || refusal) resolve(refusal);
      else
        resolve({
          code: "EXITED",
          problem: `[${specifier}] ended its process with ${killed ?? `code ${code}`} while ${doing}. A plugin must not end the process.${lastLine(printed)}`,
        });
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

/** @file The plugins that a command line names: found, tried in a child process, then loaded. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { exitHeads } from "@cee/backbone";
import {
  type ExitHead,
  ExitStrategyError,
  findPlugin,
  type Plugin,
  resolveExitHead,
  resolvePlugin,
} from "@cee/exit-policies";
import { BenchError } from "../errors.js";
import { loadModule } from "./load.js";
import { knownStrategies } from "./registry.js";
import { type Refusal, type VetOptions, vetPlugin } from "./vet.js";

export interface LoadedPlugin extends Plugin {
  readonly specifier: string;
  /** What its code is, so that a changed plugin is trained again; `undefined` for one of this project. */
  readonly source: string | undefined;
}

export interface RefusedPlugin {
  readonly specifier: string;
  /** One sentence or two that name it. */
  readonly problem: string;
}

/** Codes of what the command line got wrong, rather than the plugin. */
const USAGE: readonly unknown[] = ["UNKNOWN_STRATEGY", "INVALID_OPTIONS"];

/**
 * Loads a strategy by its name, its path or its package.
 * @returns what is wrong where the plugin itself is; @throws ExitStrategyError `UNKNOWN_STRATEGY` when nothing is there;
 * BenchError `BAD_OPTION` when its schema refuses its options, `STOPPED`
 */
export async function loadStrategyPlugin(
  specifier: string,
  options: VetOptions,
): Promise<LoadedPlugin | RefusedPlugin> {
  const known = knownStrategies.find(specifier);
  if (known) return { specifier, strategy: known, source: undefined };
  const { from } = options;
  const registry = knownStrategies;
  // Before any code of it runs: a path with a slip in it costs nothing.
  const url = await findPlugin(specifier, { registry, from });
  const refusal = options.isVetted ? undefined : await vetPlugin("strategy", specifier, options);
  if (refusal) return refused(specifier, refusal);
  try {
    const plugin = await resolvePlugin(specifier, { registry, from, load: loadModule });
    return { specifier, ...plugin, source: sourceOf(url) };
  } catch (cause) {
    // Its name is taken, or it fails in this process alone.
    if (!(cause instanceof ExitStrategyError)) throw cause;
    return { specifier, problem: cause.message };
  }
}

/** Loads an exit head by its name, its path or its package. @throws BenchError `BAD_OPTION` when it can't be used */
export async function loadHeadPlugin(specifier: string, options: VetOptions): Promise<ExitHead> {
  if (Object.hasOwn(exitHeads, specifier)) return exitHeads[specifier] as ExitHead;
  const refusal = options.isVetted ? undefined : await vetPlugin("head", specifier, options);
  if (refusal) throw new BenchError("BAD_OPTION", "--head", refusal.problem);
  return resolveExitHead(specifier, { from: options.from, load: loadModule });
}

function refused(specifier: string, { problem, code }: Refusal): RefusedPlugin {
  const advice =
    code === "INVALID_OPTIONS"
      ? " Give other options with --strategy-options, or give the option a default in the schema."
      : "";
  if (USAGE.includes(code))
    throw new BenchError(
      "BAD_OPTION",
      specifier,
      // A user knows the strategy that complains by what was typed.
      `${problem.replace(/^(\[[^\]]*\] )+/, "")}${advice}`,
    );
  return { specifier, problem };
}

function sourceOf(url: string): string {
  return createHash("sha256")
    .update(readFileSync(fileURLToPath(url)))
    .digest("hex")
    .slice(0, 16);
}

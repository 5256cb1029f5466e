/** @file Loads the modules of plugins: JavaScript as it is, TypeScript through esbuild. */
import { register } from "node:module";
import { BenchError } from "../errors.js";

/** Whether this code runs from its sources, which lie one folder deeper than what is built. */
export const isSource = import.meta.url.endsWith(".ts");

let isReady = false;

/** Registers the hooks on the first call; until a plugin is named, nothing of Node's loading is touched. */
function prepare(): void {
  if (isReady) return;
  register(new URL(`${isSource ? "../" : ""}../bin/plugin-hooks.js`, import.meta.url));
  isReady = true;
}

/** Imports the module at a file URL. @throws BenchError `BAD_FILE` when it is TypeScript and esbuild is missing; what the module throws */
export async function loadModule(url: string): Promise<Readonly<Record<string, unknown>>> {
  prepare();
  try {
    return await import(/* @vite-ignore */ url);
  } catch (cause) {
    if (/\.[mc]?tsx?$/.test(url) && /esbuild/i.test(String((cause as Error)?.message)))
      throw new BenchError(
        "BAD_FILE",
        url,
        `is TypeScript, which needs esbuild here, and esbuild can't run (${(cause as Error).message}). Build the file to .js and name that, or reinstall without --omit=optional.`,
        { cause },
      );
    throw cause;
  }
}

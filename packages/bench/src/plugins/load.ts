/** @file Loads the modules of plugins: JavaScript as it is, TypeScript through esbuild. */
import { register } from "node:module";

/** Whether this code runs from its sources, which lie one folder deeper than what is built. */
export const isSource = import.meta.url.endsWith(".ts");

let isReady = false;

/** Registers the hooks on the first call; until a plugin is named, nothing of Node's loading is touched. */
function prepare(): void {
  if (isReady) return;
  register(new URL(`${isSource ? "../" : ""}../bin/plugin-hooks.js`, import.meta.url));
  isReady = true;
}

/**
 * Imports the module at a file URL.
 * @throws what the module throws; an error that asks for a build where it is TypeScript and esbuild can't run
 */
export async function loadModule(url: string): Promise<Readonly<Record<string, unknown>>> {
  prepare();
  try {
    return await import(/* @vite-ignore */ url);
  } catch (cause) {
    const isTypeScript = /\.[mc]?tsx?$/.test(url);
    if (!isTypeScript || !/'esbuild'|esbuild for your platform/.test(String(cause))) throw cause;
    // As Node says it of a file that it has no loader for.
    const code = "ERR_UNKNOWN_FILE_EXTENSION";
    throw Object.assign(new Error("esbuild is not installed", { cause }), { code });
  }
}

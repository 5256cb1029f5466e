/** @file Finds a strategy by what a user typed: a name, a path or a package. Nothing is scanned or run that was not named. */
import type { AnyExitStrategyFactory } from "./define.js";
import { show } from "./define.js";
import { ExitStrategyError } from "./errors.js";
import { messageOf } from "./observer.js";
import { checkApiVersion } from "./outcome.js";
import { type StrategyRegistry, unknownName } from "./registry.js";

export interface ResolveOptions {
  readonly registry: StrategyRegistry;
  /** Folder that relative paths and packages are looked up from. */
  readonly from: string;
}

/**
 * Loads the factory behind a specifier: a name of the registry; a relative or absolute path or file URL; a package;
 * `exit-strategy-<name>`; `@cee/exit-strategy-<name>`.
 *
 * @throws ExitStrategyError `UNKNOWN_STRATEGY` when nothing is there, `STRATEGY_THREW` when loading it fails,
 * `BAD_DEFINITION` when its default export is no factory, `API_MISMATCH`, `DUPLICATE_NAME`
 */
export async function resolveStrategy(
  specifier: string,
  { registry, from }: ResolveOptions,
): Promise<AnyExitStrategyFactory> {
  const known = registry.find(specifier);
  if (known) return known;
  const url = isPath(specifier)
    ? await urlOfPath(specifier, from)
    : await urlOfPackage(specifier, registry, from);
  const factory = checkFactory(specifier, await load(specifier, url));
  if (registry.find(factory.strategyName))
    throw new ExitStrategyError(
      "DUPLICATE_NAME",
      specifier,
      `its strategy is called "${factory.strategyName}", like one that is already registered. Rename it.`,
    );
  return factory;
}

function isPath(specifier: string): boolean {
  return /^(\.{0,2}[\\/]|\.{1,2}$|file:|[A-Za-z]:[\\/])/.test(specifier);
}

async function urlOfPath(specifier: string, from: string): Promise<string> {
  const [{ stat }, { resolve }, { fileURLToPath, pathToFileURL }] = await nodeModules();
  let path: string;
  try {
    path = specifier.startsWith("file:") ? fileURLToPath(specifier) : resolve(from, specifier);
  } catch (cause) {
    throw new ExitStrategyError(
      "UNKNOWN_STRATEGY",
      specifier,
      `is not a usable file URL: ${messageOf(cause)}. Give a path.`,
      { cause },
    );
  }
  const found = await stat(path).catch(() => undefined);
  if (!found)
    throw new ExitStrategyError(
      "UNKNOWN_STRATEGY",
      specifier,
      `no file at ${path}. Check the path; it is relative to ${from}.`,
    );
  if (!found.isFile())
    throw new ExitStrategyError(
      "UNKNOWN_STRATEGY",
      specifier,
      `${path} is ${found.isDirectory() ? "a folder" : "not a file"}. Name the file whose default export is the strategy, such as ${specifier.replace(/[\\/]$/, "")}/index.js.`,
    );
  return pathToFileURL(path).href;
}

async function urlOfPackage(
  specifier: string,
  registry: StrategyRegistry,
  from: string,
): Promise<string> {
  const names = [specifier, `exit-strategy-${specifier}`, `@cee/exit-strategy-${specifier}`];
  if (specifier.startsWith("@cee/")) names.push(`@cee/exit-strategy-${specifier.slice(5)}`);
  const looked = names.filter((name) =>
    /^(@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/.test(name),
  );
  for (const name of looked) {
    const url = await entryOf(name, from);
    if (url !== undefined) return url;
  }
  throw new ExitStrategyError(
    "UNKNOWN_STRATEGY",
    specifier,
    `${unknownName(specifier, registry.names)} No package ${looked.join(", ") || specifier} is installed in or above ${from} either; a file is named with its path, such as ./${specifier}.js.`,
  );
}

/** Follows node_modules folders upwards by name, as Node does. */
async function entryOf(name: string, from: string): Promise<string | undefined> {
  const [{ readFile, stat }, { dirname, join, resolve, sep }, { pathToFileURL }] =
    await nodeModules();
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    const root = join(folder, "node_modules", name);
    const text = await readFile(join(root, "package.json"), "utf8").catch(() => undefined);
    if (text !== undefined) {
      const entry = resolve(root, entryIn(name, text));
      const isInside = entry.startsWith(root + sep);
      if (!isInside || !(await stat(entry).catch(() => undefined))?.isFile())
        throw new ExitStrategyError(
          "UNKNOWN_STRATEGY",
          name,
          `the package in ${root} names ${entry} as its entry, which ${isInside ? "is not there. Build or reinstall it" : "lies outside it. Correct its package.json"}.`,
        );
      return pathToFileURL(entry).href;
    }
    if (dirname(folder) === folder) return undefined;
  }
}

function entryIn(name: string, text: string): string {
  let manifest: { readonly exports?: unknown; readonly main?: unknown };
  try {
    manifest = JSON.parse(text) ?? {};
  } catch (cause) {
    throw new ExitStrategyError(
      "UNKNOWN_STRATEGY",
      name,
      `its package.json is not JSON: ${messageOf(cause)}. Reinstall it.`,
      { cause },
    );
  }
  const { exports, main } = manifest;
  const root =
    typeof exports === "object" && exports !== null && "." in exports ? exports["."] : exports;
  const entry = exports === undefined ? (main ?? "index.js") : underConditions(root);
  if (typeof entry === "string") return entry;
  throw new ExitStrategyError(
    "UNKNOWN_STRATEGY",
    name,
    `its package.json names no entry to import, got exports ${show(exports)}. Add an "import" or "default" condition.`,
  );
}

function underConditions(target: unknown): string | undefined {
  if (typeof target === "string") return target;
  if (Array.isArray(target)) {
    for (const entry of target) {
      const found = underConditions(entry);
      if (found !== undefined) return found;
    }
  } else if (typeof target === "object" && target !== null)
    for (const [condition, entry] of Object.entries(target))
      if (["node", "import", "module-sync", "default"].includes(condition)) {
        const found = underConditions(entry);
        if (found !== undefined) return found;
      }
  return undefined;
}

async function load(specifier: string, url: string): Promise<Record<string, unknown>> {
  try {
    return await import(/* @vite-ignore */ /* webpackIgnore: true */ url);
  } catch (cause) {
    const code = (cause as { code?: unknown } | undefined)?.code;
    if (code === "ERR_UNKNOWN_FILE_EXTENSION")
      throw new ExitStrategyError(
        "UNKNOWN_STRATEGY",
        specifier,
        `this Node release cannot load ${url}. Build it to a .js file first, or run the command with a loader such as tsx.`,
        { cause },
      );
    if (cause instanceof Error && cause.name === "ExitStrategyError")
      throw new ExitStrategyError(
        code as ExitStrategyError["code"],
        specifier,
        `its definition was refused: ${cause.message}`,
        { cause },
      );
    throw new ExitStrategyError(
      "STRATEGY_THREW",
      specifier,
      `loading ${url} failed: ${messageOf(cause)}. Correct the module.`,
      { cause },
    );
  }
}

function checkFactory(specifier: string, module: Record<string, unknown>): AnyExitStrategyFactory {
  const factory: unknown = module.default;
  if (factory === undefined)
    throw new ExitStrategyError(
      "BAD_DEFINITION",
      specifier,
      `has no default export (it exports ${Object.keys(module).join(", ") || "nothing"}). Write \`export default defineExitStrategy({ … })\`.`,
    );
  const { strategyName, definition, apiVersion } = (factory ?? {}) as Record<string, unknown>;
  if (
    typeof factory !== "function" ||
    typeof strategyName !== "string" ||
    typeof definition !== "object"
  )
    throw new ExitStrategyError(
      "BAD_DEFINITION",
      specifier,
      `the default export must be what defineExitStrategy returned, got ${show(factory)}. Export the factory, not a configured strategy.`,
    );
  checkApiVersion(specifier, apiVersion);
  return factory as AnyExitStrategyFactory;
}

/** Loaded when first used, so that the package itself also loads in a browser. */
function nodeModules() {
  return Promise.all([import("node:fs/promises"), import("node:path"), import("node:url")]);
}

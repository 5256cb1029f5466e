/** @file Finds a strategy or an exit head by what a user typed: a name, a path or a package. Nothing is scanned or run that was not named. */
import type { AnyExitStrategyFactory } from "./define.js";
import { show } from "./define.js";
import { checkHead, type DefinedExitHead } from "./define-head.js";
import { ExitStrategyError } from "./errors.js";
import { messageOf } from "./observer.js";
import { checkApiVersion } from "./outcome.js";
import { type StrategyRegistry, unknownName } from "./registry.js";

/** What a module exports, by name. */
type Exports = Readonly<Record<string, unknown>>;

export interface ResolveOptions {
  readonly registry: StrategyRegistry;
  /** Folder that relative paths and packages are looked up from. */
  readonly from: string;
  /**
   * Loads the module at a file URL; a host that can run TypeScript passes its own.
   * @default import
   */
  readonly load?: (url: string) => Promise<Exports>;
}

/** What a plugin brings. */
export interface Plugin {
  /** Its default export. */
  readonly strategy: AnyExitStrategyFactory;
  /** The head that the strategy is made for: the module's export `head`, where it has one. */
  readonly head?: DefinedExitHead;
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
  options: ResolveOptions,
): Promise<AnyExitStrategyFactory> {
  return (await resolvePlugin(specifier, options)).strategy;
}

/** Like {@link resolveStrategy}, with the exit head that the module exports beside its strategy. @throws the same */
export async function resolvePlugin(
  specifier: string,
  { registry, from, load: own }: ResolveOptions,
): Promise<Plugin> {
  const known = registry.find(specifier);
  if (known) return { strategy: known };
  const url = await findPlugin(specifier, { registry, from });
  const module = await load(specifier, url, own);
  const strategy = checkFactory(specifier, module);
  if (registry.find(strategy.strategyName))
    throw new ExitStrategyError(
      "DUPLICATE_NAME",
      specifier,
      `its strategy is called "${strategy.strategyName}", like one that is already registered. Rename it.`,
    );
  const head = module.head ?? inner(module).head;
  return head === undefined ? { strategy } : { strategy, head: toHead(specifier, head) };
}

/**
 * Loads the exit head behind a path or a package: the module's default export, or its export `head`.
 * @throws ExitStrategyError as {@link resolveStrategy}
 */
export async function resolveExitHead(
  specifier: string,
  { from, load: own }: Omit<ResolveOptions, "registry">,
): Promise<DefinedExitHead> {
  const url = isPath(specifier)
    ? await urlOfPath(specifier, from)
    : await urlOfPackage(
        specifier,
        [specifier, `exit-head-${specifier}`],
        from,
        (looked) =>
          `there is no package ${looked} in or above ${from}. A file is named with its path, such as ${asPath(specifier)}.`,
      );
  const module = await load(specifier, url, own);
  const { default: main, head = main } = { ...module, ...inner(module) };
  const isStrategy = typeof head === "function" && "strategyName" in head;
  if (head === undefined || isStrategy)
    throw new ExitStrategyError(
      "BAD_DEFINITION",
      specifier,
      `exports no exit head (it exports ${Object.keys(module).join(", ") || "nothing"}). Write \`export default defineExitHead({ … })\`, or export one as \`head\`.`,
    );
  return toHead(specifier, head);
}

/**
 * Finds the file behind a path or a package without loading it.
 * @returns its URL; @throws ExitStrategyError `UNKNOWN_STRATEGY`
 */
export async function findPlugin(
  specifier: string,
  { registry, from }: Pick<ResolveOptions, "registry" | "from">,
): Promise<string> {
  if (isPath(specifier)) return urlOfPath(specifier, from);
  const names = [specifier, `exit-strategy-${specifier}`, `@cee/exit-strategy-${specifier}`];
  if (specifier.startsWith("@cee/")) names.push(`@cee/exit-strategy-${specifier.slice(5)}`);
  return urlOfPackage(
    specifier,
    names,
    from,
    (looked) =>
      `${unknownName(specifier, registry.names)} No package ${looked} is installed in or above ${from} either; a file is named with its path, such as ${asPath(specifier)}.`,
  );
}

/** A name that ends like a file may have been meant as one. */
function asPath(specifier: string): string {
  return `./${specifier}${/\.[cm]?[jt]sx?$/.test(specifier) ? "" : ".js"}`;
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
  names: readonly string[],
  from: string,
  missing: (looked: string) => string,
): Promise<string> {
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
    missing(looked.join(", ") || specifier),
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

async function load(specifier: string, url: string, own: ResolveOptions["load"]): Promise<Exports> {
  try {
    return await (own ?? ((file) => import(/* @vite-ignore */ /* webpackIgnore: true */ file)))(
      url,
    );
  } catch (cause) {
    const code = (cause as { code?: unknown } | undefined)?.code;
    if (code === "ERR_UNKNOWN_FILE_EXTENSION")
      throw new ExitStrategyError(
        "UNKNOWN_STRATEGY",
        specifier,
        `this Node release cannot load ${url}, which needs a build. Build it to a .js file and name that, or run the command with a loader such as tsx.`,
        { cause },
      );
    const missing = code === "ERR_MODULE_NOT_FOUND" && /package '([^']+)'/.exec(messageOf(cause));
    if (missing)
      throw new ExitStrategyError(
        "STRATEGY_THREW",
        specifier,
        `it imports the package ${missing[1]}, which is not installed where ${url} lies. Run npm install ${missing[1]} there.`,
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
      // A compiler says on lines of their own what is wrong where.
      `loading ${url} failed: ${messageOf(cause)
        .trim()
        .replaceAll(/\s*\n\s*/g, " ")}. Correct the module.`,
      { cause },
    );
  }
}

/** What a CommonJS build holds: its exports are the default export of the module. */
function inner({ default: main }: Exports): Exports {
  const isBuild = typeof main === "object" && main !== null && "__esModule" in main;
  return isBuild ? (main as Exports) : {};
}

function checkFactory(specifier: string, module: Exports): AnyExitStrategyFactory {
  const factory: unknown = inner(module).default ?? module.default;
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

function toHead(specifier: string, head: unknown): DefinedExitHead {
  checkHead(specifier, head);
  const { apiVersion } = head as Partial<DefinedExitHead>;
  if (apiVersion === undefined)
    throw new ExitStrategyError(
      "BAD_DEFINITION",
      specifier,
      `the head "${head.name}" must be what defineExitHead returned, got a plain object. Write defineExitHead({ … }).`,
    );
  checkApiVersion(specifier, apiVersion);
  return head as DefinedExitHead;
}

/** Loaded when first used, so that the package itself also loads in a browser. */
function nodeModules() {
  return Promise.all([import("node:fs/promises"), import("node:path"), import("node:url")]);
}

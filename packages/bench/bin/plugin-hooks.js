/**
 * @file Module hooks for plugins that a command line names: TypeScript files are turned into modules, and packages of this
 * project that are not installed where a plugin lies are taken from where this package lies.
 *
 * Plain JavaScript, because Node loads it on a thread of its own.
 */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const TYPESCRIPT = /\.[mc]?tsx?$/;
const OWN = /^(@cee\/|@tensorflow\/tfjs(\/|$)|valibot$)/;

/** A CommonJS or a script name that a TypeScript author may write for a file that is TypeScript. */
const SPELLINGS = [
  [/\.js$/, ".ts"],
  [/\.mjs$/, ".mts"],
  [/$/, ".ts"],
  [/$/, "/index.ts"],
];

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (cause) {
    if (cause?.code !== "ERR_MODULE_NOT_FOUND" && cause?.code !== "ERR_UNSUPPORTED_DIR_IMPORT")
      throw cause;
    const isRelative = /^\.{0,2}\//.test(specifier);
    const isTypeScript = TYPESCRIPT.test(pathOf(context.parentURL ?? ""));
    if (isRelative && isTypeScript)
      for (const [from, to] of SPELLINGS) {
        const found = await attempt(next, specifier.replace(from, to), context);
        if (found) return found;
      }
    if (OWN.test(specifier)) {
      const policies = await attempt(next, "@cee/exit-policies", {
        ...context,
        parentURL: import.meta.url,
      });
      for (const parentURL of [import.meta.url, policies?.url]) {
        const found = parentURL && (await attempt(next, specifier, { ...context, parentURL }));
        if (found) return found;
      }
    }
    throw cause;
  }
}

export async function load(url, context, next) {
  const path = pathOf(url);
  // A package ships what Node can read; its TypeScript is not ours to guess options for.
  if (!TYPESCRIPT.test(path) || /[\\/]node_modules[\\/]/.test(path)) return next(url, context);
  const code = await readFile(path, "utf8");
  const { transform } = await import("esbuild");
  const { code: source } = await transform(code, {
    loader: path.endsWith("x") ? "tsx" : "ts",
    format: "esm",
    target: "node20",
    sourcefile: path,
    sourcemap: "inline",
    logLevel: "silent",
  });
  return { format: "module", source, shortCircuit: true };
}

async function attempt(next, specifier, context) {
  try {
    return await next(specifier, context);
  } catch {
    return undefined;
  }
}

function pathOf(url) {
  if (!url.startsWith("file:")) return "";
  const { protocol, host, pathname } = new URL(url);
  return fileURLToPath(`${protocol}//${host}${pathname}`);
}

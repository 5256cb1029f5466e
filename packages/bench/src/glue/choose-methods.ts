/** @file The methods of a run: built-in ones by name, and third-party strategies from files and packages. */
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import {
  type AnyExitStrategyFactory,
  alwaysAt,
  createRegistry,
  ExitStrategyError,
  entropy,
  patience,
  pcee,
  resolveStrategy,
  rightTool,
} from "@cee/exit-policies";
import { BenchError, suggestNames } from "../errors.js";
import { full } from "../methods/full.js";
import type { Method } from "../methods/method.js";
import { methods as builtIn, defaultMethodNames, methodNames } from "../methods/registry.js";
import { strategyMethod } from "../methods/strategy-method.js";
import { chooseNames, fold, type GlueOptions } from "./options.js";

export interface ChosenMethods {
  /** In the order of the table; full depth, which every method is measured against, always leads. */
  readonly methods: readonly Method[];
  /** Names that were asked for, rather than taken because nothing was said. */
  readonly named: ReadonlySet<string>;
  /** What the code of a third-party strategy is, by method name, so that a changed one runs again. */
  readonly sources: Readonly<Record<string, string>>;
}

const strategies = createRegistry([entropy, patience, alwaysAt, pcee, rightTool]);

/** @throws BenchError `UNKNOWN_METHOD`; ExitStrategyError what loading a strategy gives */
export async function chooseMethods(
  {
    methods,
    allMethods = false,
    strategies: specifiers,
  }: Pick<GlueOptions, "methods" | "allMethods" | "strategies">,
  from: string = process.cwd(),
): Promise<ChosenMethods> {
  const added = new Map<string, Method>();
  const sources: Record<string, string> = {};
  for (const specifier of specifiers) {
    const factory = await loadStrategy(specifier, from);
    const name = factory.strategyName;
    if (builtIn.some((method) => method.name === name) && strategies.find(name) === factory)
      continue;
    if (methodNames.includes(name) || added.has(name))
      throw new BenchError(
        "BAD_OPTION",
        "--strategy",
        `${specifier} is called "${name}", like a method that is already there. Rename it.`,
      );
    added.set(name, strategyMethod(factory, { title: name }));
    const source = sourceOf(specifier, from);
    if (source !== undefined) sources[name] = source;
  }
  const available = [...builtIn, ...added.values()];
  const names = chooseNames(
    methods.length > 0 || allMethods ? methods : defaultMethodNames,
    available.map(({ name }) => name),
    "UNKNOWN_METHOD",
    "--methods",
    (name) =>
      strategies.find(name)
        ? `It is a strategy without a place in the default table: add --strategy ${name}. ${suggestNames(name, methodNames)}`
        : "",
  );
  const named = new Set([...(methods.length > 0 ? names : []), ...added.keys()]);
  const asBuiltIn = specifiers.map((specifier) => fold(specifier));
  return {
    methods: available.filter(
      ({ name }) =>
        name === full.name ||
        names.includes(name) ||
        added.has(name) ||
        asBuiltIn.includes(fold(name)),
    ),
    named,
    sources,
  };
}

async function loadStrategy(specifier: string, from: string): Promise<AnyExitStrategyFactory> {
  const factory = await resolveStrategy(specifier, { registry: strategies, from });
  try {
    (factory as unknown as () => unknown)();
  } catch (cause) {
    if (!(cause instanceof ExitStrategyError)) throw cause;
    throw new BenchError(
      "BAD_OPTION",
      "--strategy",
      `${specifier} can't be used without options: ${cause.message} Give its options defaults.`,
      { cause },
    );
  }
  return factory;
}

function sourceOf(specifier: string, from: string): string | undefined {
  const file = path.resolve(from, specifier);
  if (!statSync(file, { throwIfNoEntry: false })?.isFile()) return undefined;
  return createHash("sha256").update(readFileSync(file)).digest("hex").slice(0, 16);
}

/** @file The methods of a run: built-in ones by name, and third-party strategies from files and packages. */
import path from "node:path";
import type { ExitHead } from "@cee/exit-policies";
import { suggestNames } from "../errors.js";
import { full } from "../methods/full.js";
import type { Method } from "../methods/method.js";
import { methods as builtIn, defaultMethodNames, methodNames } from "../methods/registry.js";
import { strategyMethod } from "../methods/strategy-method.js";
import {
  type LoadedPlugin,
  loadHeadPlugin,
  loadStrategyPlugin,
  type RefusedPlugin,
} from "../plugins/load-plugins.js";
import { knownStrategies } from "../plugins/registry.js";
import { pluginSeconds } from "../plugins/vet.js";
import { checkStrategyOptions, chooseNames, fold, type GlueOptions } from "./options.js";

export interface ChosenMethods {
  /** In the order of the table; full depth, which every method is measured against, always leads. */
  readonly methods: readonly Method[];
  /** Names that were asked for, rather than taken because nothing was said. */
  readonly named: ReadonlySet<string>;
  /** What the code of a third-party strategy is, by method name, so that a changed one runs again. */
  readonly sources: Readonly<Record<string, string>>;
  /** Plugins that can't take part; the others do. */
  readonly refused: readonly (RefusedPlugin & { readonly name: string })[];
  /** The exit head of every method that brings none of its own; `undefined` for the usual one. */
  readonly head: ExitHead | undefined;
}

export interface ChooseOptions
  extends Pick<GlueOptions, "methods" | "allMethods" | "strategies" | "strategyOptions" | "head"> {}

/**
 * @throws BenchError `UNKNOWN_METHOD`, `BAD_OPTION`; ExitStrategyError `UNKNOWN_STRATEGY` where nothing is. A plugin that
 * is broken is refused and named, and leaves the others alone.
 */
export async function chooseMethods(
  {
    methods,
    allMethods = false,
    strategies: specifiers,
    strategyOptions,
    head: headSpecifier,
  }: ChooseOptions,
  {
    from = process.cwd(),
    isVetted = false,
    signal,
  }: { from?: string; isVetted?: boolean; signal?: AbortSignal | undefined } = {},
): Promise<ChosenMethods> {
  const vetting = { from, strategyOptions, isVetted, signal };
  const head =
    headSpecifier === undefined ? undefined : await loadHeadPlugin(headSpecifier, vetting);
  const added = new Map<string, Method>();
  const sources: Record<string, string> = {};
  const refused: (RefusedPlugin & { name: string })[] = [];
  const refuse = (plugin: RefusedPlugin) =>
    refused.push({ ...plugin, name: path.parse(plugin.specifier).name || plugin.specifier });
  for (const specifier of specifiers) {
    const plugin = await loadStrategyPlugin(specifier, vetting);
    if ("problem" in plugin) {
      refuse(plugin);
      continue;
    }
    const name = plugin.strategy.strategyName;
    if (plugin.source === undefined && methodNames.includes(name)) continue;
    if (methodNames.includes(name) || added.has(name)) {
      refuse({
        specifier,
        problem: `[${specifier}] its strategy is called "${name}", like ${added.has(name) ? "another plugin's" : "a method that is already there"}. Rename it.`,
      });
      continue;
    }
    added.set(name, methodOf(plugin, strategyOptions[name] ?? {}));
    if (plugin.source !== undefined) sources[name] = plugin.source;
  }
  // The name of a strategy that could not be loaded is not known.
  if (refused.length === 0)
    checkStrategyOptions(strategyOptions, [...added.keys()], (name) =>
      adviseOnOptions(name, [...added.keys()]),
    );
  const available = [...builtIn, ...added.values()];
  const names = chooseNames(
    methods.length > 0 || allMethods ? methods : defaultMethodNames,
    available.map(({ name }) => name),
    "UNKNOWN_METHOD",
    "--methods",
    (name) =>
      knownStrategies.find(name)
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
    refused,
    head,
  };
}

function adviseOnOptions(name: string, added: readonly string[]): string {
  if (methodNames.includes(name))
    return "It is a method of the table, and those have the options of their presets. Leave it out.";
  return added.length > 0 ? suggestNames(name, added) : "Add the strategy with --strategy.";
}

function methodOf(
  { strategy, head, source }: LoadedPlugin,
  options: Readonly<Record<string, unknown>>,
): Method {
  return strategyMethod(strategy, {
    title: strategy.strategyName,
    options: () => options,
    ...(head ? { head } : {}),
    ...(source === undefined ? {} : { source, seconds: pluginSeconds() }),
  });
}

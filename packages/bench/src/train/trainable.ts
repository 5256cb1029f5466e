/** @file What `cee train` can train: every method that is an exit strategy on one model, and strategies of one's own. */
import { consistentEE } from "@cee/consistentee";
import type { AnyExitStrategyFactory, ExitHead } from "@cee/exit-policies";
import { BenchError, suggestNames } from "../errors.js";
import { checkStrategyOptions, fold } from "../glue/options.js";
import { consistentEEMethod } from "../methods/consistentee.js";
import { layerWiseRecipes } from "../methods/layer-wise.js";
import type { Method } from "../methods/method.js";
import { recipeMethod } from "../methods/recipe-method.js";
import { methodNames } from "../methods/registry.js";
import { strategyMethod } from "../methods/strategy-method.js";
import { loadStrategyPlugin } from "../plugins/load-plugins.js";
import { knownStrategies } from "../plugins/registry.js";
import type { OptionsByName } from "../plugins/vet-child.js";

/** Strategies and heads that a folder may name besides those of `@cee/exit-policies` and `@cee/backbone`. */
export const recipeParts: {
  readonly moreStrategies: readonly AnyExitStrategyFactory[];
  readonly moreHeads: readonly ExitHead[];
} = {
  moreStrategies: layerWiseRecipes.map(({ recipe }) => recipe.strategy),
  moreHeads: layerWiseRecipes.map(({ recipe }) => recipe.head),
};

export interface Trainable {
  readonly method: Method;
  /** What a plugin's code is, so that a changed one is trained again. */
  readonly source: string | undefined;
}

/**
 * Finds what a user named.
 * @throws BenchError `UNKNOWN_METHOD`; `BAD_OPTION` for a plugin that is broken, or options that are refused or of another strategy
 */
export async function findTrainable(
  specifier: string,
  {
    strategyOptions,
    signal,
    from = process.cwd(),
  }: {
    readonly strategyOptions: OptionsByName;
    readonly signal?: AbortSignal | undefined;
    readonly from?: string;
  },
): Promise<Trainable> {
  const name = fold(specifier);
  const given = (known: string) => {
    checkStrategyOptions(strategyOptions, [known]);
    return { options: strategyOptions[known] ?? {} };
  };
  if (name === fold(consistentEE.strategyName))
    return {
      method: consistentEEMethod({
        name: "consistentee",
        title: "ConsistentEE",
        reward: "hardness",
        ...given("consistentee"),
      }),
      source: undefined,
    };
  const recipe = layerWiseRecipes.find((one) => fold(one.name) === name);
  if (recipe)
    return { method: recipeMethod({ ...recipe, ...given(recipe.name) }), source: undefined };
  const plugin = await loadStrategyPlugin(specifier, { from, strategyOptions, signal }).catch(
    (cause: unknown) => {
      throw isUnknown(cause) && /^[\w-]+$/.test(specifier) ? unknown(specifier, cause) : cause;
    },
  );
  if ("problem" in plugin) throw new BenchError("BAD_OPTION", "--strategy", plugin.problem);
  const { strategy, head, source } = plugin;
  const { options } = given(strategy.strategyName);
  return {
    method: strategyMethod(strategy, {
      title: strategy.strategyName,
      options: () => options,
      ...(head ? { head } : {}),
      ...(source === undefined ? {} : { source }),
    }),
    source,
  };
}

function isUnknown(cause: unknown): boolean {
  return (cause as { code?: unknown } | undefined)?.code === "UNKNOWN_STRATEGY";
}

function unknown(name: string, cause: unknown): BenchError {
  const known: string[] = [
    ...knownStrategies.names,
    ...layerWiseRecipes.map((recipe) => recipe.name),
  ];
  const hint = methodNames.some((known) => fold(known) === fold(name))
    ? "It is a method of the benchmark that no single model with exits can hold. "
    : `No package exit-strategy-${name} is installed here either; a file is named with its path. `;
  return new BenchError(
    "UNKNOWN_METHOD",
    "--strategy",
    `there is no strategy "${name}" to train. ${hint}${suggestNames(name, [...new Set(known)])}`,
    { cause },
  );
}

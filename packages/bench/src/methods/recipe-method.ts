/** @file A recipe of `@cee/baselines` as a method of the benchmark: its own exit head, training and rule. */
import type { Recipe } from "@cee/baselines";
import type { AnyExitStrategyFactory, ExitStrategy } from "@cee/exit-policies";
import type { Method, TrainingSpec, Workbench } from "./method.js";
import { curveOf, initialiseSpec, unsupportedTask } from "./strategy-method.js";

export interface RecipeMethodOptions {
  readonly name: string;
  readonly title: string;
  readonly recipe: Recipe<AnyExitStrategyFactory>;
  /** Settings of the small preset by the recipe's own option names; the published ones are the recipe's defaults. */
  readonly small?: (bench: Workbench) => Readonly<Record<string, unknown>>;
  /** A user's, over those of the preset. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** The recipe's only objective is the weighted loss of all exits: in the small preset it shares that training. */
  readonly isWeighted?: boolean;
}

/** Makes the method. */
export function recipeMethod({
  name,
  title,
  recipe: { strategy: factory, head },
  small = () => ({}),
  options = {},
  isWeighted = false,
}: RecipeMethodOptions): Method {
  const { definition } = factory;
  const create = factory as unknown as (options: Readonly<Record<string, unknown>>) => ExitStrategy;
  const optionsOf = (bench: Workbench) => ({
    ...(bench.preset === "small" ? small(bench) : {}),
    ...options,
  });
  const training = (bench: Workbench): TrainingSpec => {
    const isSmall = bench.preset === "small";
    // Deviates from the paper: the settings of the shared training, not of the method's own.
    if (isSmall && isWeighted) return initialiseSpec(bench);
    const strategy = create(optionsOf(bench));
    const { phases } = definition;
    if (!phases) throw new Error(`internal: the recipe ${name} has no phases`);
    const untouched = new Set<string>([
      ...(definition.knob ? [definition.knob.option] : []),
      ...(definition.calibrated ?? []),
    ]);
    const trainedBy = Object.entries(strategy.options).filter(([option]) => !untouched.has(option));
    return {
      label: name,
      identity: { method: name, head: head.name, options: Object.fromEntries(trainedBy) },
      // Deviates from the paper: a small encoder that starts from nothing does not learn through twelve layers from the
      // last classifier alone, so in the small preset every recipe goes on from the training on all exits.
      ...(isSmall ? { parent: initialiseSpec(bench) } : {}),
      head,
      strategy,
      plan: () => phases(bench.shape, strategy.options),
    };
  };
  return {
    name,
    title,
    unsupported: (task) => unsupportedTask(name, definition.tasks, task),
    trainings: (bench) => [
      ...(bench.preset === "small" && !isWeighted ? [initialiseSpec(bench)] : []),
      training(bench),
    ],
    run: async (bench) =>
      curveOf(bench, await bench.fit(training(bench)), create, optionsOf(bench)),
  };
}

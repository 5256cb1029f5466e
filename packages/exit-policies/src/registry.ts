/** @file A closed, typed set of strategies addressed by name: command-line flags, config files, saved checkpoints. */
import type { AnyExitStrategyFactory } from "./define.js";
import { ExitStrategyError } from "./errors.js";
import type { ExitStrategy } from "./strategy.js";

export interface StrategyRegistry<
  TFactories extends readonly AnyExitStrategyFactory[] = readonly AnyExitStrategyFactory[],
> {
  readonly names: readonly TFactories[number]["strategyName"][];
  readonly factories: readonly AnyExitStrategyFactory[];
  /** @throws ExitStrategyError `INVALID_OPTIONS` */
  create<TName extends TFactories[number]["strategyName"]>(
    name: TName,
    ...options: Parameters<Extract<TFactories[number], { readonly strategyName: TName }>>
  ): ExitStrategy;
  /** The untyped door for strings that come from outside. @throws ExitStrategyError `UNKNOWN_STRATEGY` */
  createUnknown(name: string, options?: unknown): ExitStrategy;
  /** The factory of that name, or `undefined`. */
  find(name: string): AnyExitStrategyFactory | undefined;
}

/** @throws ExitStrategyError `DUPLICATE_NAME` */
export function createRegistry<const TFactories extends readonly AnyExitStrategyFactory[]>(
  factories: TFactories,
): StrategyRegistry<TFactories> {
  const byName = new Map<string, AnyExitStrategyFactory>();
  for (const factory of factories) {
    if (byName.has(factory.strategyName))
      throw new ExitStrategyError(
        "DUPLICATE_NAME",
        factory.strategyName,
        `two strategies are called "${factory.strategyName}". Rename one of them.`,
      );
    byName.set(factory.strategyName, factory);
  }
  const names = [...byName.keys()];
  const create = (name: string, options?: unknown): ExitStrategy => {
    const factory = byName.get(name);
    if (!factory) throw new ExitStrategyError("UNKNOWN_STRATEGY", name, unknownName(name, names));
    return (factory as (options?: unknown) => ExitStrategy)(options);
  };
  return Object.freeze({
    names,
    factories: [...byName.values()],
    create: create as never,
    createUnknown: create,
    find: (name: string) => byName.get(name),
  });
}

/** What a message says of a name that nobody has. */
export function unknownName(name: string, names: readonly string[]): string {
  const near = nearest(name, names);
  const available = [...names].sort().join(", ") || "none";
  return `no such strategy, got "${name}".${near === undefined ? "" : ` Did you mean "${near}"?`} Available: ${available}.`;
}

/** The known name that is a typing mistake away, if one is. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const candidate of names) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let before = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1)
      current.push(
        Math.min(
          (before[column] as number) + 1,
          (current[column - 1] as number) + 1,
          (before[column - 1] as number) + (a[row - 1] === b[column - 1] ? 0 : 1),
        ),
      );
    before = current;
  }
  return before[b.length] as number;
}

/** @file The strategies of this project by name: what a command line knows without loading anything. */
import { consistentEE } from "@cee/consistentee";
import { builtInStrategies, createRegistry, type StrategyRegistry } from "@cee/exit-policies";

export const knownStrategies: StrategyRegistry = createRegistry([
  consistentEE,
  ...builtInStrategies,
]);

/** @file The strategies of this project by name: what a command line knows without loading anything. */
import { consistentEE } from "@cee/consistentee";
import {
  alwaysAt,
  createRegistry,
  entropy,
  never,
  patience,
  pcee,
  rightTool,
  type StrategyRegistry,
} from "@cee/exit-policies";

export const builtInStrategies: StrategyRegistry = createRegistry([
  consistentEE,
  entropy,
  patience,
  pcee,
  rightTool,
  never,
  alwaysAt,
]);

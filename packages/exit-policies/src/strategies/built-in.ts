/** @file Every strategy of this package: what a name in a file or on a command line may mean. */
import type { AnyExitStrategyFactory } from "../define.js";
import { alwaysAt } from "./always-at.js";
import { calm, calmMeta, calmState } from "./calm.js";
import { conformal } from "./conformal.js";
import { entropy } from "./entropy.js";
import { fastBert } from "./fast-bert.js";
import { never } from "./never.js";
import { patience } from "./patience.js";
import { pcee } from "./pcee.js";
import { rightTool } from "./right-tool.js";
import { shallowDeep } from "./shallow-deep.js";
import { zeroTimeWaste } from "./zero-time-waste.js";

/** For `createRegistry`, together with those of other packages. */
export const builtInStrategies: readonly AnyExitStrategyFactory[] = [
  entropy,
  patience,
  pcee,
  rightTool,
  fastBert,
  zeroTimeWaste,
  conformal,
  calm,
  calmState,
  calmMeta,
  shallowDeep,
  alwaysAt,
  never,
];

/** @file The methods that `bench glue` knows, in the order of its table. */
import { entropy, patience } from "@cee/exit-policies";
import { cascade } from "./cascade.js";
import { consistentEEMethod } from "./consistentee.js";
import { full } from "./full.js";
import { hashEe } from "./hashee.js";
import { layerWise } from "./layer-wise.js";
import type { Method } from "./method.js";
import { oracle } from "./oracle.js";
import { randomExit } from "./random-exit.js";
import { strategyMethod } from "./strategy-method.js";
import { trBert } from "./tr-bert.js";
import { truncated } from "./truncated.js";

export const methods: readonly Method[] = [
  full,
  strategyMethod(entropy, { title: "DeeBERT's rule (entropy)" }),
  strategyMethod(patience, { title: "PABEE's rule (patience)" }),
  ...layerWise,
  consistentEEMethod({ name: "consistentee", title: "ConsistentEE", reward: "hardness" }),
  consistentEEMethod({
    name: "consistentee-vanilla",
    title: "ConsistentEE, vanilla reward",
    reward: "vanilla",
  }),
  hashEe,
  trBert,
  cascade,
  truncated,
  randomExit,
  oracle,
];

/** What runs when nothing is said: those that the generated tasks finish in minutes. */
export const defaultMethodNames: readonly string[] = [
  "full",
  "entropy",
  "patience",
  "consistentee",
  "consistentee-vanilla",
];

export const methodNames: readonly string[] = methods.map((method) => method.name);

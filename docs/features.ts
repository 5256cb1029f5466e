/**
 * @file What every strategy and every method can do, as a page.
 *
 *     pnpm docs:features     writes docs/methods/features.md
 *
 * Everything is read from the definitions or tried with them; `test/features.test.ts` fails while the page is out of date.
 */
import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { checkExportable } from "../packages/backbone/src/export/exit-parts.js";
import { BackboneError } from "../packages/backbone/src/index.js";
import { tinyBert } from "../packages/backbone/src/testing.js";
import { BenchError } from "../packages/bench/src/errors.js";
import { generationMethods } from "../packages/bench/src/generation/options.js";
import { ownKeyValues, titles } from "../packages/bench/src/generation/points.js";
import { layerWiseRecipes } from "../packages/bench/src/methods/layer-wise.js";
import type { Method, Workbench } from "../packages/bench/src/methods/method.js";
import { methods } from "../packages/bench/src/methods/registry.js";
import { findTrainable } from "../packages/bench/src/train/trainable.js";
import { consistentEE, consistentEEDecoder } from "../packages/consistentee/src/index.js";
import {
  type AnyExitStrategyFactory,
  builtInStrategies,
  type ExitStrategy,
  type Task,
} from "../packages/exit-policies/src/index.js";
import { conformance } from "../packages/exit-policies/src/testing/index.js";

export const featuresFile = fileURLToPath(new URL("methods/features.md", import.meta.url));

interface Listed {
  readonly factory: AnyExitStrategyFactory;
  readonly home: string;
}

const strategies: readonly Listed[] = [
  ...[consistentEE, consistentEEDecoder].map((factory) => ({ factory, home: "consistentee" })),
  ...builtInStrategies.map((factory) => ({ factory, home: "exit-policies" })),
  ...layerWiseRecipes.map(({ recipe }) => ({ factory: recipe.strategy, home: "baselines" })),
];

/** What the conformance kit asks of rows that share a batch. */
const BATCH_CHECKS: ReadonlySet<string> = new Set([
  "observe treats each row by itself",
  "observe follows the order of the rows",
  "decide does not care which row it saw before",
  "a row alone exits as it does in a batch",
  "the order of a batch does not matter",
]);

const yes = (isSo: boolean) => (isSo ? "yes" : "–");

/** The strategy's defaults; some have none for the layer where they exit. */
function argumentsOf({ definition }: AnyExitStrategyFactory): Readonly<Record<string, unknown>> {
  const needs = definition.options["~standard"].validate({}) as { readonly issues?: unknown };
  return needs.issues === undefined ? {} : { layer: 2 };
}

async function isBatchExact(factory: AnyExitStrategyFactory): Promise<boolean> {
  const checks = conformance(factory, { configurations: [[argumentsOf(factory)]] });
  const asked = checks.filter(({ name }) => BATCH_CHECKS.has(name));
  if (asked.length !== BATCH_CHECKS.size)
    throw new Error(`internal: the kit has ${asked.length} of the ${BATCH_CHECKS.size} checks`);
  for (const { run } of asked) {
    try {
      await run();
    } catch {
      return false;
    }
  }
  return true;
}

/** Whether a file can hold its exits, for every kind of encoder that it is made for. */
function isExportable(factory: AnyExitStrategyFactory): boolean {
  const strategy = (factory as (options: unknown) => ExitStrategy)(argumentsOf(factory));
  const tasks = (["classification", "regression"] as const).filter((task) =>
    factory.definition.tasks.includes(task),
  );
  try {
    for (const task of tasks)
      checkExportable(tinyBert({ regression: task === "regression" }), strategy);
    return tasks.length > 0;
  } catch (error) {
    if (error instanceof BackboneError && error.code === "NOT_EXPORTABLE") return false;
    throw error;
  }
}

async function strategyRow({ factory, home }: Listed): Promise<string[]> {
  const { strategyName, definition } = factory;
  const { tasks, knob, calibrate, params, phases } = definition;
  const can = (task: Task) => yes(tasks.includes(task));
  return [
    `\`${strategyName}\``,
    `[${home}](../../packages/${home}/README.md)`,
    can("classification"),
    can("regression"),
    can("generation"),
    yes(params !== undefined || phases !== undefined),
    yes(calibrate !== undefined),
    yes(isExportable(factory)),
    yes(await isBatchExact(factory)),
    knob ? `\`${knob.option}\`` : "–",
    definition.needs.map((name: string) => `\`${name}\``).join(", "),
  ];
}

/** The page of a method, `undefined` for one that is described on another's. */
function pageOf(name: string): string | undefined {
  return [name, name.split("-")[0]].find((page) =>
    existsSync(fileURLToPath(new URL(`methods/${page}.md`, import.meta.url))),
  );
}

/** As much of a run as a method needs to list its trainings. */
function benchFor(task: Task): Workbench {
  const model = tinyBert({ depth: 4, regression: task === "regression" });
  const bench: Partial<Workbench> = {
    task,
    shape: model.shape,
    model,
    params: model.params,
    seed: 1,
    preset: "small",
    epochs: undefined,
    rate: 1,
  };
  return bench as Workbench;
}

/** Whether it trains more than what all exits share. */
function hasOwnTraining(method: Method): boolean {
  return method
    .trainings(benchFor("classification"))
    .some(({ identity }) => identity.method !== "initialise");
}

/** Whether `cee train --strategy` takes it. */
async function isTrainable(name: string): Promise<boolean> {
  try {
    await findTrainable(name, { strategyOptions: {} });
    return true;
  } catch (error) {
    if (error instanceof BenchError && error.code === "UNKNOWN_METHOD") return false;
    throw error;
  }
}

async function methodRow(method: Method): Promise<string[]> {
  const page = pageOf(method.name);
  const recipe = layerWiseRecipes.find(({ name }) => name === method.name)?.recipe;
  return [
    `\`${method.name}\``,
    page === undefined ? method.title : `[${method.title}](${page}.md)`,
    yes(method.unsupported("classification") === undefined),
    yes(method.unsupported("regression") === undefined),
    yes(hasOwnTraining(method)),
    recipe ? `\`${recipe.head.name}\`` : "the run's",
    yes(await isTrainable(method.name)),
  ];
}

function generationRow(name: (typeof generationMethods)[number]): string[] {
  const page = pageOf(name);
  return [
    `\`${name}\``,
    page === undefined ? titles[name] : `[${titles[name]}](${page}.md)`,
    ownKeyValues[name] === undefined ? "any" : `\`${ownKeyValues[name]}\``,
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** The whole page. */
export async function featuresPage(): Promise<string> {
  const rows: string[][] = [];
  for (const listed of strategies) rows.push(await strategyRow(listed));
  const methodRows: string[][] = [];
  for (const method of methods) methodRows.push(await methodRow(method));
  return `# What each strategy can do

Written by \`pnpm docs:features\` from the definitions in the packages; a test fails while it is out of date. Change the
definitions, not this page.

## Strategies

${table(
  [
    "strategy",
    "package",
    "classification",
    "regression",
    "generation",
    "trainable",
    "calibrated",
    "exportable",
    "batch-exact",
    "knob",
    "signals",
  ],
  rows,
)}

**Trainable**: it has parameters, or a training plan, of its own; the others decide on what a model with trained exits says.
**Calibrated**: it takes options from held-out rows before it is used. **Exportable**: \`cee export\` puts it into an ONNX file,
which needs its decision as a tensor function; that is for encoders. **Batch-exact**: it passes the checks of the
[conformance kit](../write-a-strategy.md#batches) that a row leaves at the same layer alone, in a batch, and in any order; they run
when this page is written. **Knob**: the option that trades accuracy for speed without new training. **Signals**: what it reads at an
exit, and so pays for.

## Methods of \`bench glue\`

${table(
  [
    "`--methods`",
    "method",
    "classification",
    "regression",
    "own training",
    "exit head",
    "`cee train`",
  ],
  methodRows,
)}

**Own training**: it trains more, with the small preset, than the weighted loss on all exits that methods share. **Exit head**: the
one that it brings; the run's otherwise. **\`cee train\`**: \`--strategy\` takes it, since one model with exits holds it; a cascade has
two models, token-wise methods have no exits, controls are there for comparison, and the vanilla reward is an option of
\`consistentee\`.

## Methods of \`bench generation\`

${table(["`--methods`", "method", "keys and values of skipped layers"], generationMethods.map(generationRow))}

**Any**: what \`--key-values\` says; the others leave no choice ([what these are](../generation.md#keys-and-values-of-skipped-layers)).
`;
}

if (process.argv[1] === path.resolve(fileURLToPath(import.meta.url)))
  writeFileSync(featuresFile, await featuresPage());

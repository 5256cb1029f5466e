/** @file Trains recipes on a tiny encoder, and makes up training steps whose losses can be worked by hand. */
import {
  type FitResult,
  fit,
  type ModelPlan,
  openEncoder,
  type TrainingRow,
  toBatch,
} from "@cee/backbone";
import { type TinyBertOptions, tinyBert } from "@cee/backbone/testing";
import { createEngine, createRng, type Engine, type HostParams } from "@cee/engine";
import {
  classify,
  type ExitHead,
  type ExitStrategy,
  type ModelShape,
  type PhasePlan,
  record,
  replay,
  type Signals,
  type TrainingPhase,
  type TrainingStep,
  toObserver,
  withOptions,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { afterAll } from "vitest";

/** The engine of a test file, until its tests are done. */
export async function openEngine(): Promise<Engine> {
  const engine = await createEngine({ threads: 1 });
  afterAll(() => engine.dispose());
  return engine;
}

export const DEPTH = 3;
const HIDDEN = 16;

/** Twelve rows whose class, or value, is told by one of their tokens. */
export function inventRows(): TrainingRow[] {
  const rng = createRng("rows");
  return Array.from({ length: 12 }, (_, index) => {
    const ids = Int32Array.from({ length: 3 + rng.int(5) }, () => 2 + rng.int(16));
    ids[0] = 1;
    ids[1] = 18 + (index % 2);
    return { id: `${index}`, ids, types: new Int32Array(ids.length), label: index % 2 };
  });
}

export interface TrainedOn {
  readonly strategy: ExitStrategy;
  readonly head: ExitHead;
  readonly regression?: boolean;
  /** @default 16 */
  readonly hidden?: number;
  /** Runs only so many phases of the plan. */
  readonly phases?: number;
}

/** Runs the recipe's own plan, one pass over the rows per epoch. */
export async function train(
  engine: Engine,
  { strategy, head, regression = false, hidden = HIDDEN, phases }: TrainedOn,
) {
  const model = tinyBert({ depth: DEPTH, hidden, head, regression });
  const { definition, options } = strategy;
  const own = definition.params?.(model.shape, options, 5) ?? {};
  const before: HostParams = { ...model.params, ...prefixed(own) };
  const result: FitResult = await fit({
    engine,
    model,
    params: before,
    plan: () => shortened(definition.phases?.(model.shape, options) as PhasePlan, phases),
    observer: toObserver(strategy),
    train: inventRows(),
    dev: [],
    seed: 3,
  });
  return { model, before, changed: changedPaths(before, result.params), ...result };
}

/** Runs a plan of no strategy on a tiny encoder. */
export function trainPlan(engine: Engine, plan: (shape: ModelShape) => PhasePlan) {
  return trainModelPlan(engine, ({ shape }) => plan(shape));
}

/** The same for a plan that knows the model; `own` are parameters beside the model's, by full path. */
export async function trainModelPlan(
  engine: Engine,
  plan: (model: ModelPlan) => PhasePlan,
  {
    own = {},
    phases,
    ...tiny
  }: TinyBertOptions & { readonly own?: HostParams; readonly phases?: number } = {},
) {
  const model = tinyBert({ depth: DEPTH, hidden: HIDDEN, ...tiny });
  const before: HostParams = { ...model.params, ...own };
  const result: FitResult = await fit({
    engine,
    model,
    params: before,
    plan: () => shortened(plan(model), phases),
    train: inventRows(),
    dev: [],
    seed: 3,
  });
  return { model, before, changed: changedPaths(before, result.params), ...result };
}

function changedPaths(before: HostParams, after: HostParams): string[] {
  return Object.keys(before).filter(
    (path) => String(before[path]?.data) !== String(after[path]?.data),
  );
}

/** Paths that training moves: of a key's bias nothing depends, since it shifts all scores of a query alike. */
export function movable(before: HostParams, ...prefixes: readonly string[]): string[] {
  return Object.keys(before).filter(
    (path) => prefixes.some((prefix) => path.startsWith(prefix)) && !path.endsWith("key.bias"),
  );
}

export const withoutKeyBias = (paths: readonly string[]) =>
  paths.filter((path) => !path.endsWith("key.bias"));

function* shortened(plan: PhasePlan, phases = Number.POSITIVE_INFINITY): PhasePlan {
  let next = plan.next();
  for (let done = 0; !next.done && done < phases; done += 1) next = plan.next(yield next.value);
}

/** Exit layers of all rows at each value of the knob, recorded and live. */
export async function exitsOf(
  engine: Engine,
  { model, params }: Pick<Awaited<ReturnType<typeof train>>, "model" | "params">,
  strategy: ExitStrategy,
  values: readonly number[],
) {
  const own = Object.entries(params).flatMap(([path, tensor]) =>
    path.startsWith("strategy.") ? [[path.slice("strategy.".length), tensor] as const] : [],
  );
  const rows = inventRows();
  const batch = toBatch(rows);
  const runner = await openEncoder(
    engine,
    model,
    params,
    toObserver(strategy, Object.fromEntries(own)),
  );
  try {
    const made = await record(runner, [batch], {
      ids: rows.map(({ id }) => id),
      labels: rows.map(({ label }) => label),
    });
    const result = [];
    for (const value of values) {
      const at = withOptions(strategy, { [strategy.definition.knob?.option as string]: value });
      const live = await classify(runner, batch, at);
      result.push({ live: [...live.exitLayers], replayed: [...replay(made, at).exitLayers] });
    }
    return { made, exits: result };
  } finally {
    await runner.dispose();
  }
}

/** A step on given head outputs, `[layer][row][class]`, with perRow over all rows. */
export function stepOf(
  logits: readonly (readonly (readonly number[])[])[],
  labels: readonly number[],
  more: {
    readonly task?: ModelShape["task"];
    readonly params?: TrainingStep["params"];
    readonly pooled?: readonly (readonly (readonly number[])[])[];
  } = {},
): TrainingStep {
  const exits = logits.map((rows, index) => {
    const own = tf.tensor2d(rows as number[][]);
    const pooled = more.pooled ? tf.tensor2d(more.pooled[index] as number[][]) : own;
    return { logits: own, pooled, hidden: pooled, features: pooled } as unknown as Signals;
  });
  const first = exits[0] as Signals;
  const [rows, classes] = first.logits.shape;
  return {
    shape: {
      task: more.task ?? "classification",
      depth: logits.length,
      hidden: first.pooled.shape[1],
      classes,
    },
    exits,
    labels: tf.tensor1d([...labels]),
    params: more.params ?? {},
    side: undefined,
    perRow: tf.scalar(1 / rows),
    progress: tf.scalar(0),
    step: tf.scalar(0),
    seed: tf.tensor1d([1, 2], "int32"),
  };
}

/** All phases of the strategy's plan for a model of this depth. */
export function phasesOf(strategy: ExitStrategy, depth = DEPTH): TrainingPhase[] {
  const shape: ModelShape = { task: "classification", depth, hidden: 2, classes: 2 };
  const plan = strategy.definition.phases?.(shape, strategy.options) as PhasePlan;
  const phases: TrainingPhase[] = [];
  const report = { phase: "", steps: 1, loss: 0, measures: {} };
  for (let next = plan.next(); !next.done; next = plan.next(report)) phases.push(next.value);
  return phases;
}

/** Value of a phase's loss. */
export function lossOf(phase: TrainingPhase | undefined, name: string, step: TrainingStep): number {
  return phase?.losses[name]?.(step).dataSync()[0] as number;
}

/** Cross-entropy of one row in nats. */
export function crossEntropy(logits: readonly number[], label: number): number {
  const total = logits.reduce((sum, value) => sum + Math.exp(value), 0);
  return Math.log(total) - (logits[label] as number);
}

function prefixed(own: HostParams): HostParams {
  return Object.fromEntries(
    Object.entries(own).map(([name, tensor]) => [`strategy.${name}`, tensor]),
  );
}

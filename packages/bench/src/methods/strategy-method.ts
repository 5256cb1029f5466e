/** @file Any exit strategy as a method of the benchmark: train once, record once, replay every knob value. */
import { consistentEEPresets, initialisePhase } from "@cee/consistentee";
import {
  type AnyExitStrategyFactory,
  type ExitHead,
  type ExitRecord,
  type ExitStrategy,
  replay,
  type Task,
} from "@cee/exit-policies";
import { within } from "../plugins/within.js";
import type { CurvePoint, Method, Trained, TrainingSpec, Workbench } from "./method.js";

export interface StrategyMethodOptions {
  readonly title: string;
  /** Options besides the knob, by task. */
  readonly options?: (task: Task) => Readonly<Record<string, unknown>>;
  /** The exit head that the strategy is made for. @default the run's */
  readonly head?: ExitHead;
  /** What the code of a third-party strategy is: other code is another training. */
  readonly source?: string;
  /** How long its decisions on a split may take, in seconds. @default no limit */
  readonly seconds?: number;
}

/**
 * The learning rate for this encoder's width and weights. The small preset's rates were found at width 64; at 128 the deeper layers of a
 * fresh encoder collapse under them, and half of them trains.
 */
export function rateFor(bench: Workbench, rate: number): number {
  if (bench.preset === "paper") return rate;
  return bench.rate * rate * Math.min(1, 64 / bench.shape.hidden);
}

/** The training that entropy, patience and ConsistentEE share: weighted cross-entropy on every exit. */
export function initialiseSpec(bench: Workbench): TrainingSpec {
  const { initialise } = consistentEEPresets[bench.preset];
  const phase = initialisePhase({
    ...initialise,
    learningRate: rateFor(bench, initialise.learningRate),
    epochs: bench.epochs ?? initialise.epochs,
  });
  const { losses: _, ...identity } = phase;
  return {
    label: "initialise (weighted cross-entropy on every exit)",
    identity: { method: "initialise", ...identity },
    *plan() {
      yield phase;
    },
  };
}

/** Wraps a strategy factory; a strategy without phases of its own shares {@link initialiseSpec}. */
export function strategyMethod(
  factory: AnyExitStrategyFactory,
  { title, options = () => ({}), head, source, seconds }: StrategyMethodOptions,
): Method {
  const { definition, strategyName } = factory;
  const create = factory as unknown as (options: Readonly<Record<string, unknown>>) => ExitStrategy;
  const training = (bench: Workbench): TrainingSpec => {
    const strategy = create(options(bench.task));
    const { phases } = definition;
    if (!phases && !head && !definition.params) return initialiseSpec(bench);
    return {
      label: strategyName,
      identity: {
        method: strategyName,
        options: strategy.options,
        ...(source === undefined ? {} : { source }),
        ...(head ? { head: head.name } : {}),
      },
      ...(head ? { head } : {}),
      strategy,
      // A head of its own with nothing else to train goes through what all exits share.
      plan: () => (phases ? phases(bench.shape, strategy.options) : initialiseSpec(bench).plan()),
    };
  };
  return {
    name: strategyName,
    title,
    unsupported: (task) => unsupportedTask(strategyName, definition.tasks, task),
    trainings: (bench) => [training(bench)],
    run: async (bench) =>
      curveOf(bench, await bench.fit(training(bench)), create, options(bench.task), seconds),
  };
}

/** Why a method that is made for some tasks can't do this one; `undefined` where it can. */
export function unsupportedTask(
  name: string,
  tasks: readonly Task[],
  task: Task,
): string | undefined {
  if (tasks.includes(task)) return undefined;
  return `${name} is made for ${tasks.join(" and ")}, not for ${task}${task === "regression" ? ", where a single value has no class probabilities" : ""}`;
}

/** Calibrates where the strategy asks for it, records dev once and replays every value of the knob. */
export async function curveOf(
  bench: Workbench,
  trained: Trained,
  create: (options: Readonly<Record<string, unknown>>) => ExitStrategy,
  options: Readonly<Record<string, unknown>>,
  /** How long the strategy's own code may take on a split. @default no limit */
  seconds?: number,
): Promise<readonly CurvePoint[]> {
  let strategy = create(options);
  const { name } = strategy;
  const { calibrate, knob } = strategy.definition;
  if (calibrate) {
    const held = await bench.record(trained, strategy, "validation");
    const found = within(seconds, name, () => calibrate(held, strategy.options));
    strategy = create({ ...strategy.options, ...found });
  }
  const record = await bench.record(trained, strategy);
  const values = knob ? knobValues(knob, record) : [undefined];
  return values.map((value): CurvePoint => {
    const configured =
      value === undefined || !knob
        ? strategy
        : create({ ...strategy.options, [knob.option]: value });
    const { exitLayers, predictions, nonFinite } = within(seconds, name, () =>
      replay(record, configured),
    );
    return {
      knob: value === undefined || !knob ? null : { name: knob.option, value },
      options: configured.options,
      exitLayers,
      predictions,
      nonFinite,
      trace: { record, strategy: configured },
      trained,
      open: () => bench.open(trained, configured),
    };
  });
}

/** The definition's grid; a continuous knob gets observed quantiles as well, so that the curve has no holes. */
export function knobValues(
  knob: { readonly grid: readonly number[] },
  record: ExitRecord,
): number[] {
  const values = new Set(knob.grid);
  const continuous = knob.grid.some((value) => !Number.isInteger(value));
  if (continuous && record.observedWidth === 1) {
    const seen = record.observed.filter(Number.isFinite).sort();
    for (let share = 1; share < 20; share += 1) {
      const value = seen[Math.floor((seen.length * share) / 20)];
      if (value !== undefined) values.add(Number(value.toPrecision(4)));
    }
  }
  return [...values].sort((a, b) => a - b);
}

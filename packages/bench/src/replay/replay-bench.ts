/**
 * @file `bench replay`: how many (strategy, knob value) points per second a record is replayed at, through the public
 * `decide` and by the sorted path, on a made-up record of the size of SST-2's development set.
 *
 * N = rows, T = exits (layers), C = classes.
 */
import { createRng, useBackend } from "@cee/engine";
import {
  type ExitRecord,
  type ExitStrategy,
  entropy,
  patience,
  pcee,
  record,
  replayAll,
  replaySweep,
  rightTool,
  toObserver,
  withOptions,
} from "@cee/exit-policies";
import { fixedExits } from "@cee/exit-policies/testing";
import type { RunHooks } from "../glue/progress.js";
import { pauseForStop } from "../glue/stop.js";
import { median, quantile } from "../metrics/statistics.js";
import { type Table, toText } from "../table/table.js";

export interface ReplayBenchOptions {
  /** @default 872 (SST-2's development set) */
  readonly rows?: number;
  /** @default 12 */
  readonly layers?: number;
  /** Values of each strategy's knob. @default 100 */
  readonly values?: number;
  /** Timed rounds per strategy and path; the median counts. @default 5 */
  readonly rounds?: number;
  /** Least time of a round. @default 300 */
  readonly milliseconds?: number;
  /** @default 42 */
  readonly seed?: number;
}

export interface ReplaySpeed {
  readonly strategy: string;
  /** Knob values that were replayed. */
  readonly values: number;
  readonly meanExitLayers: readonly [least: number, most: number];
  /** Points per second through `decide`. */
  readonly decide: number;
  /** Points per second by the sorted path; null for a rule with state, which has none. */
  readonly sorted: number | null;
  /** Whether both paths gave the same exits and answers at every value. */
  readonly isEqual: boolean;
}

export interface ReplayBar {
  readonly name: string;
  readonly isMet: boolean;
}

export interface ReplayBenchResult {
  readonly settings: Readonly<
    Record<"rows" | "layers" | "values" | "rounds" | "milliseconds" | "seed", number>
  >;
  readonly speeds: readonly ReplaySpeed[];
  readonly bars: readonly ReplayBar[];
}

/** What the project asks for, on one core. */
const BARS = { decide: 3000, sorted: 10_000 };

const strategies: readonly ExitStrategy[] = [entropy(), rightTool(), pcee(), patience()];

/** Times of both paths take turns, so that neither has the machine for itself. @throws BenchError `STOPPED` */
export async function runReplayBench(
  options: ReplayBenchOptions,
  hooks: RunHooks,
): Promise<ReplayBenchResult> {
  const {
    rows = 872,
    layers = 12,
    values = 100,
    rounds = 5,
    milliseconds = 300,
    seed = 42,
  } = options;
  hooks.progress.print(`Record: ${rows} rows x ${layers} layers`);
  // Only what is observed is computed with it, before any time is taken.
  await useBackend("cpu");
  hooks.progress.plan(strategies.length * (rounds + 1));
  const logits = madeUpLogits(rows, layers, seed);
  const speeds: ReplaySpeed[] = [];
  for (const strategy of strategies) {
    const model = fixedExits(logits);
    const runner = await model.open(toObserver(strategy, {}));
    const made = await record(runner, [logits.map((_, row) => row)], {
      ids: logits.map((_, row) => String(row)),
      labels: new Float32Array(rows),
    });
    await runner.dispose();
    const speed = await measure(made, strategy, { values, rounds, milliseconds, ...hooks });
    speeds.push(speed);
    hooks.progress.print(`${speed.strategy}: ${Math.round(speed.decide)} points/s through decide`);
  }
  const settings = { rows, layers, values, rounds, milliseconds, seed };
  return { settings, speeds, bars: barsOf(speeds) };
}

/** The result in words. */
export function describeReplayBench({ settings, speeds, bars }: ReplayBenchResult): string {
  const { rows, layers, values, rounds, milliseconds } = settings;
  return `Replay of ${rows} rows x ${layers} layers, ${values} knob values per strategy, one thread; ${rounds} interleaved rounds of ${milliseconds} ms, medians.

${toText(tableOf(speeds))}
${bars.map(({ name, isMet }) => `${isMet ? "met" : "NOT MET"}  ${name}\n`).join("")}`;
}

async function measure(
  made: ExitRecord,
  strategy: ExitStrategy,
  {
    values,
    rounds,
    milliseconds,
    progress,
    signal,
  }: Required<Pick<ReplayBenchOptions, "values" | "rounds" | "milliseconds">> & RunHooks,
): Promise<ReplaySpeed> {
  const { knob } = strategy.definition;
  if (!knob) throw new Error(`internal: ${strategy.name} has no knob`);
  const { chosen, means } = spreadValues(made, strategy, values);
  const configured = chosen.map((value) => withOptions(strategy, { [knob.option]: value }));
  const hasSorted = knob.isMonotone === true;
  const bySorted = replaySweep(made, strategy, chosen);
  const byDecide = replayAll(made, configured);
  const isEqual = byDecide.every((outcome, at) => {
    const other = bySorted[at];
    return (
      other !== undefined &&
      isSame(outcome.exitLayers, other.exitLayers) &&
      isSame(outcome.predictions, other.predictions) &&
      isSame(outcome.logits, other.logits) &&
      outcome.nonFinite === other.nonFinite
    );
  });
  const decide: number[] = [];
  const sorted: number[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    await pauseForStop(signal);
    progress.update(strategy.name, 1);
    const first = perSecond(() => replayAll(made, configured), chosen.length, milliseconds);
    const second = hasSorted
      ? perSecond(() => replaySweep(made, strategy, chosen), chosen.length, milliseconds)
      : 0;
    // The first round is for the compiler.
    if (round === 0) continue;
    decide.push(first);
    sorted.push(second);
  }
  return {
    strategy: strategy.name,
    values: chosen.length,
    meanExitLayers: [Math.min(...means), Math.max(...means)],
    decide: median(decide),
    sorted: hasSorted ? median(sorted) : null,
    isEqual,
  };
}

function perSecond(run: () => unknown, points: number, milliseconds: number): number {
  const started = performance.now();
  let done = 0;
  let elapsed = 0;
  while (elapsed < milliseconds) {
    run();
    done += points;
    elapsed = performance.now() - started;
  }
  return (1000 * done) / elapsed;
}

/**
 * Values of the knob whose mean exits spread evenly over 2..T-1: quantiles of what was observed, or the whole numbers of
 * a knob that counts, repeated in turn.
 */
function spreadValues(
  made: ExitRecord,
  strategy: ExitStrategy,
  count: number,
): { readonly chosen: number[]; readonly means: number[] } {
  const { option, grid } = strategy.definition.knob as { option: string; grid: readonly number[] };
  const { depth } = made.shape;
  const candidates = grid.every(Number.isInteger)
    ? Array.from({ length: depth - 1 }, (_, index) => index + 1)
    : observedQuantiles(made, 2000);
  const outcomes = replayAll(
    made,
    candidates.map((value) => withOptions(strategy, { [option]: value })),
  );
  const usable = outcomes
    .map(({ exitLayers }, at) => ({ value: candidates[at] as number, mean: meanOf(exitLayers) }))
    .filter(({ mean }) => mean >= 2 && mean <= depth - 1)
    .sort((a, b) => a.mean - b.mean);
  if (usable.length === 0) throw new Error(`internal: no value of ${option} exits in between`);
  if (grid.every(Number.isInteger)) {
    const picks = Array.from({ length: count }, (_, at) => usable[at % usable.length]);
    return split(picks as { value: number; mean: number }[]);
  }
  const [low, high] = [usable[0]?.mean as number, usable.at(-1)?.mean as number];
  const picks = Array.from({ length: count }, (_, at) => {
    const wanted = low + ((high - low) * at) / Math.max(1, count - 1);
    return usable.reduce((best, one) =>
      Math.abs(one.mean - wanted) < Math.abs(best.mean - wanted) ? one : best,
    );
  });
  return split(picks);
}

function split(picks: readonly { readonly value: number; readonly mean: number }[]) {
  return { chosen: picks.map(({ value }) => value), means: picks.map(({ mean }) => mean) };
}

/** Of the one number that is observed, or of the highest probability where the rule reads them all. */
function observedQuantiles({ observed, observedWidth, logits, shape }: ExitRecord, count: number) {
  const seen =
    observedWidth === 1
      ? Float64Array.from(observed)
      : Float64Array.from({ length: logits.length / shape.classes }, (_, cell) => {
          const row = logits.subarray(cell * shape.classes, (cell + 1) * shape.classes);
          const top = Math.max(...row);
          return 1 / row.reduce((sum, value) => sum + Math.exp(value - top), 0);
        });
  seen.sort();
  return Array.from({ length: count }, (_, at) => quantile(seen, (at + 1) / (count + 1)));
}

/** Two classes whose margin grows with depth, faster for easier rows, with noise in between, shape `[N][T][C]`. */
function madeUpLogits(rows: number, layers: number, seed: number): number[][][] {
  const rng = createRng(seed).fork("replay-bench");
  return Array.from({ length: rows }, () => {
    const ease = 0.2 + 2 * rng.next();
    const sign = rng.next() < 0.5 ? -1 : 1;
    return Array.from({ length: layers }, (_, index) => {
      const margin = sign * ease * ((index + 1) / layers) * 3 + 1.2 * rng.normal();
      return [-margin / 2, margin / 2];
    });
  });
}

function barsOf(speeds: readonly ReplaySpeed[]): ReplayBar[] {
  const whole = (value: number) => Math.round(value).toLocaleString("en");
  const decide = overall(speeds, ({ decide: speed }) => speed);
  const sorted = overall(speeds, ({ sorted: speed }) => speed);
  return [
    {
      name: `at least ${whole(BARS.decide)} points/s through decide, all strategies in turn: ${whole(decide)}`,
      isMet: decide >= BARS.decide,
    },
    {
      name: `at least ${whole(BARS.sorted)} points/s by the sorted path, all rules without state in turn: ${whole(sorted)}`,
      isMet: sorted >= BARS.sorted,
    },
    {
      name: "both paths give the same exits and answers",
      isMet: speeds.every(({ isEqual }) => isEqual),
    },
  ];
}

/** All points by all time, each strategy with as many points. */
function overall(
  speeds: readonly ReplaySpeed[],
  of: (speed: ReplaySpeed) => number | null,
): number {
  const known = speeds.map(of).filter((speed) => speed !== null);
  return known.length / known.reduce((sum, speed) => sum + 1 / speed, 0);
}

function tableOf(speeds: readonly ReplaySpeed[]): Table {
  const whole = (value: number) => Math.round(value).toLocaleString("en");
  return {
    columns: [
      { title: "strategy", align: "left" },
      { title: "values" },
      { title: "mean exits" },
      { title: "decide, points/s" },
      { title: "sorted, points/s" },
      { title: "ratio" },
    ],
    rows: speeds.map(({ strategy, values, meanExitLayers, decide, sorted }) => ({
      cells: [
        strategy,
        String(values),
        meanExitLayers.map((mean) => mean.toFixed(1)).join(" to "),
        whole(decide),
        sorted === null ? "has state" : whole(sorted),
        sorted === null ? "" : (sorted / decide).toFixed(1),
      ].map((text) => ({ text })),
    })),
  };
}

function meanOf(values: Int32Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function isSame(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index += 1)
    if (!Object.is(a[index], b[index])) return false;
  return true;
}

/**
 * @file Times candidates in interleaved rounds, and compares them round by round.
 *
 * R = rounds.
 */
import type { Rng } from "@cee/engine";
import { checkStop, pauseForStop } from "../glue/stop.js";
import { type Resampled, resampleAll, type WeightedStatistic } from "../metrics/resample.js";
import { quantile } from "../metrics/statistics.js";

export interface Candidate {
  readonly name: string;
  /** Runs once; may give the time itself where the clock is elsewhere, in milliseconds. */
  run(): Promise<number | undefined>;
}

/** Milliseconds per round by candidate, each of shape `[R]`. */
export type Rounds = ReadonlyMap<string, readonly number[]>;

/** Rounds that are run and not counted, unless said otherwise. */
export const WARM_UP = 3;

export interface RoundOptions {
  readonly rounds: number;
  /** Rounds that are run and not counted. @default {@link WARM_UP} */
  readonly warmUp?: number;
  readonly rng: Rng;
  readonly signal?: AbortSignal | undefined;
  /** Before each round, warm-ups included. */
  readonly onRound?: () => void;
}

/** Calls of a candidate in a round, by what one call takes: of short ones, more are needed to find a quiet moment. */
const CALLS: readonly (readonly [under: number, calls: number])[] = [
  [5, 5],
  [20, 3],
  [1000, 2],
];

/**
 * Every round runs every candidate, in an order drawn anew, so that a busy moment falls on all of them. Calls shorter than
 * a second are made several times, the same number for all, and the best of them is the round's: what a machine does besides
 * only ever makes a call longer.
 */
export async function interleave(
  candidates: readonly Candidate[],
  { rounds, warmUp = WARM_UP, rng, signal, onRound }: RoundOptions,
): Promise<Rounds> {
  const times = new Map(candidates.map(({ name }) => [name, [] as number[]]));
  const fastest = new Map(candidates.map(({ name }) => [name, Number.POSITIVE_INFINITY]));
  let calls = 1;
  for (let round = -warmUp; round < rounds; round += 1) {
    onRound?.();
    await pauseForStop(signal);
    for (const candidate of rng.shuffle([...candidates])) {
      let best = Number.POSITIVE_INFINITY;
      for (let call = 0; call < calls; call += 1) {
        checkStop(signal);
        const start = performance.now();
        const own = await candidate.run();
        best = Math.min(best, own ?? performance.now() - start);
      }
      if (round >= 0) times.get(candidate.name)?.push(best);
      fastest.set(candidate.name, Math.min(best, fastest.get(candidate.name) as number));
    }
    if (round === -1) {
      const slowest = Math.max(...fastest.values());
      calls = CALLS.find(([under]) => slowest < under)?.[1] ?? 1;
    }
  }
  return times;
}

export interface RatioInterval {
  readonly estimate: number;
  /** Of the 95 % percentile interval of a paired bootstrap over rounds. */
  readonly low: number;
  readonly high: number;
}

/** How many times as long as `second` `first` takes, by medians over rounds. */
export function ratioOf(
  first: readonly number[],
  second: readonly number[],
  seed: number,
): RatioInterval {
  const statistics = [first, second].map((values) => weightedQuantile(values, 0.5));
  const [a, b] = resampleAll(first.length, statistics, { seed }) as [Resampled, Resampled];
  const ratios = a.values.map((value, sample) => value / (b.values[sample] as number)).sort();
  return {
    estimate: a.estimate / b.estimate,
    low: quantile(ratios, 0.025),
    high: quantile(ratios, 0.975),
  };
}

/** The value below which a share of the values lies, each as often as its weight says. */
export function weightedQuantile(values: readonly number[], share: number): WeightedStatistic {
  const order = values.map((_, index) => index);
  order.sort((a, b) => (values[a] as number) - (values[b] as number));
  return (weights) => {
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const at = share * (total - 1);
    // The two neighbours of the place, which are one where it is whole.
    const places = [Math.floor(at), Math.ceil(at)] as const;
    const found = [0, 0];
    let before = 0;
    for (const index of order) {
      const next = before + (weights[index] as number);
      places.forEach((place, which) => {
        if (place >= before && place < next) found[which] = values[index] as number;
      });
      before = next;
    }
    const [low, high] = found as [number, number];
    return low + (at - places[0]) * (high - low);
  };
}

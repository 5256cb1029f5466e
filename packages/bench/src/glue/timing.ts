/** @file Wall-clock time at batch 1 against full depth, in interleaved rounds of one run. */
import { type TrainingRow, toBatch } from "@cee/backbone";
import type { TimedModel } from "../methods/method.js";
import { median } from "../metrics/statistics.js";
import { checkStop } from "./stop.js";

export interface TimingOptions {
  readonly rows: readonly TrainingRow[];
  readonly padId: number;
  /** @default 5 */
  readonly rounds?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Timing {
  /** Median over rounds of (time of all rows), in milliseconds per row. */
  readonly millisecondsPerRow: readonly number[];
  readonly fullMillisecondsPerRow: number;
  /** 1 - time / full-depth time per model, from the medians. */
  readonly savedRuntime: readonly number[];
  /** The least and the most that single rounds saved, each against full depth in the same round. */
  readonly savedRuntimeRange: readonly (readonly [least: number, most: number])[];
}

/** Times every model and the full-depth one over the same rows, row by row, in turn. */
export async function timeModels(
  full: TimedModel,
  models: readonly TimedModel[],
  { rows, padId, rounds = 5, signal }: TimingOptions,
): Promise<Timing> {
  const batches = rows.map((row) => toBatch([row], { padId }));
  const all = [full, ...models];
  const totals = all.map(() => [] as number[]);
  // The first round warms every session and every shape up; it is not counted.
  for (let round = 0; round <= rounds; round += 1) {
    const sums = all.map(() => 0);
    for (const batch of batches) {
      checkStop(signal);
      for (let turn = 0; turn < all.length; turn += 1) {
        // Another model goes first each round, so that none always runs on a cache its neighbour left.
        const index = (turn + round) % all.length;
        const start = performance.now();
        await (all[index] as TimedModel).answer(batch);
        sums[index] = (sums[index] as number) + performance.now() - start;
      }
    }
    if (round > 0) for (const [index, sum] of sums.entries()) totals[index]?.push(sum);
  }
  const [fullTime, ...times] = totals.map(median);
  const [fullTotals, ...ownTotals] = totals;
  return {
    millisecondsPerRow: times.map((time) => time / rows.length),
    fullMillisecondsPerRow: (fullTime as number) / rows.length,
    savedRuntime: times.map((time) => 1 - time / (fullTime as number)),
    savedRuntimeRange: ownTotals.map((own) => {
      const saved = own.map((time, round) => 1 - time / (fullTotals?.[round] as number));
      return [Math.min(...saved), Math.max(...saved)];
    }),
  };
}

/**
 * @file The exit that a policy with hindsight would take: an upper bound, not a method.
 *
 * N = rows, L = depth.
 */
import type { ExitRecord } from "@cee/exit-policies";
import { type RewardOptions, recordedRewards, rowRewards } from "./reward.js";

/** Layer with the highest reward; the lowest such layer where several tie. */
export function oracleExit(rewards: ArrayLike<number>): number {
  let best = 0;
  for (let index = 1; index < rewards.length; index += 1)
    if ((rewards[index] as number) > (rewards[best] as number)) best = index;
  return best + 1;
}

/** Oracle exit layer of every row of a record, shape `[N]`. */
export function oracleExits(record: ExitRecord, options: RewardOptions): Int32Array {
  const { depth, losses, prices } = recordedRewards(record, options);
  return Int32Array.from(prices, (price, row) =>
    oracleExit(rowRewards(losses.subarray(row * depth, (row + 1) * depth), price)),
  );
}

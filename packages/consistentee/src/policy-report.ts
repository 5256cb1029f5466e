/**
 * @file How good the policy is on a record: under the rule of inference, and as the random policy that was optimised.
 *
 * N = rows, L = depth.
 */
import type { ExitRecord } from "@cee/exit-policies";
import { ConsistentEEError } from "./errors.js";
import { oracleExit } from "./oracle.js";
import { type RewardOptions, recordedRewards, rowRewards } from "./reward.js";

export interface PolicyReport {
  /** Mean reward when a row exits at p > 0.5; what convergence is judged by. */
  readonly objective: number;
  /** Mean reward when a row exits with probability p, which is what training maximises. */
  readonly expectedObjective: number;
  /** `expectedObjective - objective`: what the rule of inference loses. */
  readonly gap: number;
  /** Mean reward with hindsight: no policy can be better. */
  readonly oracleObjective: number;
  readonly meanExitLayer: number;
  readonly expectedExitLayer: number;
  readonly oracleExitLayer: number;
}

/**
 * Evaluates the policy logits that a record holds as its observations.
 *
 * The price of a layer comes from the memorized layers of this record, so it moves with the heads from round to round.
 * @throws ConsistentEEError `MISSING_LABEL`, `BAD_RECORD` when the record was not made with this strategy or is empty.
 */
export function policyReport(record: ExitRecord, options: RewardOptions): PolicyReport {
  const { rows, depth, losses, prices } = recordedRewards(record, options);
  if (rows === 0 || record.observedWidth !== 1 || record.observed.length !== rows * depth)
    throw new ConsistentEEError(
      "BAD_RECORD",
      "policyReport",
      `needs at least one row with one policy logit per exit, got ${rows} rows with ${record.observedWidth} numbers per exit. Record with the consistentee strategy.`,
    );
  const sums = {
    objective: 0,
    expectedObjective: 0,
    oracleObjective: 0,
    meanExitLayer: 0,
    expectedExitLayer: 0,
    oracleExitLayer: 0,
  };
  for (let row = 0; row < rows; row += 1) {
    const cells = [row * depth, (row + 1) * depth] as const;
    const reward = rowRewards(losses.subarray(...cells), prices[row] as number);
    const logits = record.observed.subarray(...cells);
    const exit = greedyExit(logits);
    const oracle = oracleExit(reward);
    sums.objective += reward[exit - 1] as number;
    sums.meanExitLayer += exit;
    sums.oracleObjective += reward[oracle - 1] as number;
    sums.oracleExitLayer += oracle;
    exitProbabilities(logits).forEach((probability, index) => {
      sums.expectedObjective += probability * (reward[index] as number);
      sums.expectedExitLayer += probability * (index + 1);
    });
  }
  const mean = (sum: number) => sum / rows;
  return {
    objective: mean(sums.objective),
    expectedObjective: mean(sums.expectedObjective),
    gap: mean(sums.expectedObjective - sums.objective),
    oracleObjective: mean(sums.oracleObjective),
    meanExitLayer: mean(sums.meanExitLayer),
    expectedExitLayer: mean(sums.expectedExitLayer),
    oracleExitLayer: mean(sums.oracleExitLayer),
  };
}

/** First layer whose logit is above 0; the last where none is. */
export function greedyExit(logits: ArrayLike<number>): number {
  const depth = logits.length;
  let layer = 1;
  while (layer < depth && !((logits[layer - 1] as number) > 0)) layer += 1;
  return layer;
}

/** Probability of exiting at each layer, first layer first; the last logit is not read. */
export function exitProbabilities(logits: ArrayLike<number>): Float64Array {
  let reach = 1;
  return Float64Array.from(logits, (logit, index) => {
    if (index === logits.length - 1) return reach;
    const probability = reach / (1 + Math.exp(-logit));
    reach /= 1 + Math.exp(logit);
    return probability;
  });
}

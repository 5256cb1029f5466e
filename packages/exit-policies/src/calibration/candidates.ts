/** @file The knob values that a selection may choose from, slowest first. */
import { ExitStrategyError } from "../errors.js";
import type { ExitOutcome } from "../outcome.js";
import type { ExitRecord } from "../record.js";
import { replay, replaySweep } from "../replay.js";
import type { ExitStrategy } from "../strategy.js";

export interface Candidate extends ExitOutcome {
  /** Value of the knob; `undefined` for a strategy without one, which is taken as it is. */
  readonly value: number | undefined;
}

/** @throws ExitStrategyError `INVALID_OPTIONS` when the grid is not a list of numbers, and what replaying throws */
export function candidatesOf(
  record: ExitRecord,
  strategy: ExitStrategy,
  grid: readonly number[] | undefined,
): readonly Candidate[] {
  const { knob } = strategy.definition;
  if (!knob) return [{ value: undefined, ...replay(record, strategy) }];
  const values = grid ?? knob.grid;
  if (values.length === 0 || !values.every(Number.isFinite))
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      "selectThreshold",
      `grid must list finite values of "${knob.option}", got ${JSON.stringify(values)}. Leave it out for the strategy's own.`,
    );
  const sign = knob.direction === "higher-is-faster" ? 1 : -1;
  const ordered = [...new Set(values)].sort((a, b) => sign * (a - b));
  return replaySweep(record, strategy, ordered);
}

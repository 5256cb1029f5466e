/** @file Exit layers as cost, under names that cannot be mistaken for one another. N = rows, T = layers. */
import { ExitStrategyError } from "./errors.js";

export interface CostSummary {
  readonly rows: number;
  readonly depth: number;
  /** NaN without rows, like everything derived from it. */
  readonly meanExitLayer: number;
  /** `1 - meanExitLayer / depth`; papers print it as "Speed Up" or "saving". */
  readonly savedLayers: number;
  /** `depth / meanExitLayer` */
  readonly speedup: number;
  /** Rows that left at layer 1, …, at layer `depth`, shape `[T]`. */
  readonly histogram: readonly number[];
}

/** @throws ExitStrategyError `BAD_RECORD` when a layer lies outside 1..depth */
export function summarise(exitLayers: ArrayLike<number>, depth: number): CostSummary {
  const histogram = new Array<number>(depth).fill(0);
  let total = 0;
  for (let index = 0; index < exitLayers.length; index += 1) {
    const layer = exitLayers[index] as number;
    if (!Number.isInteger(layer) || layer < 1 || layer > depth)
      throw new ExitStrategyError(
        "BAD_RECORD",
        "summarise",
        `exit layers must lie in 1..${depth}, got ${layer} for row ${index}. Pass the model's depth.`,
      );
    histogram[layer - 1] = (histogram[layer - 1] as number) + 1;
    total += layer;
  }
  const rows = exitLayers.length;
  const meanExitLayer = total / rows;
  return {
    rows,
    depth,
    meanExitLayer,
    savedLayers: 1 - meanExitLayer / depth,
    speedup: depth / meanExitLayer,
    histogram,
  };
}

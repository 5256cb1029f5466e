/** @file Measures what this machine takes for single requests, per layer and length. T = layers, R = rounds. */
import { type TokenBatch, toBatch } from "@cee/backbone";
import type { CostModel, ExitRunner } from "@cee/exit-policies";
import type { PreparedRow } from "./requests.js";

export interface MeasureOptions {
  readonly padId: number;
  /** Measured rounds per length, after two for warming up. */
  readonly rounds: number;
  /** Milliseconds that every request takes besides, such as waiting for company. */
  readonly extra: number;
  /** Turns a row's text into tokens again, so that tokenising is measured too. */
  readonly prepare: (row: number) => unknown;
}

const WARM_UP = 2;

/**
 * Groups the rows by length (to 16, 32, 64, … tokens), takes the longest of each group for the group, and times its way
 * through the layers alone, each with its head and what the strategy observes. Rounds go through all lengths in turn, so
 * that a busy moment falls on all of them.
 */
export async function measureCosts(
  runner: ExitRunner<TokenBatch>,
  rows: readonly PreparedRow[],
  { padId, rounds, extra, prepare }: MeasureOptions,
): Promise<CostModel> {
  const longest = new Map<number, number>();
  rows.forEach((row, index) => {
    const group = groupOf(row.ids.length);
    const other = longest.get(group);
    if (other === undefined || (rows[other] as PreparedRow).ids.length < row.ids.length)
      longest.set(group, index);
  });
  const lengths = [...longest]
    .sort(([a], [b]) => a - b)
    .map(([, index]) => ({
      index,
      length: (rows[index] as PreparedRow).ids.length,
      batch: toBatch([rows[index] as PreparedRow], { padId }),
      untilLayer: [] as number[][],
    }));
  for (let round = 0; round < WARM_UP + rounds; round += 1)
    for (const { index, batch, untilLayer } of lengths) {
      const start = performance.now();
      prepare(index);
      const pass = await runner.begin(batch);
      const times: number[] = [];
      try {
        for (let layer = 1; layer <= runner.shape.depth; layer += 1) {
          await pass.advance();
          times.push(performance.now() - start + extra);
        }
      } finally {
        pass.dispose();
      }
      if (round >= WARM_UP) untilLayer.push(times);
    }
  return { lengths: lengths.map(({ length, untilLayer }) => ({ length, untilLayer })) };
}

function groupOf(length: number): number {
  return Math.max(4, Math.ceil(Math.log2(length)));
}

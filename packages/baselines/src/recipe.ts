/** @file What a recipe is, and the training settings that every recipe takes as options. */
import type { AnyExitStrategyFactory, ExitHead } from "@cee/exit-policies";
import * as v from "valibot";

/** A published method: its exit rule with its training plan, and the exit head that both are made for. */
export interface Recipe<TFactory extends AnyExitStrategyFactory> {
  readonly strategy: TFactory;
  readonly head: ExitHead;
}

const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const positive = v.pipe(v.number(), v.finite(), v.gtValue(0));
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));

/** One training phase's settings. */
export interface PhaseSettings {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Share of the steps with linear warm-up. */
  readonly warmup: number;
}

/** Settings of a phase, each the published value (for BERT-base) unless given. */
export function phaseSettings({ epochs, batchSize, learningRate, warmup }: PhaseSettings) {
  return v.optional(
    v.strictObject({
      epochs: v.optional(count, epochs),
      batchSize: v.optional(count, batchSize),
      learningRate: v.optional(positive, learningRate),
      warmup: v.optional(share, warmup),
    }),
    {},
  );
}

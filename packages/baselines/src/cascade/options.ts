/** @file Options of the two-model cascade. */
import * as v from "valibot";
import { phaseSettings } from "../recipe.js";

const published = { epochs: 5, batchSize: 16, learningRate: 2e-5, warmup: 0 };
const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const notNegative = v.pipe(v.number(), v.finite(), v.minValue(0));

export const cascadeSchema = v.strictObject({
  /**
   * The small model's answer stands where its highest probability is strictly above this (tau in the paper); lower is faster.
   * @default 0.8
   */
  threshold: v.optional(v.pipe(v.number(), v.finite()), 0.8),
  /** Layers of the small model. @default 2 */
  depth: v.optional(count, 2),
  /** By how much confidence on an easy row should exceed that on a hard one. @default 0.5 */
  margin: v.optional(notNegative, 0.5),
  /** Weight of the margin loss. @default 0.5 */
  weight: v.optional(notNegative, 0.5),
  /** Small models whose mistakes say what is hard. @default 5 */
  seeds: v.optional(count, 5),
  /** Training of each of them. */
  difficulty: phaseSettings(published),
  /** Training of the small model. */
  small: phaseSettings(published),
});

export type CascadeInput = v.InferInput<typeof cascadeSchema>;
export type CascadeOptions = v.InferOutput<typeof cascadeSchema>;

/** Fills in the published values. @throws ValiError naming the option */
export function cascadeOptions(input: CascadeInput = {}): CascadeOptions {
  return v.parse(cascadeSchema, input);
}

/** Thresholds that trace the curve: the published ones, and the rest of what a probability can be. */
export const cascadeThresholds = [
  0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1,
] as const;

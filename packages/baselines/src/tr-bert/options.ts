/** @file Options of TR-BERT. */
import * as v from "valibot";
import { phaseSettings } from "../recipe.js";

const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1));

export const trBertSchema = v.strictObject({
  /**
   * Price of keeping all tokens, in units of the loss; higher keeps fewer, and needs training anew. Published values are
   * per data set, from 0.01 to 5.
   * @default 1
   */
  alpha: v.optional(v.pipe(v.number(), v.finite(), v.minValue(0)), 1),
  /** `K`, sampled copies of a row; their mean reward is the baseline. @default 8 */
  copies: v.optional(v.pipe(v.number(), v.integer(), v.minValue(2)), 8),
  /** Width of a selector's inner layer. @default 32 */
  width: v.optional(count, 32),
  /** Share of the policy phase's steps in which the first copy follows the gradient heuristic. @default 0.5 */
  guideRate: v.optional(share, 0.5),
  /** Of the distillation's softmax. @default 1 */
  temperature: v.optional(v.pipe(v.number(), v.finite(), v.gtValue(0)), 1),
  /** Leaves the fine-tuning out, because the model has had it. @default false */
  initialised: v.optional(v.boolean(), false),
  /** Everything on the task's loss, no token dropped: the teacher. */
  fineTune: phaseSettings({ epochs: 5, batchSize: 32, learningRate: 3e-5, warmup: 0.1 }),
  /** Selectors alone. */
  policy: phaseSettings({ epochs: 3, batchSize: 32, learningRate: 3e-5, warmup: 0.1 }),
  /** Everything, on the teacher's answers. */
  joint: phaseSettings({ epochs: 3, batchSize: 32, learningRate: 3e-5, warmup: 0.1 }),
});

export type TrBertInput = v.InferInput<typeof trBertSchema>;
export type TrBertOptions = v.InferOutput<typeof trBertSchema>;

/** Fills in the published values. @throws ValiError naming the option */
export function trBertOptions(input: TrBertInput = {}): TrBertOptions {
  return v.parse(trBertSchema, input);
}

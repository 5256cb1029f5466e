/** @file Options of HashEE. */
import * as v from "valibot";
import { phaseSettings } from "../recipe.js";

const count = v.pipe(v.number(), v.integer(), v.minValue(1));

export const hashEeSchema = v.pipe(
  v.strictObject({
    /** How tokens are put into buckets. @default "frequency" */
    map: v.optional(v.picklist(["frequency", "random", "clustered"]), "frequency"),
    /** One more than the model's last layer: 7 for a model of six layers; lower is faster, and needs training anew. @default 7 */
    maxLayer: v.optional(v.pipe(v.number(), v.integer(), v.minValue(2)), 7),
    /** Buckets of tokens, each leaving at a layer of its own; more leave later. @default 6 */
    buckets: v.optional(count, 6),
    // Deviates from the released code: its optimiser ignores the weight-decay groups that it builds; there is none here either.
    /** The one training phase. */
    training: phaseSettings({ epochs: 4, batchSize: 32, learningRate: 5e-5, warmup: 0.1 }),
  }),
  v.check(
    ({ maxLayer, buckets }) => buckets < maxLayer,
    "buckets must be fewer than maxLayer: each leaves at a layer of its own",
  ),
);

export type HashEeInput = v.InferInput<typeof hashEeSchema>;
export type HashEeOptions = v.InferOutput<typeof hashEeSchema>;

/** Fills in the published values. @throws ValiError naming the option */
export function hashEeOptions(input: HashEeInput = {}): HashEeOptions {
  return v.parse(hashEeSchema, input);
}

/**
 * @file CALM: exit when a measure of confidence reaches a threshold that falls with the position in the text. B = live
 * rows, H = hidden size, V = vocabulary.
 * @see Schuster et al. 2022, sections 3.4 and 3.5
 */
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { defineExitStrategy } from "../define.js";

const finite = v.pipe(v.number(), v.finite());

const shared = {
  /**
   * `lambda` in the paper; a token leaves where its confidence is at least this. Lower exits earlier.
   * @default 0.9
   */
  threshold: v.optional(finite, 0.9),
  /**
   * How fast the threshold falls along the text, `tau` in the paper; `none` keeps it constant.
   * @default "paper"
   */
  decay: v.optional(v.picklist(["paper", "code", "none"]), "paper"),
  /** @default 4 */
  temperature: v.optional(v.pipe(finite, v.minValue(0)), 4),
  /** `N` in the paper: the longest text that is generated. @default 128 */
  maxLength: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 128),
  /** No token leaves before this layer. @default 1 */
  minLayer: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 1),
};

interface Decay {
  readonly threshold: number;
  readonly decay: "paper" | "code" | "none";
  readonly temperature: number;
  readonly maxLength: number;
}

/**
 * The threshold at a position of the generated text, from 0. The paper's `clip(0.9 lambda + 0.1 exp(-tau t / N))`; the
 * released code also multiplies the falling part by lambda.
 */
export function calmThreshold(
  { threshold, decay, temperature, maxLength }: Decay,
  position: number,
): number {
  if (decay === "none") return threshold;
  const falling = 0.1 * Math.exp((-temperature * position) / maxLength);
  if (decay === "code") return 0.9 * threshold + threshold * falling;
  return Math.min(1, Math.max(0, 0.9 * threshold + falling));
}

const knob = {
  option: "threshold",
  grid: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1],
  direction: "lower-is-faster",
} as const;

type Options = Decay & { readonly minLayer: number };
type Context = {
  readonly site: { readonly layer: number; readonly position: number };
  readonly options: Options;
};

// Not strict: a token leaves at equality. NaN never does.
function isConfident(confidence: number | undefined, { site, options }: Context): boolean {
  return (
    site.layer >= options.minLayer &&
    (confidence as number) >= Math.fround(calmThreshold(options, site.position))
  );
}

/** Softmax response: how far the likeliest token's probability is above the second's. One projection per layer. */
export const calm = defineExitStrategy({
  name: "calm",
  options: v.strictObject(shared),
  needs: ["probs"],
  tasks: ["classification", "generation"],
  knob,
  observe: ({ probs }) => topTwoDifference(probs),
  start: () => ({}),
  decide: ([confidence], state, context) => ({
    exit: isConfident(confidence, context as Context),
    state,
  }),
});

/** State saturation: the cosine between a token's states at this exit and at the one before; the first never exits. */
export const calmState = defineExitStrategy({
  name: "calm-state",
  options: v.strictObject({
    ...shared,
    /**
     * States behind the final norm, as the ConsistentEE authors' re-implementation compares them.
     * Deviates from the paper: it compares the raw states, which is the default.
     * @default false
     */
    normed: v.optional(v.boolean(), false),
  }),
  needs: ["hidden", "pooled"],
  tasks: ["classification", "generation"],
  knob: { ...knob, grid: [0.5, 0.7, 0.8, 0.9, 0.95, 0.975, 0.98, 0.99, 0.995, 0.999, 1] },
  observe({ hidden, pooled }, { carry, options }) {
    const now = options.normed ? pooled : hidden;
    // Below any threshold where there is no state to compare with, so that a threshold of 0 does not exit there.
    const values =
      carry === undefined
        ? (tf.sub(tf.mul(tf.sum(now, 1), 0), 2) as tf.Tensor1D)
        : cosine(now, carry as tf.Tensor2D);
    return { values, carry: now };
  },
  start: () => ({}),
  decide: ([confidence], state, context) => ({
    exit: isConfident(confidence, context as Context),
    state,
  }),
});

/** Early-exit classifier: a linear module, shared by all layers, gives the probability that the answer stays the same. */
export const calmMeta = defineExitStrategy({
  name: "calm-meta",
  options: v.strictObject(shared),
  needs: ["hidden"],
  tasks: ["classification", "generation"],
  knob,
  observe: ({ hidden }, { params }) => {
    const { weight, bias } = params as Readonly<Record<"weight" | "bias", tf.Tensor2D>>;
    return tf.squeeze<tf.Tensor1D>(
      tf.sigmoid(tf.add(tf.matMul(hidden, weight, false, true), bias)),
      [1],
    );
  },
  start: () => ({}),
  decide: ([confidence], state, context) => ({
    exit: isConfident(confidence, context as Context),
    state,
  }),
  // Two outputs and a softmax in the released code; one and a sigmoid give the same probability.
  params: ({ hidden }) => ({
    weight: { dtype: "float32", shape: [1, hidden], data: new Float32Array(hidden) },
    bias: { dtype: "float32", shape: [1], data: new Float32Array(1) },
  }),
});

/** Highest minus second highest entry of each row, `[B]`. */
export function topTwoDifference(probs: tf.Tensor2D): tf.Tensor1D {
  const highest = tf.max(probs, 1, true); // [B, 1]
  const isHighest = tf.cast(tf.greaterEqual(probs, highest), "float32");
  // Two entries level at the top leave no difference.
  const count = tf.sum(isHighest, 1); // [B]
  const second = tf.max(tf.sub(probs, tf.mul(isHighest, 2)), 1);
  const difference = tf.sub(tf.squeeze(highest, [1]), second);
  return tf.mul(difference, tf.cast(tf.less(count, 1.5), "float32")) as tf.Tensor1D;
}

function cosine(a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor1D {
  const lengths = tf.mul(tf.sum(tf.square(a), 1), tf.sum(tf.square(b), 1));
  // A zero state has no direction: cosine 0.
  return tf.div(tf.sum(tf.mul(a, b), 1), tf.sqrt(tf.maximum(lengths, 1e-24))) as tf.Tensor1D;
}

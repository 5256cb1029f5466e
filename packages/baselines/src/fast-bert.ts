/**
 * @file FastBERT: the last classifier is trained with the encoder and then teaches those below it ("self-distillation"),
 * on the frozen encoder; exit when the normalised entropy of the answer is at most the "speed".
 *
 * Shapes: B = rows, S = sequence, H = hidden size, D = width of the student, N = attention heads, C = classes.
 * @see Liu et al. 2020, section 3
 */
import { createRng } from "@cee/engine";
import {
  defineExitStrategy,
  type ExitHead,
  type ModelShape,
  type PhasePlan,
  fastBert as rule,
  type TrainingStep,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import * as v from "valibot";
import { dense, denseParams } from "./dense.js";
import { detached } from "./detached.js";
import { layers, logitsAt } from "./losses.js";
import { exitsPhase, finalPhase } from "./phases.js";
import { phaseSettings, type Recipe } from "./recipe.js";

const ATTENTION_HEADS = 2;

// Deviates from the paper: 128 whatever the encoder; here never wider than the encoder.
const widthOf = ({ hidden }: ModelShape): number => {
  const width = Math.min(128, hidden);
  return width - (width % ATTENTION_HEADS);
};

/** A small classifier with self-attention over all tokens, the same at every layer. */
const head: ExitHead = {
  name: "attention",
  params(shape, layer, seed) {
    const { hidden, classes } = shape;
    const width = widthOf(shape);
    const rng = createRng(seed).fork(`heads.${layer}`);
    const fresh = (name: string, inputs: number, outputs: number) =>
      denseParams(name, inputs, outputs, rng.fork(`${name}.weight`));
    return {
      ...fresh("narrow", hidden, width),
      ...fresh("query", width, width),
      ...fresh("key", width, width),
      ...fresh("value", width, width),
      ...fresh("attention", width, width),
      ...fresh("dense", width, width),
      ...fresh("output", width, classes),
    };
  },
  apply(params, { hidden, mask, dropout, shape, pooled }) {
    const [B, S] = hidden.shape;
    const N = ATTENTION_HEADS;
    const width = widthOf(shape);
    const D = width / N;
    const narrow = tf.tanh(dense(params, "narrow", hidden)); // [B, S, width]
    // Only the first token's output is read, so only it asks.
    const first = tf.gather(narrow, tf.tensor1d([0], "int32"), 1) as tf.Tensor3D; // [B, 1, width]
    const split = (x: tf.Tensor, length: number) =>
      tf.transpose(tf.reshape(x, [B, length, N, D]), [0, 2, 1, 3]) as tf.Tensor4D; // [B, N, ·, D]
    const query = tf.mul(split(dense(params, "query", first), 1), 1 / Math.sqrt(D)) as tf.Tensor4D;
    const bias = tf.reshape(tf.mul(tf.sub(1, mask), -10000), [B, 1, 1, S]);
    const scores = tf.add(
      tf.matMul(query, split(dense(params, "key", narrow), S), false, true),
      bias,
    );
    const mixed = tf.matMul(
      tf.softmax(scores) as tf.Tensor4D,
      split(dense(params, "value", narrow), S),
    ); // [B, N, 1, D]
    const context = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [B, width]) as tf.Tensor2D;
    // Deviates from the released code: dropout on what attention gives, not on its weights.
    const features = tf.tanh(
      dense(params, "dense", dense(params, "attention", dropout(context))),
    ) as tf.Tensor2D;
    return {
      logits: dense(params, "output", features),
      // The head has no pooler; policies that read one get the backbone's.
      get pooled() {
        return pooled();
      },
      features,
    };
  },
};

const options = v.strictObject({
  ...rule.definition.options.entries,
  // Deviates from the released code: it keeps the best epoch on the dev set, here the last one stays.
  /** Encoder and last classifier, the teacher. */
  final: phaseSettings({ epochs: 3, batchSize: 32, learningRate: 2e-5, warmup: 0.1 }),
  // Deviates from the released code: its schedule counts the steps of the first stage, so that the rate is 0 after 3
  // epochs of 5; here it falls over all of them.
  /** Students below it. */
  distil: phaseSettings({ epochs: 5, batchSize: 32, learningRate: 2e-4, warmup: 0.1 }),
});

const strategy = defineExitStrategy({
  ...rule.definition,
  name: "fast-bert-distilled",
  options,
  phases: plan,
});

function* plan(shape: ModelShape, { final, distil }: v.InferOutput<typeof options>): PhasePlan {
  yield finalPhase(shape, final, { sharesPooler: false });
  if (shape.depth === 1) return;
  yield exitsPhase(shape, "distil", distil, distillation);
}

/** Sum over the layers below the last of KL(teacher || student), mean over rows; labels are not used. */
function distillation(step: TrainingStep): tf.Scalar {
  const { depth } = step.shape;
  const logProbs = (layer: number) => tf.logSoftmax(logitsAt(step.exits, layer)); // [B, C]
  return tf.tidy(() => {
    const teacher = detached(() => logProbs(depth));
    return layers(1, depth - 1)
      .map((layer) => {
        const gap = tf.mul(tf.exp(teacher), tf.sub(teacher, logProbs(layer)));
        return tf.mul<tf.Scalar>(tf.sum(gap), step.perRow);
      })
      .reduce((sum, loss) => tf.add(sum, loss));
  });
}

/** Needs its own head: a student with self-attention at every layer. */
export const fastBert: Recipe<typeof strategy> = { strategy, head };

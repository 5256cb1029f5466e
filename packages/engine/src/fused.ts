/**
 * @file The heavy operations of transformers as single nodes with hand-written gradients.
 *
 * Shapes: H = width, N = rows of a flattened input, I, O = features in and out, C = classes, V = vocabulary.
 */
import * as tf from "@tensorflow/tfjs";
import type { Value } from "./onnx/graph.js";
import { defineTracedOp } from "./trace/traced-op.js";

interface NormAttributes {
  readonly eps: number;
}

/** The further results are each row's mean and inverse deviation, for the gradient. */
const layerNormOp = defineTracedOp<NormAttributes>({
  name: "layerNorm",
  eager([x, gamma, beta], { eps }) {
    const input = x as tf.Tensor;
    const mean = tf.mean(input, -1, true);
    const centred = tf.sub(input, mean);
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), eps));
    const y = tf.add(tf.mul(tf.mul(centred, scale), gamma as tf.Tensor), beta as tf.Tensor);
    return [y, mean, scale];
  },
  trace({ graph }, [x, gamma, beta], { eps }, hasGradient) {
    const shape = x?.shape ?? [];
    const row = { type: "float32" as const, shape: [...shape.slice(0, -1), 1] };
    return graph.nodeOf(
      "LayerNormalization",
      [x, gamma, beta],
      [{ type: "float32", shape }, ...(hasGradient ? [row, row] : [])],
      { axis: -1, epsilon: { float: eps } },
    );
  },
  gradient(dy, [x, gamma], [, mean, scale]) {
    const input = x as tf.Tensor;
    const H = input.shape.at(-1) as number;
    const normal = tf.mul(tf.sub(input, mean as tf.Tensor), scale as tf.Tensor);
    const scaled = tf.mul(dy, gamma as tf.Tensor);
    const average = tf.mul(tf.sum(scaled, -1, true), 1 / H);
    const projection = tf.mul(tf.sum(tf.mul(scaled, normal), -1, true), 1 / H);
    const dx = tf.mul(
      tf.sub(tf.sub(scaled, average), tf.mul(normal, projection)),
      scale as tf.Tensor,
    );
    const rows = Array.from({ length: dy.rank - 1 }, (_, axis) => axis);
    return [dx, tf.sum(tf.mul(dy, normal), rows), tf.sum(dy, rows)];
  },
});

/** Layer normalisation over the last axis with biased variance; `gamma` and `beta` are `[H]`. */
export function layerNorm<T extends tf.Tensor>(
  x: T,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  eps: number,
): T {
  return layerNormOp([x, gamma, beta], { eps }) as T;
}

/** The further result is each row's inverse root mean square, for the gradient. */
const rmsNormOp = defineTracedOp<NormAttributes>({
  name: "rmsNorm",
  eager([x, weight], { eps }) {
    const input = x as tf.Tensor;
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(input), -1, true), eps));
    return [tf.mul(tf.mul(input, scale), weight as tf.Tensor), scale];
  },
  trace(t, [x, weight], { eps }, hasGradient) {
    const [input, gain] = [x, weight] as [Value, Value];
    const scalar = (number: number) => t.graph.scalar("float32", number);
    // The pattern that ONNX Runtime fuses into one node.
    const square = t.binary("Pow", input, scalar(2));
    const mean = t.reduce("ReduceMean", square, [input.shape.length - 1], true);
    const root = t.unary("Sqrt", t.binary("Add", mean, scalar(eps)));
    const y = t.binary("Mul", t.binary("Div", input, root), gain);
    return hasGradient ? [y, t.unary("Reciprocal", root)] : y;
  },
  gradient(dy, [x, weight], [, scale]) {
    const input = x as tf.Tensor;
    const H = input.shape.at(-1) as number;
    const normal = tf.mul(input, scale as tf.Tensor);
    const scaled = tf.mul(dy, weight as tf.Tensor);
    const projection = tf.mul(tf.sum(tf.mul(scaled, normal), -1, true), 1 / H);
    const dx = tf.mul(tf.sub(scaled, tf.mul(normal, projection)), scale as tf.Tensor);
    const rows = Array.from({ length: dy.rank - 1 }, (_, axis) => axis);
    return [dx, tf.sum(tf.mul(dy, normal), rows)];
  },
});

/** Root mean square normalisation over the last axis: no mean and no bias, unlike {@link layerNorm}; `weight` is `[H]`. */
export function rmsNorm<T extends tf.Tensor>(x: T, weight: tf.Tensor, eps: number): T {
  return rmsNormOp([x, weight], { eps }) as T;
}

/** `x Phi(x)`; the further result is Phi(x), the costly part of the gradient. */
const geluOp = defineTracedOp<Record<never, never>>({
  name: "gelu",
  eager([x]) {
    const half = tf.mul(tf.erf(tf.mul(x as tf.Tensor, Math.SQRT1_2)), 0.5);
    const probability = tf.add(half, 0.5);
    return [tf.mul(x as tf.Tensor, probability), probability];
  },
  trace(t, [x], _attributes, hasGradient) {
    const input = x as Value;
    const scalar = (number: number) => t.graph.scalar("float32", number);
    if (!hasGradient) {
      // The pattern that ONNX Runtime fuses into one Gelu.
      const erf = t.unary("Erf", t.binary("Div", input, scalar(Math.SQRT2)));
      const sum = t.binary("Add", erf, scalar(1));
      return t.binary("Mul", t.binary("Mul", input, sum), scalar(0.5));
    }
    const root = t.binary("Mul", input, scalar(Math.SQRT1_2));
    const half = t.binary("Mul", t.unary("Erf", root), scalar(0.5));
    const probability = t.binary("Add", half, scalar(0.5));
    return [t.binary("Mul", input, probability), probability];
  },
  gradient(dy, [x], [, probability]) {
    const root = tf.mul(x as tf.Tensor, Math.SQRT1_2);
    // x phi(x) = u exp(-u^2) / sqrt(pi) with u = x / sqrt(2); where exp(u^2) overflows the quotient is 0, as it should.
    const slope = tf.mul(tf.div(root, tf.exp(tf.square(root))), 1 / Math.sqrt(Math.PI));
    return [tf.mul(dy, tf.add(probability as tf.Tensor, slope))];
  },
});

/** GELU in its exact (erf) form. */
export function gelu<T extends tf.Tensor>(x: T): T {
  return geluOp([x], {}) as T;
}

const linearOp = defineTracedOp<Record<never, never>>({
  name: "linear",
  eager([x, weight, bias]) {
    // Transposing first: the wasm backend is 10 to 20 times slower with transpose flags.
    const transposed = tf.transpose(weight as tf.Tensor2D);
    return tf.add(tf.matMul(x as tf.Tensor2D, transposed), bias as tf.Tensor);
  },
  trace({ graph }, [x, weight, bias]) {
    return graph.node(
      "Gemm",
      [x, weight, bias],
      { type: "float32", shape: [x?.shape[0] as number, weight?.shape[0] as number] },
      { transB: 1 },
    );
  },
  gradient(dy, [x, weight]) {
    const wide = dy as tf.Tensor2D; // [N, O]
    return [
      tf.matMul(wide, weight as tf.Tensor2D),
      matMulFirstTransposed(wide, x as tf.Tensor2D),
      tf.sum(wide, 0),
    ];
  },
});

const matMulFirstTransposedOp = defineTracedOp<Record<never, never>>({
  name: "matMulFirstTransposed",
  eager: ([a, b]) => tf.matMul(tf.transpose(a as tf.Tensor2D), b as tf.Tensor2D),
  trace({ graph }, [a, b]) {
    return graph.node(
      "Gemm",
      [a, b],
      { type: "float32", shape: [a?.shape[1] as number, b?.shape[1] as number] },
      { transA: 1 },
    );
  },
});

function matMulFirstTransposed(a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D {
  return matMulFirstTransposedOp([a, b], {}) as tf.Tensor2D;
}

/** `x W^T + b` over the last axis; `weight` is `[O, I]` as in checkpoints, `bias` `[O]`. */
export function linear<T extends tf.Tensor>(x: T, weight: tf.Tensor, bias: tf.Tensor): T {
  const inputs = x.shape.at(-1) as number;
  if (weight.rank !== 2 || weight.shape[1] !== inputs)
    throw new RangeError(
      `linear: weight must be [O, ${inputs}] for x [${x.shape.join(", ")}], got [${weight.shape.join(", ")}]`,
    );
  const outer = x.shape.slice(0, -1);
  const rows = outer.reduce((product, size) => product * size, 1);
  const flat = x.rank === 2 ? x : tf.reshape(x, [rows, inputs]); // [N, I]
  const y = linearOp([flat, weight, bias], {}); // [N, O]
  return (x.rank === 2 ? y : tf.reshape(y, [...outer, weight.shape[0] as number])) as T;
}

/** Rows of `table` `[V, H]` at `ids`; repeated ids add up in the gradient. */
export function embedding(table: tf.Tensor, ids: tf.Tensor): tf.Tensor {
  return tf.gather(table, ids);
}

const oneHot = (labels: tf.Tensor, classes: number) =>
  tf.cast(tf.oneHot(tf.reshape(labels as tf.Tensor2D, [-1]), classes), "float32"); // [N, C]

/** From `[N, C]` logits and `[N, 1]` labels; the further result is the log-probabilities, for the gradient. */
const crossEntropyOp = defineTracedOp<{ readonly classes: number }>({
  name: "softmaxCrossEntropy",
  eager([logits, labels], { classes }) {
    const logProbs = tf.logSoftmax(logits as tf.Tensor2D);
    return [tf.neg(tf.sum(tf.mul(logProbs, oneHot(labels as tf.Tensor, classes)), 1)), logProbs];
  },
  trace(t, [logits, labels]) {
    if (!logits || !labels) throw new Error("internal: cross-entropy without inputs");
    const [N] = logits.shape as [number];
    const logProbs = t.graph.node("LogSoftmax", [logits], logits, { axis: 1 });
    const picked = t.graph.node(
      "GatherElements",
      [logProbs, labels],
      { type: "float32", shape: [N, 1] },
      { axis: 1 },
    );
    return [t.reduce("ReduceSum", t.unary("Neg", picked), [1], false), logProbs];
  },
  gradient: (dy, [, labels], [, logProbs], { classes }) => [
    crossEntropyGradientOp(
      [tf.expandDims(dy, 1), tf.exp(logProbs as tf.Tensor), labels as tf.Tensor],
      { classes },
    ),
    undefined,
  ],
});

/**
 * `dy (p - onehot(label))` from `dy` `[N, 1]`, probabilities `[N, C]` and labels `[N, 1]`, without a one-hot matrix: with a
 * vocabulary of classes, every pass over `[N, C]` costs as much as a layer.
 */
const crossEntropyGradientOp = defineTracedOp<{ readonly classes: number }>({
  name: "softmaxCrossEntropyGradient",
  eager: ([dy, probabilities, labels], { classes }) =>
    tf.mul(
      tf.sub(probabilities as tf.Tensor, oneHot(labels as tf.Tensor, classes)),
      dy as tf.Tensor,
    ),
  trace(t, [dy, probabilities, labels]) {
    if (!dy || !probabilities || !labels) throw new Error("internal: no inputs");
    const scaled = t.binary("Mul", probabilities, dy);
    return t.graph.node(
      "ScatterElements",
      [scaled, labels, t.unary("Neg", dy)],
      { type: "float32", shape: scaled.shape },
      { axis: 1, reduction: "add" },
    );
  },
});

/**
 * Cross-entropy in nats of each row; `logits` is `[N, C]`, `labels` class indices `[N]` from 0 to C - 1 (int32 or float32);
 * `[N]`.
 */
export function softmaxCrossEntropy(logits: tf.Tensor2D, labels: tf.Tensor1D): tf.Tensor1D {
  const classes = logits.shape[1];
  const column = tf.expandDims(tf.cast(labels, "int32"), 1); // [N, 1]
  return crossEntropyOp([logits, column], { classes }) as tf.Tensor1D;
}

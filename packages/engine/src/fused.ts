/**
 * @file The heavy operations of transformers as single nodes with hand-written gradients.
 *
 * Shapes: H = width, N = rows of a flattened input, I, O = features in and out, C = classes, V = vocabulary.
 */
import * as tf from "@tensorflow/tfjs";
import { defineTracedOp } from "./trace/traced-op.js";

interface LayerNormAttributes {
  readonly eps: number;
}

const layerNormOp = defineTracedOp<LayerNormAttributes>({
  name: "layerNorm",
  eager([x, gamma, beta], { eps }) {
    const { normalised } = normalise(x as tf.Tensor, eps);
    return tf.add(tf.mul(normalised, gamma as tf.Tensor), beta as tf.Tensor);
  },
  trace({ graph }, [x, gamma, beta], { eps }) {
    return graph.node(
      "LayerNormalization",
      [x, gamma, beta],
      { type: "float32", shape: x?.shape ?? [] },
      { axis: -1, epsilon: { float: eps } },
    );
  },
  gradient(dy, [x, gamma], _output, { eps }) {
    const { normalised, deviation } = normalise(x as tf.Tensor, eps);
    const H = (x as tf.Tensor).shape.at(-1) as number;
    const scaled = tf.mul(dy, gamma as tf.Tensor);
    const mean = tf.mul(tf.sum(scaled, -1, true), 1 / H);
    const projected = tf.mul(tf.sum(tf.mul(scaled, normalised), -1, true), 1 / H);
    const dx = tf.div(tf.sub(tf.sub(scaled, mean), tf.mul(normalised, projected)), deviation);
    const rows = Array.from({ length: dy.rank - 1 }, (_, axis) => axis);
    return [dx, tf.sum(tf.mul(dy, normalised), rows), tf.sum(dy, rows)];
  },
});

function normalise(x: tf.Tensor, eps: number) {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const deviation = tf.sqrt(tf.add(tf.mean(tf.square(centred), -1, true), eps));
  return { normalised: tf.div(centred, deviation), deviation };
}

/** Layer normalisation over the last axis with biased variance; `gamma` and `beta` are `[H]`. */
export function layerNorm<T extends tf.Tensor>(
  x: T,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  eps: number,
): T {
  return layerNormOp([x, gamma, beta], { eps }) as T;
}

const geluOp = defineTracedOp<Record<never, never>>({
  name: "gelu",
  eager: ([x]) => geluOf(x as tf.Tensor),
  trace(tracing, [x]) {
    if (!x) throw new Error("internal: gelu without input");
    // The pattern that ONNX Runtime fuses into one Gelu.
    const { graph } = tracing;
    const root = graph.scalar("float32", Math.SQRT2);
    const erf = tracing.unary("Erf", tracing.binary("Div", x, root));
    const sum = tracing.binary("Add", erf, graph.scalar("float32", 1));
    return tracing.binary("Mul", tracing.binary("Mul", x, sum), graph.scalar("float32", 0.5));
  },
  gradient(dy, [x]) {
    const input = x as tf.Tensor;
    const cdf = tf.mul(0.5, tf.add(1, tf.erf(tf.mul(input, Math.SQRT1_2))));
    const density = tf.mul(tf.exp(tf.mul(tf.square(input), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return [tf.mul(dy, tf.add(cdf, tf.mul(input, density)))];
  },
});

function geluOf(x: tf.Tensor): tf.Tensor {
  return tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))));
}

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

/** Cross-entropy in nats of each row; `logits` is `[N, C]`, `labels` class indices `[N]` (int32 or float32); `[N]`. */
export function softmaxCrossEntropy(logits: tf.Tensor2D, labels: tf.Tensor1D): tf.Tensor1D {
  const [, C] = logits.shape;
  const target = tf.cast(tf.oneHot(tf.cast(labels, "int32"), C), "float32"); // [N, C]
  return tf.neg(tf.sum(tf.mul(tf.logSoftmax(logits), target), 1)) as tf.Tensor1D;
}

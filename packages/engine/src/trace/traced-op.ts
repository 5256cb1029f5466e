/** @file Operations that TensorFlow.js does not have: written once for the graph and once for eager backends. */
import * as tf from "@tensorflow/tfjs";
import type { Value } from "../onnx/graph.js";
import { emit, isTracing } from "./backend.js";
import type { Tracing } from "./tracing.js";

export interface TracedOp<TAttributes> {
  readonly name: string;
  /** With TensorFlow.js operations, on whichever backend is current. */
  eager(inputs: readonly tf.Tensor[], attributes: TAttributes): tf.Tensor;
  /** Appends ONNX nodes. */
  trace(tracing: Tracing, inputs: readonly Value[], attributes: TAttributes): Value;
  /**
   * Gradients with respect to the inputs, from the inputs and the output; without it the operation stops gradients.
   * An input without a gradient gets `undefined`.
   */
  gradient?(
    dy: tf.Tensor,
    inputs: readonly tf.Tensor[],
    output: tf.Tensor,
    attributes: TAttributes,
  ): readonly (tf.Tensor | undefined)[];
}

/** Makes a callable operation that works traced and eager, with its own gradient. */
export function defineTracedOp<TAttributes>(
  op: TracedOp<TAttributes>,
): (inputs: readonly tf.Tensor[], attributes: TAttributes) => tf.Tensor {
  return (inputs, attributes) => {
    const run = (xs: readonly tf.Tensor[]): tf.Tensor =>
      isTracing()
        ? emit(xs, (tracing, values) => op.trace(tracing, values, attributes))
        : tf.tidy(() => op.eager(xs, attributes));
    const { gradient } = op;
    const differentiable = tf.customGrad(((...args: unknown[]) => {
      const save = args.pop() as (tensors: tf.Tensor[]) => void;
      const xs = args as tf.Tensor[];
      const value = run(xs);
      save([...xs, value]);
      return {
        value,
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
          const inputsSaved = saved.slice(0, xs.length);
          const given =
            gradient?.(dy, inputsSaved, saved[xs.length] as tf.Tensor, attributes) ?? [];
          return inputsSaved.map((x, index) => given[index] ?? tf.zerosLike(x));
        },
      };
    }) as never);
    return differentiable(...(inputs as tf.Tensor[])) as tf.Tensor;
  };
}

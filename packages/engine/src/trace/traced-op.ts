/** @file Operations that TensorFlow.js does not have: written once for the graph and once for eager backends. */
import * as tf from "@tensorflow/tfjs";
import type { Value } from "../onnx/graph.js";
import { emit, isTracing } from "./backend.js";
import type { Tracing } from "./tracing.js";

export interface TracedOp<TAttributes> {
  readonly name: string;
  /**
   * With TensorFlow.js operations, on whichever backend is current. What follows the first tensor is not returned to
   * the caller, only handed to `gradient`.
   */
  eager(inputs: readonly tf.Tensor[], attributes: TAttributes): tf.Tensor | readonly tf.Tensor[];
  /**
   * Appends ONNX nodes; returns as many values as `eager` returns tensors. Where no gradient is being taken, only the
   * first is needed, and may be made in the form that runs fastest alone.
   */
  trace(
    tracing: Tracing,
    inputs: readonly Value[],
    attributes: TAttributes,
    hasGradient: boolean,
  ): Value | readonly Value[];
  /**
   * Gradients with respect to the inputs, from the inputs and the outputs; without it the operation stops gradients.
   * An input without a gradient gets `undefined`.
   */
  gradient?(
    dy: tf.Tensor,
    inputs: readonly tf.Tensor[],
    outputs: readonly tf.Tensor[],
    attributes: TAttributes,
  ): readonly (tf.Tensor | undefined)[];
}

/** Makes a callable operation that works traced and eager, with its own gradient. */
export function defineTracedOp<TAttributes>(
  op: TracedOp<TAttributes>,
): (inputs: readonly tf.Tensor[], attributes: TAttributes) => tf.Tensor {
  return (inputs, attributes) => {
    const { gradient } = op;
    const differentiable = tf.customGrad(((...args: unknown[]) => {
      const save = args.pop() as (tensors: tf.Tensor[]) => void;
      const xs = args as tf.Tensor[];
      const outputs = isTracing()
        ? emit(op.name, xs, (tracing, values) => op.trace(tracing, values, attributes, isTaping()))
        : asList(tf.tidy(() => op.eager(xs, attributes) as tf.TensorContainer));
      if (gradient) save([...xs, ...outputs]);
      return {
        value: outputs[0],
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
          if (!gradient) return xs.map((x) => tf.zerosLike(x));
          const kept = saved.slice(0, xs.length);
          const given = gradient(dy, kept, saved.slice(xs.length), attributes);
          return kept.map((x, index) => given[index] ?? tf.zerosLike(x));
        },
      };
    }) as never);
    return differentiable(...(inputs as tf.Tensor[])) as tf.Tensor;
  };
}

function asList(result: unknown): readonly tf.Tensor[] {
  return Array.isArray(result) ? (result as tf.Tensor[]) : [result as tf.Tensor];
}

function isTaping(): boolean {
  return (tf.engine() as unknown as { state: { gradientDepth: number } }).state.gradientDepth > 0;
}

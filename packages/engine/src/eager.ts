/** @file The eager runtime: the same functions, run operation by operation on a TensorFlow.js backend. */
import * as tf from "@tensorflow/tfjs";
import { checkInputs, disposedError } from "./compile.js";
import { isHost, isSpec } from "./trace/trace.js";
import { flatten, mapTree } from "./tree.js";
import type {
  CompiledFunction,
  CompileOptions,
  HostTensor,
  HostTree,
  TensorSpec,
  TensorTree,
  Tree,
} from "./types.js";

const isTensor = (node: unknown): node is tf.Tensor => node instanceof tf.Tensor;

/** Wraps a function without tracing it. */
export function eagerFunction(
  // biome-ignore lint/suspicious/noExplicitAny: the caller states the tree it takes
  fn: (inputs: any) => TensorTree,
  { name, inputs: specTree, constants = {} }: CompileOptions,
): CompiledFunction {
  const specs = flatten(specTree as Tree<TensorSpec>, isSpec).map(({ path, leaf }) => ({
    path,
    spec: leaf,
  }));
  let disposed = false;
  const toTensor = ({ data, shape, dtype }: HostTensor) => tf.tensor(data, [...shape], dtype);
  return {
    name,
    async run(inputs, { into } = {}) {
      if (disposed) throw disposedError(name);
      checkInputs(name, specs, inputs);
      const result = tf.tidy(() => {
        const feeds = mapTree(inputs as Tree<HostTensor>, isHost, toTensor);
        const baked = mapTree(constants as Tree<HostTensor>, isHost, toTensor);
        return fn({ ...(feeds as object), ...(baked as object) }) as tf.TensorContainer;
      }) as TensorTree;
      const leaves = flatten(result as Tree<tf.Tensor>, isTensor);
      const values = new Map<string, HostTensor>();
      try {
        for (const { path, leaf } of leaves)
          values.set(path, {
            dtype: leaf.dtype as HostTensor["dtype"],
            shape: [...leaf.shape],
            data: (await leaf.data()) as HostTensor["data"],
          });
      } finally {
        for (const { leaf } of leaves) leaf.dispose();
      }
      const places = new Map(
        into === undefined
          ? []
          : flatten(into as Tree<HostTensor>, isHost).map(
              ({ path, leaf }) => [path, leaf] as const,
            ),
      );
      return mapTree(result as Tree<tf.Tensor>, isTensor, (_, path) => {
        const value = values.get(path) as HostTensor;
        const place = places.get(path);
        if (!place) return value;
        place.data.set(value.data);
        return place;
      }) as HostTree as never;
    },
    onnx: () => undefined,
    async dispose() {
      disposed = true;
    },
  };
}

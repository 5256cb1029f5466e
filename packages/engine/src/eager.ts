/** @file The eager runtime: the same functions, run operation by operation on a TensorFlow.js backend. */
import * as tf from "@tensorflow/tfjs";
import { disposedError } from "./compile.js";
import { EngineError } from "./errors.js";
import { inputCheck, intoCheck } from "./inputs.js";
import { parseExpression } from "./trace/symbols.js";
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

/** Wraps a function without tracing it; `backend` is TensorFlow.js's name of the backend it runs on. */
export function eagerFunction(
  // biome-ignore lint/suspicious/noExplicitAny: the caller states the tree it takes
  fn: (inputs: any) => TensorTree,
  { name, inputs: specTree, constants = {} }: CompileOptions,
  backend: string,
): CompiledFunction {
  const specs = flatten(specTree as Tree<TensorSpec>, isSpec).map(({ path, leaf }) => ({
    path,
    spec: {
      dtype: leaf.dtype,
      shape: leaf.shape.map((size) =>
        typeof size === "string" ? parseExpression(size).text : size,
      ),
    },
  }));
  const checkInputs = inputCheck(name, { inputs: specs });
  let disposed = false;
  let weights: Tree<tf.Tensor> | undefined;
  // Copied now, so that later changes of the arrays don't reach the weights.
  let pending: Tree<HostTensor> | undefined = mapTree(
    constants as Tree<HostTensor>,
    isHost,
    (tensor) => ({ ...tensor, data: tensor.data.slice() }),
  );
  const toTensor = ({ data, shape, dtype }: HostTensor) => tf.tensor(data, [...shape], dtype);

  return {
    name,
    async run(inputs, { into } = {}) {
      if (disposed) throw disposedError(name);
      const { tensors, sizes } = checkInputs(inputs);
      if (tf.getBackend() !== backend) await tf.setBackend(backend);
      if (pending) weights = mapTree(pending, isHost, (tensor) => tf.keep(toTensor(tensor)));
      pending = undefined;
      const baked = weights as object;
      const result = tf.tidy(() => {
        const feeds = mapTree(inputs as Tree<HostTensor>, isHost, toTensor);
        const output = fn({ ...(feeds as object), ...baked }) as unknown;
        if (output instanceof Promise)
          throw new EngineError(
            "TRACE_FAILED",
            `[${name}] the function returned a promise. A tensor function must be synchronous.`,
          );
        // Clones, so that what is returned can be disposed of even where it is an input or a weight.
        return mapTree(output as Tree<tf.Tensor>, isTensor, (tensor) =>
          tf.clone(tensor),
        ) as tf.TensorContainer;
      }) as TensorTree;
      const leaves = flatten(result as Tree<tf.Tensor>, isTensor);
      const values = new Map<string, HostTensor>();
      try {
        for (const { path, leaf } of leaves) {
          const data = (await leaf.data()) as HostTensor["data"];
          // The cpu backend hands out the tensor's own array, which an unchanged input shares.
          values.set(path === "" ? "result" : path, {
            dtype: leaf.dtype as HostTensor["dtype"],
            shape: [...leaf.shape],
            data: leaf.dtype === "bool" ? Uint8Array.from(data) : data.slice(),
          });
        }
      } finally {
        for (const { leaf } of leaves) leaf.dispose();
      }
      const outputs = [...values].map(([path, { dtype, shape }]) => ({ path, dtype, dims: shape }));
      const places = intoCheck(name, outputs)(into, tensors, sizes);
      return mapTree(result as Tree<tf.Tensor>, isTensor, (_, path) => {
        const key = path === "" ? "result" : path;
        const value = values.get(key) as HostTensor;
        const place = places.get(key);
        if (!place) return value;
        place.data.set(value.data);
        return place;
      }) as HostTree as never;
    },
    onnx: () => undefined,
    async dispose() {
      if (disposed) return;
      disposed = true;
      if (weights) for (const { leaf } of flatten(weights, isTensor)) leaf.dispose();
    },
  };
}

/** @file A traced function as a piece of a larger ONNX model. */
import { fromBinary } from "@bufbuild/protobuf";
import { type GraphProto, ModelProtoSchema } from "onnx-buf";
import { EngineError } from "../errors.js";
import {
  rebuild,
  type TracedInput,
  type TracedOutput,
  type TraceRequest,
  trace,
} from "../trace/trace.js";
import type { CompileOptions, SpecTree, TensorSpec } from "../types.js";

/** A traced function that {@link assembleOnnx} can put into a model, in the main graph or in a branch. */
export interface OnnxPart {
  readonly name: string;
  readonly opset: number;
  readonly inputs: readonly TracedInput[];
  readonly outputs: readonly TracedOutput[];
  /** Specs of the outputs in the tree that the function returned: what a next part takes as inputs. */
  readonly outputSpecs: SpecTree;
  /** Inputs are named `in/<path>`, outputs `out/<path>`. */
  readonly graph: GraphProto;
}

/** Opset of assembled models: the oldest that has LayerNormalization, for runtimes older than this package's own. */
export const PART_OPSET = 17;

/**
 * Traces a function without creating a session.
 * @throws EngineError what `Engine.compile` throws
 */
export function traceOnnx(
  fn: TraceRequest["fn"],
  { name, inputs, constants = {}, sizes, opset = PART_OPSET }: CompileOptions,
): OnnxPart {
  const traced = trace({
    name,
    fn: fn,
    inputs,
    constants,
    sizes,
    opset,
  });
  const { graph } = fromBinary(ModelProtoSchema, traced.model);
  if (!graph) throw new EngineError("BAD_MODEL", `[${name}] the traced model has no graph.`);
  const specs = traced.outputs.map(({ dtype, dims }): TensorSpec => ({ dtype, shape: dims }));
  return {
    name,
    opset,
    inputs: traced.inputs,
    outputs: traced.outputs,
    outputSpecs: rebuild(traced.tree, specs),
    graph,
  };
}

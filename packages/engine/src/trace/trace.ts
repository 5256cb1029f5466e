/** @file Traces a tensor function into a graph, twice, so that a symbolic size that leaked into a constant shows. */
import * as tf from "@tensorflow/tfjs";
import { EngineError } from "../errors.js";
import { type GraphOutput, liveNodes, type Node, toModel, type Value } from "../onnx/graph.js";
import { flatten, mapTree } from "../tree.js";
import type { HostTensor, SpecTree, TensorSpec, TensorTree, Tree } from "../types.js";
import { traceWith } from "./backend.js";
import { chooseStandIns, describeSize, factorise, type SymbolTable } from "./symbols.js";
import { Tracing } from "./tracing.js";

export interface TracedInput {
  readonly path: string;
  readonly spec: TensorSpec;
}

export interface TracedOutput {
  readonly path: string;
  readonly dtype: HostTensor["dtype"];
  readonly dims: readonly (number | string)[];
}

export interface TracedFunction {
  readonly model: Uint8Array;
  readonly inputs: readonly TracedInput[];
  /** Inputs that the graph reads; others are not fed. */
  readonly used: ReadonlySet<string>;
  readonly outputs: readonly TracedOutput[];
  /** The tree of outputs, with places in `outputs` as leaves. */
  readonly tree: Tree<number>;
}

export interface TraceRequest {
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: the caller states the tree it takes
  readonly fn: (inputs: any) => TensorTree;
  readonly inputs: { readonly [key: string]: SpecTree };
  readonly constants: { readonly [key: string]: Tree<HostTensor> };
  readonly opset: number;
}

export const isSpec = (node: unknown): node is TensorSpec =>
  typeof node === "object" &&
  node !== null &&
  "dtype" in node &&
  "shape" in node &&
  !("data" in node);
export const isHost = (node: unknown): node is HostTensor =>
  typeof node === "object" && node !== null && ArrayBuffer.isView((node as HostTensor).data);
const isTensor = (node: unknown): node is tf.Tensor => node instanceof tf.Tensor;
const isNumber = (node: unknown): node is number => typeof node === "number";

/**
 * Traces a function.
 * @throws EngineError `READ_TRACED`, `UNMAPPED_KERNEL`, `SYMBOL_LEAK`, `SYMBOL_COLLISION`, `TRACE_FAILED`, `BAD_OPTION`
 */
export function trace(request: TraceRequest): TracedFunction {
  const specs = flatten(request.inputs as Tree<TensorSpec>, isSpec);
  const symbols = [
    ...new Set(
      specs.flatMap(({ leaf }) =>
        leaf.shape.filter((size): size is string => typeof size === "string"),
      ),
    ),
  ];
  const sizes = [
    ...specs.flatMap(({ leaf }) =>
      leaf.shape.filter((size): size is number => typeof size === "number"),
    ),
    ...flatten(request.constants as Tree<HostTensor>, isHost).flatMap(({ leaf }) => [
      ...leaf.shape,
    ]),
  ];
  const tables = chooseStandIns(symbols, sizes);
  if (!tables)
    throw new EngineError(
      "SYMBOL_COLLISION",
      `[${request.name}] ${symbols.length} symbolic dimensions can't be told from the static sizes ${[...new Set(sizes)].join(", ")}. Use fewer symbols.`,
    );
  const first = traceOnce(request, tables[0]);
  if (symbols.length > 0) assertSame(request.name, first, traceOnce(request, tables[1]));
  const { tracing, outputs, tree } = first;
  const graphOutputs: GraphOutput[] = outputs.map(({ value, path }) => ({
    name: `out/${path}`,
    value,
    dims: dimsOf(value, tables[0]),
  }));
  const reached = new Set(graphOutputs.map((output) => output.value.name));
  for (const node of liveNodes(
    tracing.graph.nodes,
    outputs.map((output) => output.value),
  ))
    for (const input of node.inputs) if (input) reached.add(input.name);
  return {
    model: toModel(request.name, tracing.graph, graphOutputs),
    inputs: specs.map(({ path, leaf }) => ({ path, spec: leaf })),
    used: new Set(specs.map(({ path }) => path).filter((path) => reached.has(`in/${path}`))),
    outputs: outputs.map(({ value, path }, index) => ({
      path,
      dtype: value.type as HostTensor["dtype"],
      dims: graphOutputs[index]?.dims ?? [],
    })),
    tree,
  };
}

interface OneTrace {
  readonly tracing: Tracing;
  readonly table: SymbolTable;
  readonly outputs: readonly { readonly path: string; readonly value: Value }[];
  readonly tree: Tree<number>;
}

function traceOnce(request: TraceRequest, table: SymbolTable): OneTrace {
  const tracing = new Tracing(request.name, table, request.opset);
  const outputs: { path: string; value: Value }[] = [];
  const tree = traceWith(tracing, (wrap, unwrap) => {
    const feeds = mapTree(request.inputs as Tree<TensorSpec>, isSpec, ({ dtype, shape }, path) => {
      const sizes = shape.map((size) =>
        typeof size === "number" ? size : (table.sizes.get(size) as number),
      );
      const value = tracing.graph.input(`in/${path}`, dtype, sizes, shape);
      shape.forEach((size, axis) => {
        if (typeof size === "string") tracing.declare(size, value, axis);
      });
      return wrap(value);
    }) as Record<string, TensorTree>;
    const weights = mapTree(request.constants as Tree<HostTensor>, isHost, (tensor, path) =>
      wrap(tracing.graph.weight(`const/${path}`, tensor.dtype, tensor.shape, tensor.data)),
    ) as Record<string, TensorTree>;
    const result = request.fn({ ...feeds, ...weights });
    if (result instanceof Promise)
      throw new EngineError(
        "TRACE_FAILED",
        `[${request.name}] the function returned a promise. A traced function must be synchronous.`,
      );
    return mapTree(result as Tree<tf.Tensor>, isTensorOrFail(request.name), (tensor, path) => {
      outputs.push({ path: path === "" ? "result" : path, value: unwrap(tensor) });
      return outputs.length - 1;
    });
  });
  return { tracing, table, outputs, tree };
}

function isTensorOrFail(name: string) {
  return (node: unknown): node is tf.Tensor => {
    if (isTensor(node)) return true;
    if (typeof node === "object" && node !== null) return false;
    throw new EngineError(
      "TRACE_FAILED",
      `[${name}] expected a tree of tensors as the result, found ${typeof node}. Return tensors in arrays and objects only.`,
    );
  };
}

/** Puts the outputs back into the tree that the function returned. */
export function rebuild<T>(tree: Tree<number>, leaves: readonly T[]): Tree<T> {
  return mapTree(tree, isNumber, (index) => leaves[index] as T);
}

function dimsOf(value: Value, table: SymbolTable): (number | string)[] {
  return value.shape.map((size) => describeSize(size, table));
}

/** Compares the live parts of two traces; whatever differs depends on a size in a way that the graph can't express. */
function assertSame(name: string, a: OneTrace, b: OneTrace): void {
  const nodesOf = (one: OneTrace) =>
    liveNodes(
      one.tracing.graph.nodes,
      one.outputs.map((output) => output.value),
    );
  const [left, right] = [nodesOf(a), nodesOf(b)];
  const leak = (node: Node, what: string): never => {
    throw new EngineError(
      "SYMBOL_LEAK",
      `[${name}] a symbolic size (${[...a.table.sizes.keys()].join(", ")}) leaks into ${what} of the operation ${node.op} with output [${node.outputs[0] ? dimsOf(node.outputs[0], a.table).join(", ") : ""}]. Replace means over symbolic axes by sums with fed weights, slices of symbolic axes by gather, and feed positions and counts.`,
    );
  };
  for (const [index, node] of left.entries()) {
    const other = right[index];
    if (!other || other.op !== node.op) return leak(node, "the choice of operations, here");
    if (JSON.stringify(node.attributes) !== JSON.stringify(other.attributes))
      leak(node, "an attribute");
    node.inputs.forEach((input, position) => {
      const twin = other.inputs[position];
      if (!input || !twin) return;
      const [x, y] = [
        a.tracing.graph.constants.get(input.name),
        b.tracing.graph.constants.get(twin.name),
      ];
      if ((x === undefined) !== (y === undefined)) leak(node, "an input");
      if (!x || !y) {
        if (input.name !== twin.name && !input.name.startsWith("v")) leak(node, "an input");
        return;
      }
      if (x.data.length !== y.data.length) leak(node, "the size of a constant");
      if (x.data === y.data) return;
      for (let at = 0; at < x.data.length; at += 1)
        if (!Object.is(x.data[at], y.data[at])) leak(node, "a constant");
    });
    for (const [position, output] of node.outputs.entries())
      if (!sameFactors(output, other.outputs[position] as Value, a.table, b.table))
        leak(node, "the shape of the result");
  }
  if (left.length !== right.length)
    leak(right[left.length] as Node, "the number of operations, here");
  for (const [index, { value }] of a.outputs.entries())
    if (!sameFactors(value, (b.outputs[index] as { value: Value }).value, a.table, b.table))
      throw new EngineError(
        "SYMBOL_LEAK",
        `[${name}] output ${a.outputs[index]?.path} has a size that is no product of symbols. Only products of symbolic dimensions can be traced.`,
      );
}

function sameFactors(a: Value, b: Value, tableA: SymbolTable, tableB: SymbolTable): boolean {
  return (
    a.shape.length === b.shape.length &&
    a.shape.every((size, axis) => {
      const x = factorise(size, tableA);
      const y = factorise(b.shape[axis] as number, tableB);
      return x.factor === y.factor && x.symbols.join() === y.symbols.join();
    })
  );
}

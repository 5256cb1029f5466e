/** @file Traces a tensor function into a graph, twice, so that a symbolic size that leaked into a constant shows. */
import * as tf from "@tensorflow/tfjs";
import { EngineError } from "../errors.js";
import { type GraphOutput, liveNodes, toModel, type Value } from "../onnx/graph.js";
import { flatten, type Leaf, mapTree } from "../tree.js";
import type { HostTensor, SpecTree, TensorSpec, TensorTree, Tree } from "../types.js";
import { traceWith } from "./backend.js";
import { compareTraces, leakError, type OneTrace } from "./leaks.js";
import { placeInFunction } from "./place.js";
import {
  chooseStandIns,
  describeSize,
  type Expression,
  parseExpression,
  type SymbolTable,
} from "./symbols.js";
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
  readonly expressions: readonly Expression[];
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
  /** Further sums of symbols that sizes inside the function may have. */
  readonly sizes?: readonly string[] | undefined;
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
  const weights = flatten(request.constants as Tree<HostTensor>, isHost);
  checkSpecs(request, specs, weights);
  const expressions = expressionsOf(request, specs);
  const staticSizes = [
    ...specs.map(({ leaf }) => leaf.shape),
    ...weights.map(({ leaf }) => leaf.shape),
  ]
    .flat()
    .filter((size): size is number => typeof size === "number");
  const first = traceTwice(request, expressions, staticSizes);
  const { tracing, table, outputs, tree } = first;
  const graphOutputs: GraphOutput[] = outputs.map(({ value, path }) => ({
    name: `out/${path}`,
    value,
    dims: dimsOf(value, table),
  }));
  const reached = new Set(graphOutputs.map((output) => output.value.name));
  for (const node of liveNodes(
    tracing.graph.nodes,
    outputs.map((output) => output.value),
  ))
    for (const input of node.inputs) if (input) reached.add(input.name);
  return {
    model: toModel(tracing.graph, graphOutputs),
    inputs: specs.map(({ path, leaf }) => ({
      path,
      spec: { dtype: leaf.dtype, shape: leaf.shape.map(compact) },
    })),
    expressions,
    used: new Set(specs.map(({ path }) => path).filter((path) => reached.has(`in/${path}`))),
    outputs: outputs.map(({ value, path }, index) => ({
      path,
      dtype: value.type as HostTensor["dtype"],
      dims: graphOutputs[index]?.dims ?? [],
    })),
    tree,
  };
}

/** Symbols and sums are compared by their text, without spaces. */
function compact(size: number | string): number | string {
  return typeof size === "number" ? size : parseExpression(size).text;
}

function expressionsOf(request: TraceRequest, specs: readonly Leaf<TensorSpec>[]): Expression[] {
  const texts = [...specs.flatMap(({ leaf }) => leaf.shape), ...(request.sizes ?? [])].filter(
    (size): size is string => typeof size === "string",
  );
  const unique = new Map(texts.map((text) => [parseExpression(text).text, parseExpression(text)]));
  return [...unique.values()];
}

function checkSpecs(
  { name, inputs, constants }: TraceRequest,
  specs: readonly Leaf<TensorSpec>[],
  weights: readonly Leaf<HostTensor>[],
): void {
  const complain = (what: string): never => {
    throw new EngineError("BAD_OPTION", `[${name}] ${what}`);
  };
  const seen = new Set<string>();
  for (const { path, leaf } of [...specs, ...weights]) {
    if (seen.has(path)) complain(`two inputs or constants have the path "${path}". Rename one.`);
    seen.add(path);
    if (!["float32", "int32", "bool"].includes(leaf.dtype))
      complain(`"${path}" has the type ${leaf.dtype}. Use float32, int32 or bool.`);
    for (const size of leaf.shape)
      if (typeof size === "number" && !(Number.isInteger(size) && size >= 0))
        complain(`"${path}" has the size ${size}. Use whole numbers >= 0, or names.`);
  }
  for (const key of Object.keys(constants))
    if (key in inputs) complain(`"${key}" is both an input and a constant. Rename one.`);
  for (const { path, leaf } of weights) {
    const count = leaf.shape.reduce((product, size) => product * size, 1);
    if (leaf.data.length !== count)
      complain(
        `the constant "${path}" has ${leaf.data.length} numbers, its shape [${leaf.shape.join(", ")}] needs ${count}.`,
      );
  }
}

/** Further pairs of stand-ins that are tried before a size counts as leaked. */
const SPARE_PAIRS = 4;

/**
 * Traces with two sets of stand-ins and compares. Where they differ, further pairs tell a size that is a multiple of a
 * stand-in by chance from one that leaked.
 */
function traceTwice(
  request: TraceRequest,
  expressions: readonly Expression[],
  staticSizes: readonly number[],
): OneTrace {
  if (expressions.length === 0) {
    // Without symbols, two traces differ only by what must not be frozen either: randomness, time, counters.
    const none: SymbolTable = { sizes: new Map() };
    const only = traceOnce(request, none, expressions);
    const difference = compareTraces(only, traceOnce(request, none, expressions));
    if (!difference) return only;
    const located = traceOnce(request, none, expressions, true);
    const again = compareTraces(located, traceOnce(request, none, expressions));
    throw leakError(request.name, again ?? difference);
  }
  const [a, b] = chooseStandIns(request.name, expressions, staticSizes, 2) as [
    SymbolTable,
    SymbolTable,
  ];
  const first = traceOnce(request, a, expressions);
  const difference = compareTraces(first, traceOnce(request, b, expressions));
  if (!difference) return first;
  // A leak shows whatever the stand-ins; a size that is a multiple of one by chance shows with few of them.
  for (let pair = 1; difference.isMaybeChance && pair <= SPARE_PAIRS; pair += 1) {
    let spare: readonly SymbolTable[];
    try {
      spare = chooseStandIns(request.name, expressions, staticSizes, 2 * pair + 2).slice(2 * pair);
    } catch {
      // Too few primes are left for another opinion.
      break;
    }
    const [c, d] = spare as [SymbolTable, SymbolTable];
    const again = traceOnce(request, c, expressions);
    if (!compareTraces(again, traceOnce(request, d, expressions))) return again;
  }
  const located = traceOnce(request, a, expressions, true);
  throw leakError(
    request.name,
    compareTraces(located, traceOnce(request, b, expressions)) ?? difference,
  );
}

function traceOnce(
  request: TraceRequest,
  table: SymbolTable,
  expressions: readonly Expression[],
  locate = false,
): OneTrace {
  const tracing = new Tracing(request.name, table, expressions, request.opset);
  if (locate) tracing.graph.locate = placeInFunction;
  const outputs: { path: string; value: Value }[] = [];
  const tree = traceWith(tracing, (wrap, unwrap) => {
    const feeds = mapTree(request.inputs as Tree<TensorSpec>, isSpec, ({ dtype, shape }, path) => {
      const dims = shape.map(compact);
      const sizes = dims.map((size) =>
        typeof size === "number" ? size : (table.sizes.get(size) as number),
      );
      const value = tracing.graph.input(`in/${path}`, dtype, sizes, dims);
      dims.forEach((size, axis) => {
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

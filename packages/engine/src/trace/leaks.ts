/** @file Compares two traces of one function: what differs depends on a symbolic size in a way no graph can express. */
import { EngineError } from "../errors.js";
import { type ConstantData, liveNodes, type Node, type Value } from "../onnx/graph.js";
import type { Tree } from "../types.js";
import { describeSize, explainNumber, factorise, type SymbolTable } from "./symbols.js";
import type { Tracing } from "./tracing.js";

export interface OneTrace {
  readonly tracing: Tracing;
  readonly table: SymbolTable;
  readonly outputs: readonly { readonly path: string; readonly value: Value }[];
  /** The tree of outputs, with places in `outputs` as leaves. */
  readonly tree: Tree<number>;
}

/** Where two traces differ first. */
export interface Difference {
  readonly node: Node | undefined;
  readonly what: string;
  readonly tables: readonly [SymbolTable, SymbolTable];
  /**
   * Whether a static size that happens to be a multiple of a stand-in would look like this: the same kernels were called,
   * and only the arithmetic of shapes differs.
   */
  readonly isMaybeChance: boolean;
}

/** Compares the live parts of two traces: dead code may depend on anything. */
export function compareTraces(a: OneTrace, b: OneTrace): Difference | undefined {
  const tables = [a.table, b.table] as const;
  const [left, right] = [liveOf(a), liveOf(b)];
  // Values correspond by where they are made, not by name: one trace may have merged more equal constants.
  const twins = new Map<string, string>();
  const sameCalls = callsOf(left).join() === callsOf(right).join();
  for (const [index, node] of left.entries()) {
    const other = right[index];
    if (!other || other.op !== node.op || other.inputs.length !== node.inputs.length)
      return { node, what: "the choice of operations", tables, isMaybeChance: sameCalls };
    const input = differentInput(node, other, a, b, twins);
    const what =
      differentAttribute(node, other, tables) ?? input ?? differentOutput(node, other, tables);
    if (what) {
      const isMaybeChance = sameCalls && (!input || isShapeArithmetic(node));
      return { node, what, tables, isMaybeChance };
    }
    node.outputs.forEach((output, place) => {
      twins.set(output.name, other.outputs[place]?.name ?? "");
    });
  }
  if (left.length !== right.length)
    return {
      node: right[left.length],
      what: "the number of operations",
      tables,
      isMaybeChance: sameCalls,
    };
  for (const [index, output] of a.outputs.entries()) {
    const twin = b.outputs[index];
    if (!twin || twin.path !== output.path)
      return { node: undefined, what: "the list of outputs", tables, isMaybeChance: false };
    if (!sameFactors(output.value, twin.value, tables))
      return {
        node: undefined,
        what: `the shape of the output "${output.path}"`,
        tables,
        isMaybeChance: sameCalls,
      };
    const constant = differentConstant(output.value, twin.value, a, b);
    if (constant) return { node: undefined, what: constant, tables, isMaybeChance: false };
  }
  return undefined;
}

/** The kernels that were called, without repetition: one kernel may make more nodes for a symbolic size. */
function callsOf(nodes: readonly Node[]): string[] {
  return nodes.map((node) => node.origin).filter((origin, at, all) => origin !== all[at - 1]);
}

/** Nodes that compute on shapes, or take one as an input. */
function isShapeArithmetic(node: Node): boolean {
  return node.inputs.some((input) => input?.type === "int64");
}

function liveOf(one: OneTrace): Node[] {
  return liveNodes(
    one.tracing.graph.nodes,
    one.outputs.map((output) => output.value),
  );
}

type Tables = readonly [SymbolTable, SymbolTable];

function differentAttribute(node: Node, other: Node, tables: Tables): string | undefined {
  for (const [key, value] of Object.entries(node.attributes)) {
    const twin = other.attributes[key];
    if (JSON.stringify(value) === JSON.stringify(twin)) continue;
    return `its attribute ${key} (${explain(value, twin, tables)})`;
  }
  return undefined;
}

function differentInput(
  node: Node,
  other: Node,
  a: OneTrace,
  b: OneTrace,
  twins: ReadonlyMap<string, string>,
): string | undefined {
  for (const [place, input] of node.inputs.entries()) {
    const twin = other.inputs[place];
    if (!input || !twin) {
      if (input !== twin) return "the choice of its inputs";
      continue;
    }
    const constant = differentConstant(input, twin, a, b);
    if (constant) return constant;
    const isConstant = a.tracing.graph.constants.has(input.name);
    if (!isConstant && (twins.get(input.name) ?? input.name) !== twin.name)
      return "the choice of its inputs";
  }
  return undefined;
}

function differentConstant(x: Value, y: Value, a: OneTrace, b: OneTrace): string | undefined {
  const left = a.tracing.graph.constants.get(x.name)?.data;
  const right = b.tracing.graph.constants.get(y.name)?.data;
  if (left === right) return undefined;
  if (!left || !right) return "the choice of its inputs";
  const tables = [a.table, b.table] as const;
  if (left.length !== right.length)
    return `the size of a constant array (${explain(left.length, right.length, tables)})`;
  for (let at = 0; at < left.length; at += 1)
    if (!Object.is(left[at], right[at]))
      return left.length === 1
        ? `a constant (${explain(left[at], right[at], tables)})`
        : `a constant array (${explain(left[at], right[at], tables)})`;
  return x.type === y.type ? undefined : "the type of a constant";
}

function differentOutput(node: Node, other: Node, tables: Tables): string | undefined {
  for (const [place, output] of node.outputs.entries()) {
    const twin = other.outputs[place] as Value;
    if (sameFactors(output, twin, tables)) continue;
    const axis = output.shape.findIndex((size, at) => size !== twin.shape[at]);
    return `the shape of its result (${explain(output.shape[axis], twin.shape[axis], tables)})`;
  }
  return undefined;
}

function sameFactors(a: Value, b: Value, [tableA, tableB]: Tables): boolean {
  return (
    a.shape.length === b.shape.length &&
    a.shape.every((size, axis) => {
      const x = factorise(size, tableA);
      const y = factorise(b.shape[axis] as number, tableB);
      return x.factor === y.factor && x.symbols.join() === y.symbols.join();
    })
  );
}

function explain(a: unknown, b: unknown, [tableA, tableB]: Tables): string {
  if (isNumeric(a) && isNumeric(b)) {
    const found = explainNumber(Number(a), Number(b), tableA, tableB);
    if (found) return found;
  }
  return `${print(a)} in one trace, ${print(b)} in another`;
}

function isNumeric(value: unknown): value is number | bigint {
  return typeof value === "number" || typeof value === "bigint";
}

function print(value: unknown): string {
  return typeof value === "object" && value !== null
    ? JSON.stringify(value)
    : String(value as ConstantData[number]);
}

/** What usually causes a leak through each kernel. */
const REMEDIES: Readonly<Record<string, string>> = {
  RealDiv:
    "A mean over a symbolic axis divides by its size, at the latest in its gradient: sum instead, and multiply with a fed weight such as 1 / rows.",
  Multiply: "Feed the number as an input.",
  PadV2: "The gradient of a slice pads by what was cut off: select with tf.gather instead.",
  Slice: "Select with tf.gather and fed indices, or name the sum in `sizes`.",
  Range: "Feed the positions as an input.",
};

export function leakError(name: string, { node, what, tables }: Difference): EngineError {
  const symbols = [...tables[0].sizes.keys()].join(", ");
  const shape = node?.outputs[0]?.shape.map((size) => describeSize(size, tables[0])).join(", ");
  const where = node
    ? ` of the operation ${node.origin || node.op} (ONNX ${node.op}, result [${shape}]${node.place ? `, at ${node.place}` : ""})`
    : "";
  if (symbols === "")
    return new EngineError(
      "SYMBOL_LEAK",
      `[${name}] something that differs from trace to trace leaks into ${what}${where}, and would be frozen there. Use random numbers only through the engine's own functions (dropout, uniform), and feed counters and times as inputs.`,
    );
  const remedy =
    REMEDIES[node?.origin ?? ""] ??
    "Only products of symbolic sizes, and the sums that inputs or `sizes` name, can be traced: feed positions, counts and weights as inputs, select with tf.gather, and use random numbers only through the engine's own functions.";
  return new EngineError(
    "SYMBOL_LEAK",
    `[${name}] a symbolic size (${symbols}), or something else that differs from trace to trace, leaks into ${what}${where}. ${remedy}`,
  );
}

/** @file Matrix products, reductions, softmax and scans. */
import { EngineError } from "../../errors.js";
import type { Value } from "../../onnx/graph.js";
import { broadcastShape, type Tracing } from "../tracing.js";
import { axesOf, type KernelTable, type TraceKernel } from "./kernel.js";

/** Products of two matrices go to Gemm, which transposes for free; batches to MatMul. */
export function matMul(
  t: Tracing,
  a: Value,
  b: Value,
  transposeA: boolean,
  transposeB: boolean,
): Value {
  if (a.shape.length === 2 && b.shape.length === 2) {
    const rows = a.shape[transposeA ? 1 : 0] as number;
    const columns = b.shape[transposeB ? 0 : 1] as number;
    return t.graph.node(
      "Gemm",
      [a, b],
      { type: "float32", shape: [rows, columns] },
      { transA: transposeA ? 1 : 0, transB: transposeB ? 1 : 0 },
    );
  }
  const left = transposeA ? swapLast(t, a) : a;
  const right = transposeB ? swapLast(t, b) : b;
  const outer = broadcastShape(left.shape.slice(0, -2), right.shape.slice(0, -2));
  const shape = [...outer, left.shape.at(-2) as number, right.shape.at(-1) as number];
  return t.graph.node("MatMul", [left, right], { type: "float32", shape });
}

function swapLast(t: Tracing, value: Value): Value {
  const rank = value.shape.length;
  const perm = Array.from({ length: rank }, (_, axis) => axis);
  return t.transpose(value, [...perm.slice(0, -2), rank - 1, rank - 2]);
}

const reduce =
  (op: string): TraceKernel =>
  ({ t, input, attrs }) => {
    const x = input("x");
    return t.reduce(op, x, axesOf(attrs.axis, x.shape.length), attrs.keepDims === true);
  };

/** Bool reductions go through int32: ONNX has none of its own. */
const reduceBool =
  (op: string): TraceKernel =>
  ({ t, input, attrs }) => {
    const x = t.cast(input("x"), "int32");
    return t.cast(
      t.reduce(op, x, axesOf(attrs.axis, x.shape.length), attrs.keepDims === true),
      "bool",
    );
  };

/** Ties go to the lowest index. */
const argReduce =
  (op: string): TraceKernel =>
  ({ t, input, attrs }) => {
    const x = input("x");
    const [axis] = axesOf(
      Array.isArray(attrs.axis) ? attrs.axis : [attrs.axis ?? 0],
      x.shape.length,
    );
    const shape = x.shape.filter((_, index) => index !== axis);
    const found = t.graph.node(
      op,
      [x],
      { type: "int64", shape },
      { axis: axis as number, keepdims: 0, select_last_index: 0 },
    );
    return t.cast(found, "int32");
  };

const softmax: TraceKernel = ({ t, input, attrs }) => {
  const x = input("logits");
  const [axis] = axesOf([attrs.dim ?? -1], x.shape.length);
  return t.graph.node("Softmax", [x], { type: x.type, shape: x.shape }, { axis: axis as number });
};

const scan: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const [axis] = axesOf([attrs.axis ?? 0], x.shape.length);
  return t.graph.node(
    "CumSum",
    [x, t.graph.scalar("int64", axis as number)],
    { type: x.type, shape: x.shape },
    { exclusive: attrs.exclusive ? 1 : 0, reverse: attrs.reverse ? 1 : 0 },
  );
};

const topK: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const k = attrs.k as number;
  const shape = [...x.shape.slice(0, -1), k];
  const [values, indices] = t.graph.nodeOf(
    "TopK",
    [x, t.graph.ints([k])],
    [
      { type: x.type, shape },
      { type: "int64", shape },
    ],
    { axis: x.shape.length - 1, largest: 1, sorted: attrs.sorted === false ? 0 : 1 },
  );
  return [values as Value, t.cast(indices as Value, "int32")];
};

const ACTIVATIONS: Readonly<Record<string, string>> = {
  linear: "",
  relu: "Relu",
  elu: "Elu",
  sigmoid: "Sigmoid",
};

/** `tf.fused.matMul`. */
const fusedMatMul: TraceKernel = ({ t, has, input, attrs }) => {
  const product = matMul(
    t,
    input("a"),
    input("b"),
    attrs.transposeA === true,
    attrs.transposeB === true,
  );
  const sum = has("bias") ? t.binary("Add", product, input("bias")) : product;
  const op = ACTIVATIONS[attrs.activation as string];
  if (op === undefined)
    throw new EngineError(
      "UNMAPPED_KERNEL",
      `[${t.name}] the TensorFlow.js kernel _FusedMatMul with the activation ${attrs.activation} has no mapping to ONNX. Apply the activation in a call of its own.`,
    );
  return op === "" ? sum : t.unary(op, sum);
};

const einsum: TraceKernel = ({ t, inputs, attrs }) => {
  const values = inputs();
  const equation = (attrs.equation as string).replace(/\s+/g, "");
  const [left = "", right = ""] = equation.split("->");
  const sizes = new Map<string, number>();
  left.split(",").forEach((letters, place) => {
    [...letters].forEach((letter, axis) => {
      sizes.set(letter, values[place]?.shape[axis] as number);
    });
  });
  const shape = [...right].map((letter) => sizes.get(letter) as number);
  return t.graph.node("Einsum", values, { type: "float32", shape }, { equation });
};

export const linalg: KernelTable = {
  _FusedMatMul: fusedMatMul,
  Einsum: einsum,
  All: reduceBool("ReduceMin"),
  Any: reduceBool("ReduceMax"),
  ArgMax: argReduce("ArgMax"),
  ArgMin: argReduce("ArgMin"),
  BatchMatMul: ({ t, input, attrs }) =>
    matMul(t, input("a"), input("b"), attrs.transposeA === true, attrs.transposeB === true),
  Cumsum: scan,
  Max: ({ t, input, attrs }) => {
    const x = input("x");
    return t.reduce(
      "ReduceMax",
      x,
      axesOf(attrs.reductionIndices ?? attrs.axis, x.shape.length),
      attrs.keepDims === true,
    );
  },
  Mean: reduce("ReduceMean"),
  Min: reduce("ReduceMin"),
  Prod: reduce("ReduceProd"),
  Softmax: softmax,
  Sum: reduce("ReduceSum"),
  TopK: topK,
};

/** @file Kernels that move numbers without computing: reshaping, slicing, gathering, joining, filling. */
import * as tf from "@tensorflow/tfjs";
import { EngineError } from "../../errors.js";
import type { Value, ValueType } from "../../onnx/graph.js";
import { sameShape, type Tracing } from "../tracing.js";
import { axesOf, type KernelTable, type TraceKernel } from "./kernel.js";

/** ONNX Slice reads "to the end" from any end beyond it. */
const TO_END = 2 ** 31 - 1;

/** A slice; an axis that is kept whole stays whole at every size of its symbol. */
export function slice(
  t: Tracing,
  x: Value,
  begin: readonly number[],
  size: readonly number[],
): Value {
  const axes = begin
    .map((_, axis) => axis)
    .filter((axis) => begin[axis] !== 0 || size[axis] !== x.shape[axis]);
  if (axes.length === 0) return x;
  const ends = axes.map((axis) => {
    const end = (begin[axis] as number) + (size[axis] as number);
    return end === x.shape[axis] ? TO_END : end;
  });
  return t.graph.node(
    "Slice",
    [x, t.shape(axes.map((axis) => begin[axis] as number)), t.shape(ends), t.graph.ints(axes)],
    { type: x.type, shape: size },
  );
}

const sliceKernel: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const begin = tf.slice_util.parseSliceParams(
    { shape: [...x.shape], rank: x.shape.length } as never,
    attrs.begin as number[],
    attrs.size as number[],
  );
  return slice(t, x, begin[0] as number[], begin[1] as number[]);
};

const stridedSlice: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const number = (name: string) => attrs[name] as number;
  const info = tf.slice_util.sliceInfo(
    [...x.shape],
    attrs.begin as number[],
    attrs.end as number[],
    attrs.strides as number[],
    number("beginMask"),
    number("endMask"),
    number("ellipsisMask"),
    number("newAxisMask"),
    number("shrinkAxisMask"),
  );
  const axes = info.begin.map((_, axis) => axis);
  const ends = info.end.map((end, axis) =>
    (info.strides[axis] as number) > 0
      ? end === x.shape[axis]
        ? TO_END
        : end
      : end < 0
        ? -TO_END
        : end,
  );
  const cut = t.graph.node(
    "Slice",
    [
      x,
      t.graph.ints(info.begin),
      t.graph.ints(ends),
      t.graph.ints(axes),
      t.graph.ints(info.strides),
    ],
    { type: x.type, shape: info.finalShapeSparse },
  );
  return t.reshape(cut, info.finalShape);
};

const gather: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const indices = t.cast(input("indices"), "int32");
  const [axis] = axesOf([attrs.axis ?? 0], x.shape.length);
  const batchDims = (attrs.batchDims as number | undefined) ?? 0;
  if (batchDims !== 0) {
    if (batchDims !== axis)
      throw new EngineError(
        "UNMAPPED_KERNEL",
        `[${t.name}] the TensorFlow.js kernel GatherV2 with batchDims ${batchDims} and axis ${axis} has no mapping to ONNX. Make them equal, or use a product with tf.oneHot.`,
      );
    const pointers = t.cast(unsqueeze(t, indices, indices.shape.length), "int64");
    const rows = [...indices.shape, ...x.shape.slice(axis + 1)];
    return t.graph.node(
      "GatherND",
      [x, pointers],
      { type: x.type, shape: rows },
      { batch_dims: batchDims },
    );
  }
  const shape = [
    ...x.shape.slice(0, axis),
    ...indices.shape,
    ...x.shape.slice((axis as number) + 1),
  ];
  return t.graph.node("Gather", [x, indices], { type: x.type, shape }, { axis: axis as number });
};

const gatherNd: TraceKernel = ({ t, input }) => {
  const x = input("params");
  const indices = t.cast(input("indices"), "int64");
  const depth = indices.shape.at(-1) as number;
  const shape = [...indices.shape.slice(0, -1), ...x.shape.slice(depth)];
  return t.graph.node("GatherND", [x, indices], { type: x.type, shape });
};

export function concat(t: Tracing, values: readonly Value[], axis: number): Value {
  const first = values[0] as Value;
  const shape = first.shape.map((size, index) =>
    index === axis ? values.reduce((sum, value) => sum + (value.shape[axis] as number), 0) : size,
  );
  return t.graph.node("Concat", values, { type: first.type, shape }, { axis });
}

const concatKernel: TraceKernel = ({ t, inputs, attrs }) => {
  const values = inputs();
  const [axis] = axesOf([attrs.axis ?? 0], values[0]?.shape.length ?? 0);
  return values.length === 1 ? (values[0] as Value) : concat(t, values, axis as number);
};

const pack: TraceKernel = ({ t, inputs, attrs }) => {
  const values = inputs();
  const [axis] = axesOf([attrs.axis ?? 0], (values[0]?.shape.length ?? 0) + 1);
  return concat(
    t,
    values.map((value) => unsqueeze(t, value, axis as number)),
    axis as number,
  );
};

function unsqueeze(t: Tracing, value: Value, axis: number): Value {
  const shape = [...value.shape.slice(0, axis), 1, ...value.shape.slice(axis)];
  return t.graph.node("Unsqueeze", [value, t.graph.ints([axis])], { type: value.type, shape });
}

const unpack: TraceKernel = ({ t, input, attrs }) => {
  const x = input("value");
  const [axis] = axesOf([attrs.axis ?? 0], x.shape.length);
  const shape = x.shape.filter((_, index) => index !== axis);
  return Array.from({ length: x.shape[axis as number] as number }, (_, index) =>
    t.graph.node(
      "Gather",
      [x, t.graph.scalar("int64", index)],
      { type: x.type, shape },
      { axis: axis as number },
    ),
  );
};

const split: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const [axis] = axesOf([attrs.axis ?? 0], x.shape.length);
  const sizes = tf.backend_util.prepareSplitSize(
    { shape: [...x.shape] } as never,
    attrs.numOrSizeSplits as number | number[],
    axis as number,
  );
  if (sizes.length === 1) return [x];
  const shapes = sizes.map((size) => x.shape.map((full, index) => (index === axis ? size : full)));
  return [
    ...t.graph.nodeOf(
      "Split",
      [x, t.shape(sizes)],
      shapes.map((shape) => ({ type: x.type, shape })),
      { axis: axis as number },
    ),
  ];
};

const pad: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const paddings = attrs.paddings as [number, number][];
  const shape = x.shape.map((size, axis) => {
    const [before, after] = paddings[axis] as [number, number];
    return size + before + after;
  });
  const fill = t.graph.scalar(x.type as "float32", (attrs.constantValue as number) ?? 0);
  return t.graph.node(
    "Pad",
    [x, padAmounts(t, x, paddings, shape), fill],
    { type: x.type, shape },
    { mode: "constant" },
  );
};

/**
 * How much to pad, all begins and then all ends. Where a static size is padded up to a symbolic one (the gradient of a
 * slice of one token pads it by `length - 1`), the amount is what is missing.
 */
function padAmounts(
  t: Tracing,
  x: Value,
  paddings: readonly (readonly [number, number])[],
  shape: readonly number[],
): Value {
  const isOpen = x.shape.map(
    (size, axis) => t.isSymbolic(shape[axis] as number) && !t.isSymbolic(size),
  );
  const begins = paddings.map(([before]) => before);
  if (!isOpen.includes(true))
    return t.graph.ints([...begins, ...paddings.map(([, after]) => after)]);
  const ends = paddings.map(([before, after], axis) =>
    isOpen[axis]
      ? t.graph.node(
          "Sub",
          [t.size(shape[axis] as number), t.graph.ints([before + (x.shape[axis] as number)])],
          { type: "int64", shape: [1] },
        )
      : t.graph.ints([after]),
  );
  return t.graph.node(
    "Concat",
    [t.graph.ints(begins), ...ends],
    { type: "int64", shape: [2 * shape.length] },
    { axis: 0 },
  );
}

const mirrorPad: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const paddings = attrs.paddings as [number, number][];
  if (attrs.mode !== "reflect")
    throw new EngineError(
      "UNMAPPED_KERNEL",
      `[${t.name}] the TensorFlow.js kernel MirrorPad with the mode ${attrs.mode} has no mapping to ONNX. Use "reflect", or tf.concat.`,
    );
  const shape = x.shape.map((size, axis) => {
    const [before, after] = paddings[axis] as [number, number];
    return size + before + after;
  });
  const pads = [...paddings.map(([before]) => before), ...paddings.map(([, after]) => after)];
  return t.graph.node("Pad", [x, t.graph.ints(pads)], { type: x.type, shape }, { mode: "reflect" });
};

const reverse: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const axes = axesOf(attrs.dims, x.shape.length);
  if (axes.length === 0) return x;
  return t.graph.node(
    "Slice",
    [
      x,
      t.graph.ints(axes.map(() => -1)),
      t.graph.ints(axes.map(() => -TO_END)),
      t.graph.ints(axes),
      t.graph.ints(axes.map(() => -1)),
    ],
    { type: x.type, shape: x.shape },
  );
};

const tile: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const reps = attrs.reps as number[];
  const shape = x.shape.map((size, axis) => size * (reps[axis] as number));
  if (sameShape(shape, x.shape)) return x;
  // Repeating an axis of size 1 is an Expand, which ONNX Runtime does without index arithmetic.
  if (reps.every((count, axis) => count === 1 || x.shape[axis] === 1)) return t.expand(x, shape);
  return t.graph.node("Tile", [x, t.shape(reps)], { type: x.type, shape });
};

const oneHot: TraceKernel = ({ t, input, attrs }) => {
  const indices = input("indices");
  const depth = attrs.depth as number;
  const type = ((attrs.dtype as string | undefined) ?? "int32") as ValueType;
  const values = t.graph.constant(
    "float32",
    [2],
    Float32Array.of((attrs.offValue as number) ?? 0, (attrs.onValue as number) ?? 1),
  );
  // Only int64 indices have a kernel in ONNX Runtime. Negative indices count from the end there and mean "none" here.
  const wide = t.cast(indices, "int64");
  const outside = t.graph.scalar("int64", depth);
  const none = t.binary("Less", wide, t.graph.scalar("int64", 0), "bool");
  const safe = t.graph.node("Where", [none, outside, wide], { type: "int64", shape: wide.shape });
  const hot = t.graph.node(
    "OneHot",
    [safe, t.graph.ints([depth]), values],
    { type: "float32", shape: [...indices.shape, depth] },
    { axis: -1 },
  );
  return t.cast(hot, type);
};

/**
 * Sums rows by segment.
 *
 * ScatterElements and not ScatterND: with repeated indices and several threads ONNX Runtime's ScatterND loses additions.
 */
const unsortedSegmentSum: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const ids = input("segmentIds");
  const rank = ids.shape.length;
  const rows = ids.shape.reduce((product, size) => product * size, 1);
  const rest = x.shape.slice(rank);
  const width = rest.reduce((product, size) => product * size, 1);
  const flat = t.reshape(x, [rows, width]);
  const index = t.expand(t.reshape(ids, [rows, 1]), [rows, width]);
  const segments = attrs.numSegments as number;
  const sum = t.graph.node(
    "ScatterElements",
    [t.fill("float32", [segments, width], 0), index, flat],
    { type: x.type, shape: [segments, width] },
    { axis: 0, reduction: "add" },
  );
  return t.reshape(sum, [segments, ...rest]);
};

const range: TraceKernel = ({ t, attrs }) => {
  const values = rangeValues(attrs);
  const type = (attrs.dtype as "float32" | "int32" | undefined) ?? "float32";
  return t.graph.constant(
    type,
    [values.length],
    type === "int32" ? Int32Array.from(values) : Float32Array.from(values),
  );
};

function rangeValues(attrs: Readonly<Record<string, unknown>>): number[] {
  const [start, stop, step] = [attrs.start, attrs.stop, attrs.step] as [number, number, number];
  const count = Math.max(0, Math.ceil((stop - start) / step));
  return Array.from({ length: count }, (_, index) => start + index * step);
}

const linSpace: TraceKernel = ({ t, attrs }) => {
  const [start, stop, count] = [attrs.start, attrs.stop, attrs.num] as [number, number, number];
  const width = count > 1 ? (stop - start) / (count - 1) : 0;
  return t.graph.constant(
    "float32",
    [count],
    Float32Array.from({ length: count }, (_, index) => start + index * width),
  );
};

export const shape: KernelTable = {
  Concat: concatKernel,
  ExpandDims: ({ t, input, attrs }) => {
    const x = input("input");
    const [axis] = axesOf([attrs.dim], x.shape.length + 1);
    return unsqueeze(t, x, axis as number);
  },
  Fill: ({ t, attrs }) =>
    t.fill(
      ((attrs.dtype as string | undefined) ?? "float32") as "float32",
      attrs.shape as number[],
      attrs.value as number,
    ),
  GatherNd: gatherNd,
  GatherV2: gather,
  LinSpace: linSpace,
  MirrorPad: mirrorPad,
  OneHot: oneHot,
  Pack: pack,
  PadV2: pad,
  Range: range,
  Reshape: ({ t, input, attrs }) => {
    const x = input("x");
    const wanted = attrs.shape as number[];
    return t.reshape(
      x,
      tf.util.inferFromImplicitShape(wanted, tf.util.sizeFromShape([...x.shape])),
    );
  },
  Reverse: reverse,
  Slice: sliceKernel,
  SplitV: split,
  StridedSlice: stridedSlice,
  Tile: tile,
  Transpose: ({ t, input, attrs }) => t.transpose(input("x"), attrs.perm as number[]),
  Unpack: unpack,
  UnsortedSegmentSum: unsortedSegmentSum,
};

import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  createEngine,
  createRng,
  type Engine,
  type HostTensor,
  type SpecTree,
  type TensorTree,
} from "../src/index.js";
import { kernels } from "../src/trace/kernels/index.js";
import { quietCpu } from "./quiet-cpu.js";

type Kind = "float" | "positive" | "unit" | "above1" | "int" | "nonzero" | "ids" | "bool" | "ties";
type Inputs = Record<string, tf.Tensor>;

interface Case {
  /** Kernel names that the case is about. */
  readonly kernel: string;
  readonly fn: (inputs: Inputs) => TensorTree;
  readonly inputs: Readonly<Record<string, readonly [Kind, ...(number | string)[]]>>;
  readonly rtol?: number;
  readonly atol?: number;
}

const rng = createRng("kernels");

function draw(kind: Kind, shape: readonly number[]): HostTensor {
  const size = shape.reduce((product, n) => product * n, 1);
  const fill = (next: () => number) => Float32Array.from({ length: size }, next);
  const fillInt = (next: () => number) => Int32Array.from({ length: size }, next);
  switch (kind) {
    case "float":
      return { dtype: "float32", shape, data: fill(() => 1.5 * rng.normal()) };
    case "positive":
      return { dtype: "float32", shape, data: fill(() => 0.01 + 3 * rng.next()) };
    case "unit":
      return { dtype: "float32", shape, data: fill(() => 1.98 * rng.next() - 0.99) };
    case "above1":
      return { dtype: "float32", shape, data: fill(() => 1.01 + 5 * rng.next()) };
    case "ties":
      return { dtype: "float32", shape, data: fill(() => rng.int(3)) };
    case "int":
      return { dtype: "int32", shape, data: fillInt(() => rng.int(41) - 20) };
    case "nonzero":
      return {
        dtype: "int32",
        shape,
        data: fillInt(() => (1 + rng.int(9)) * (rng.int(2) === 0 ? 1 : -1)),
      };
    case "ids":
      return { dtype: "int32", shape, data: fillInt(() => rng.int(5)) };
    case "bool":
      return { dtype: "bool", shape, data: Uint8Array.from({ length: size }, () => rng.int(2)) };
  }
}

const x = (i: Inputs) => i.x as tf.Tensor;
const y = (i: Inputs) => i.y as tf.Tensor;

const rows = ["float", "B", "S", 4] as const;
const unary = (kernel: string, op: (t: tf.Tensor) => tf.Tensor, kind: Kind = "float"): Case => ({
  kernel,
  fn: (i) => op(x(i)),
  inputs: { x: [kind, "B", "S", 4] },
});
const binary = (
  kernel: string,
  op: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor,
  a: Kind = "float",
  b: Kind = a,
): Case => ({
  kernel,
  fn: (i) => [op(x(i), y(i)), op(tf.gather(x(i), tf.tensor1d([0], "int32")), y(i))],
  inputs: { x: [a, "B", "S", 4], y: [b, "S", 4] },
});

const cases: readonly Case[] = [
  unary("Abs", tf.abs),
  unary("Abs", tf.abs, "int"),
  unary("Acos", tf.acos, "unit"),
  unary("Acosh", tf.acosh, "above1"),
  unary("Asin", tf.asin, "unit"),
  unary("Asinh", tf.asinh),
  unary("Atan", tf.atan),
  unary("Atanh", tf.atanh, "unit"),
  unary("Ceil", tf.ceil),
  unary("Cos", tf.cos),
  unary("Cosh", tf.cosh),
  unary("Elu", tf.elu),
  unary("Erf", tf.erf),
  unary("Exp", tf.exp),
  unary("Expm1", tf.expm1),
  unary("Expm1", (t) => tf.expm1(tf.mul(t, 1e-4))),
  unary("Floor", tf.floor),
  unary("IsFinite", (t) => tf.isFinite(tf.div(t, tf.sub(tf.abs(t), tf.abs(t))))),
  unary("IsInf", (t) => tf.isInf(tf.div(t, tf.sub(t, t)))),
  unary("IsNan", (t) => tf.isNaN(tf.log(t))),
  unary("LeakyRelu", (t) => tf.leakyRelu(t, 0.3)),
  unary("Log", tf.log, "positive"),
  unary("Log1p", tf.log1p, "positive"),
  unary("Log1p", (t) => tf.log1p(tf.mul(t, 1e-5)), "positive"),
  unary("LogicalNot", tf.logicalNot, "bool"),
  unary("Neg", tf.neg),
  unary("Neg", tf.neg, "int"),
  unary("OnesLike", tf.onesLike),
  unary("ZerosLike", tf.zerosLike, "int"),
  unary("Reciprocal", tf.reciprocal, "positive"),
  unary("Relu", tf.relu),
  unary("Relu", tf.relu, "int"),
  unary("Relu6", (t) => tf.relu6(tf.mul(t, 4))),
  unary("Round", (t) => tf.round(tf.mul(t, 2))),
  unary("Rsqrt", tf.rsqrt, "positive"),
  unary("Selu", tf.selu),
  unary("Sigmoid", tf.sigmoid),
  unary("Sign", tf.sign),
  unary("Sin", tf.sin),
  unary("Sinh", tf.sinh),
  unary("Softplus", (t) => tf.softplus(tf.mul(t, 20))),
  unary("Sqrt", tf.sqrt, "positive"),
  unary("Square", tf.square),
  unary("Square", tf.square, "int"),
  unary("Step", (t) => tf.step(t, 0.25)),
  unary("Tan", tf.tan, "unit"),
  unary("Tanh", tf.tanh),
  unary("Identity", (t) => tf.clone(t)),
  unary("ClipByValue", (t) => tf.clipByValue(t, -0.5, 1)),
  unary("Cast", (t) => [tf.cast(tf.mul(t, 3), "int32"), tf.cast(t, "bool")] as never),
  unary("Cast", (t) => [tf.cast(t, "float32"), tf.cast(t, "bool")] as never, "int"),
  unary("Cast", (t) => [tf.cast(t, "float32"), tf.cast(t, "int32")] as never, "bool"),
  { kernel: "EluGrad", fn: (i) => tf.grad((t) => tf.elu(t))(x(i)), inputs: { x: rows } },
  {
    kernel: "Prelu",
    fn: (i) => tf.prelu(x(i), y(i)),
    inputs: { x: rows, y: ["float", 4] },
  },
  binary("Add", tf.add),
  binary("Add", tf.add, "int"),
  binary("Sub", tf.sub),
  binary("Sub", tf.sub, "int"),
  binary("Multiply", tf.mul),
  binary("Multiply", tf.mul, "int"),
  binary("RealDiv", tf.div, "float", "positive"),
  binary("FloorDiv", tf.floorDiv, "int", "nonzero"),
  binary("FloorDiv", tf.floorDiv, "float", "positive"),
  binary("Mod", tf.mod, "int", "nonzero"),
  binary("Mod", tf.mod, "float", "positive"),
  binary("Pow", tf.pow, "positive", "float"),
  binary("Atan2", tf.atan2),
  binary("Atan2", tf.atan2, "ties"),
  binary("Maximum", tf.maximum),
  binary("Maximum", tf.maximum, "int"),
  binary("Minimum", tf.minimum),
  binary("SquaredDifference", tf.squaredDifference),
  binary("Equal", tf.equal, "ids"),
  binary("Equal", tf.equal, "ties"),
  binary("NotEqual", tf.notEqual, "ids"),
  binary("Greater", tf.greater, "ids"),
  binary("GreaterEqual", tf.greaterEqual, "ties"),
  binary("Less", tf.less, "ties"),
  binary("LessEqual", tf.lessEqual, "ids"),
  binary("LogicalAnd", tf.logicalAnd, "bool"),
  binary("LogicalOr", tf.logicalOr, "bool"),
  {
    kernel: "AddN",
    fn: (i) => tf.addN([x(i), x(i), tf.neg(x(i))]),
    inputs: { x: rows },
  },
  {
    kernel: "BitwiseAnd",
    fn: (i) => tf.bitwiseAnd(x(i), y(i)),
    inputs: { x: ["int", "B", 3], y: ["int", "B", 3] },
  },
  {
    kernel: "Select",
    fn: (i) => [
      tf.where(i.c as tf.Tensor, x(i), y(i)),
      tf.where(i.r as tf.Tensor, x(i), tf.zerosLike(x(i))),
    ],
    inputs: { x: rows, y: ["float", 4], c: ["bool", "B", "S", 4], r: ["bool", "B", 1, 1] },
  },
  {
    kernel: "BatchMatMul",
    fn: (i) => [
      tf.matMul(x(i), y(i)),
      tf.matMul(x(i), x(i), true, false),
      tf.matMul(x(i), x(i), false, true),
    ],
    inputs: { x: ["float", "B", 3, "S", 4], y: ["float", "B", 3, 4, 5] },
    atol: 1e-5,
  },
  {
    kernel: "BatchMatMul",
    fn: (i) => [
      tf.matMul(x(i), y(i)),
      tf.matMul(x(i), x(i), true, false),
      tf.matMul(x(i), x(i), false, true),
      tf.matMul(y(i), x(i), true, true),
    ],
    inputs: { x: ["float", "B", 4], y: ["float", 4, 5] },
    atol: 1e-5,
  },
  {
    kernel: "_FusedMatMul",
    fn: (i) =>
      tf.fused.matMul({
        a: x(i) as tf.Tensor2D,
        b: y(i) as tf.Tensor2D,
        bias: i.c as tf.Tensor,
        activation: "relu",
      }),
    inputs: { x: ["float", "B", 4], y: ["float", 4, 5], c: ["float", 5] },
    atol: 1e-5,
  },
  {
    kernel: "Einsum",
    fn: (i) => tf.einsum("bsh,bth->bst", x(i), y(i)),
    inputs: { x: ["float", "B", "S", 4], y: ["float", "B", 5, 4] },
    atol: 1e-5,
  },
  ...(
    [
      ["Sum", tf.sum],
      ["Mean", tf.mean],
      ["Max", tf.max],
      ["Min", tf.min],
      ["Prod", tf.prod],
    ] as const
  ).map(
    ([kernel, reduce]): Case => ({
      kernel,
      fn: (i) => [reduce(x(i), 2), reduce(x(i), -1, true), reduce(x(i), [0, 1]), reduce(x(i))],
      inputs: { x: rows },
      atol: 1e-5,
    }),
  ),
  {
    kernel: "Sum",
    fn: (i) => [tf.sum(x(i), 1), tf.max(x(i), 0), tf.min(x(i), 1), tf.sum(tf.cast(x(i), "bool"))],
    inputs: { x: ["int", "B", "S"] },
  },
  {
    kernel: "All",
    fn: (i) => [tf.all(x(i), 1), tf.all(x(i), 0, true), tf.all(x(i))],
    inputs: { x: ["bool", "B", 2] },
  },
  {
    kernel: "Any",
    fn: (i) => [tf.any(x(i), 1), tf.any(x(i), 0, true), tf.any(x(i))],
    inputs: { x: ["bool", "B", 2] },
  },
  {
    kernel: "ArgMax",
    fn: (i) => [tf.argMax(x(i), -1), tf.argMax(x(i), 0)],
    inputs: { x: ["ties", "B", "S", 6] },
  },
  {
    kernel: "ArgMin",
    fn: (i) => [tf.argMin(x(i), -1), tf.argMin(x(i), 1)],
    inputs: { x: ["ties", "B", "S", 6] },
  },
  {
    kernel: "Softmax",
    fn: (i) => [tf.softmax(x(i)), tf.softmax(tf.mul(x(i), 40))],
    inputs: { x: rows },
  },
  {
    kernel: "Max",
    fn: (i) => [tf.logSoftmax(x(i)), tf.logSoftmax(tf.mul(x(i), 40))],
    inputs: { x: rows },
  },
  {
    kernel: "Cumsum",
    fn: (i) => [
      tf.cumsum(x(i), 1),
      tf.cumsum(x(i), 2, true),
      tf.cumsum(x(i), 0, false, true),
      tf.cumsum(x(i), 2, true, true),
    ],
    inputs: { x: rows },
    atol: 1e-5,
  },
  {
    kernel: "TopK",
    fn: (i) => {
      const { values, indices } = tf.topk(x(i), 3);
      return { values, indices };
    },
    inputs: { x: ["ties", "B", 7] },
  },
  {
    kernel: "GatherV2",
    fn: (i) => [
      tf.gather(x(i), i.ids as tf.Tensor, 0),
      tf.gather(x(i), tf.reshape(i.ids as tf.Tensor, [-1]) as tf.Tensor1D, 1),
    ],
    inputs: { x: ["float", 5, 6, 3], ids: ["ids", "B", 2] },
  },
  {
    kernel: "GatherV2",
    fn: (i) => tf.gather(x(i), i.ids as tf.Tensor, 1, 1),
    inputs: { x: ["float", "B", 6, 3], ids: ["ids", "B", 2] },
  },
  {
    kernel: "GatherNd",
    fn: (i) => tf.gatherND(x(i), i.ids as tf.Tensor),
    inputs: { x: ["float", 5, 5, 3], ids: ["ids", "B", 2] },
  },
  {
    kernel: "UnsortedSegmentSum",
    fn: (i) => [
      tf.unsortedSegmentSum(x(i), i.ids as tf.Tensor1D, 5),
      tf.grad((table) => tf.sum(tf.square(tf.gather(table, i.ids as tf.Tensor1D))))(y(i)),
    ],
    inputs: { x: ["float", "B", 64], ids: ["ids", "B"], y: ["float", 5, 64] },
    atol: 1e-5,
  },
  {
    kernel: "Slice",
    fn: (i) => [
      tf.slice(x(i), [0, 0, 1], [-1, -1, 2]),
      tf.slice(x(i), [1, 0, 0], [1, -1, -1]),
      tf.grad((t) => tf.sum(tf.square(tf.slice(t, [0, 0, 0], [-1, 1, -1]))))(x(i)),
      tf.grad((t) => tf.sum(tf.square(tf.slice(t, [0, 0, 1], [-1, -1, 2]))))(x(i)),
    ],
    inputs: { x: rows },
  },
  {
    kernel: "StridedSlice",
    fn: (i) => [
      tf.stridedSlice(x(i), [0, 0, 3], [0, 0, 0], [1, 1, -2], 3, 3),
      tf.stridedSlice(x(i), [0, 0, 0], [0, 0, 4], [1, 1, 2], 3, 3),
    ],
    inputs: { x: rows },
  },
  {
    kernel: "Concat",
    fn: (i) => [tf.concat([x(i), x(i), tf.neg(x(i))], 2), tf.concat([x(i), x(i)], 0)],
    inputs: { x: rows },
  },
  {
    kernel: "Pack",
    fn: (i) => [tf.stack([x(i), tf.neg(x(i))], 1), tf.stack([x(i), x(i)], -1)],
    inputs: { x: rows },
  },
  { kernel: "Unpack", fn: (i) => tf.unstack(x(i), 2), inputs: { x: rows } },
  {
    kernel: "SplitV",
    fn: (i) => [...tf.split(x(i), 2, 2), ...tf.split(x(i), [1, 3], -1)],
    inputs: { x: rows },
  },
  {
    kernel: "PadV2",
    fn: (i) =>
      tf.pad(
        x(i),
        [
          [0, 0],
          [1, 2],
          [0, 1],
        ],
        0.5,
      ),
    inputs: { x: ["float", "B", 3, 4] },
  },
  {
    kernel: "MirrorPad",
    fn: (i) =>
      tf.mirrorPad(
        x(i),
        [
          [0, 0],
          [2, 1],
        ],
        "reflect",
      ),
    inputs: { x: ["float", "B", 4] },
  },
  {
    kernel: "Tile",
    fn: (i) => [
      tf.tile(x(i), [1, 2, 3]),
      tf.tile(y(i), [x(i).shape[0], 1]),
      tf.tile(tf.reshape(y(i), [4]), [x(i).shape[1] as number]),
    ],
    inputs: { x: rows, y: ["float", 1, 4] },
  },
  {
    kernel: "Tile",
    fn: (i) => tf.broadcastTo(y(i), x(i).shape as never),
    inputs: { x: rows, y: ["float", 1, 4] },
  },
  {
    kernel: "Transpose",
    fn: (i) => [tf.transpose(x(i), [2, 0, 1]), tf.transpose(x(i))],
    inputs: { x: rows },
  },
  {
    kernel: "Reshape",
    fn: (i) => {
      const [B, S, H] = x(i).shape as [number, number, number];
      const flat = tf.reshape(x(i), [B * S, H]);
      return [
        flat,
        tf.reshape(flat, [B, S, 2, 2]),
        tf.reshape(x(i), [B, S * H]),
        tf.reshape(x(i), [-1, 2]),
        tf.reshape(x(i), [S, B, 2, 2]),
        tf.reshape(x(i), [1, B, 1, S, H]),
      ];
    },
    inputs: { x: rows },
  },
  {
    kernel: "ExpandDims",
    fn: (i) => [tf.expandDims(x(i), 1), tf.expandDims(x(i), -1)],
    inputs: { x: rows },
  },
  {
    kernel: "Reverse",
    fn: (i) => [tf.reverse(x(i), 1), tf.reverse(x(i), [0, 2])],
    inputs: { x: rows },
  },
  {
    kernel: "OneHot",
    fn: (i) => [
      tf.oneHot(x(i), 4, 1, 0, "float32"),
      tf.oneHot(tf.sub(x(i), tf.scalar(1, "int32")), 5, 2, -1, "float32"),
      tf.cast(tf.oneHot(x(i), 6), "float32"),
    ],
    inputs: { x: ["ids", "B", 3] },
  },
  {
    kernel: "Fill",
    fn: (i) => [tf.fill([x(i).shape[0], 3], 2.5), tf.fill([4], 2, "int32"), tf.fill([], 3)],
    inputs: { x: rows },
  },
  {
    kernel: "Range",
    fn: (i) => [
      tf.add(tf.range(0, 4), x(i)),
      tf.add(tf.range(5, 1, -1, "int32"), tf.zerosLike(x(i))),
    ],
    inputs: { x: rows },
  },
  {
    kernel: "LinSpace",
    fn: (i) => tf.add(tf.linspace(0, 1, 4), x(i)),
    inputs: { x: rows },
  },
];

const sizes: readonly Readonly<Record<string, number>>[] = [
  { B: 3, S: 5 },
  { B: 2, S: 1 },
  { B: 40, S: 17 },
];

let compiled: Engine;
let eager: Engine;
const seen = new Set<string>();

beforeAll(async () => {
  await quietCpu();
  compiled = await createEngine({ threads: 2 });
  eager = await createEngine({ runtime: "eager", backend: "cpu" });
});
afterAll(async () => {
  await compiled.dispose();
  await eager.dispose();
});

describe("kernels on ONNX Runtime and on the cpu backend", () => {
  it.each(cases.map((entry, index) => [entry.kernel, index, entry] as const))(
    "%s agrees (case %i)",
    async (_, __, { fn, inputs, rtol = 1e-5, atol = 1e-6 }) => {
      const specs: Record<string, SpecTree> = {};
      for (const [name, [kind, ...shape]] of Object.entries(inputs)) {
        const { dtype } = draw(kind, []);
        specs[name] = { dtype, shape };
      }
      const options = { name: "kernel", inputs: specs };
      const onGraph = compiled.compile(fn, options);
      const onCpu = eager.compile(fn, options);
      for (const size of sizes) {
        const feeds: Record<string, HostTensor> = {};
        for (const [name, [kind, ...shape]] of Object.entries(inputs))
          feeds[name] = draw(
            kind,
            shape.map((dim) => (typeof dim === "number" ? dim : (size[dim] as number))),
          );
        const { kernelNames } = await tf.profile(() =>
          tf.tidy(() => {
            fn(
              Object.fromEntries(
                Object.entries(feeds).map(([name, { data, shape, dtype }]) => [
                  name,
                  tf.tensor(data, [...shape], dtype),
                ]),
              ),
            );
          }),
        );
        for (const name of kernelNames) seen.add(name);
        const [actual, expected] = [await onGraph.run(feeds), await onCpu.run(feeds)];
        const [got, wanted] = [leavesOf(actual), leavesOf(expected)];
        expect(got.length).toBe(wanted.length);
        for (const [index, leaf] of wanted.entries()) {
          const other = got[index] as HostTensor;
          expect([other.dtype, ...other.shape]).toEqual([leaf.dtype, ...leaf.shape]);
          expect(other.data).toBeAllclose(leaf.data, { rtol, atol });
        }
      }
      await onGraph.dispose();
      await onCpu.dispose();
    },
  );

  it("loses no addition where thousands of rows meet in a few segments, on two threads", async () => {
    const [N, W, K] = [6000, 48, 7];
    const f = compiled.compile((i: Inputs) => tf.unsortedSegmentSum(x(i), y(i) as tf.Tensor1D, K), {
      name: "crowd",
      inputs: {
        x: { dtype: "float32", shape: ["n", W] },
        y: { dtype: "int32", shape: ["n"] },
      },
    });
    for (let round = 0; round < 10; round += 1) {
      // Small whole numbers: every sum is exact in any order.
      const data = Float32Array.from({ length: N * W }, () => rng.int(5));
      const ids = Int32Array.from({ length: N }, () => rng.int(K));
      const sums = new Float32Array(K * W);
      data.forEach((value, at) => {
        const place = (ids[Math.floor(at / W)] as number) * W + (at % W);
        sums[place] = (sums[place] as number) + value;
      });
      const out = await f.run<HostTensor>({
        x: { dtype: "float32", shape: [N, W], data },
        y: { dtype: "int32", shape: [N], data: ids },
      });
      expect(Buffer.compare(Buffer.from(out.data.buffer), Buffer.from(sums.buffer))).toBe(0);
    }
    await f.dispose();
  });

  it("tries every mapping", () => {
    expect(Object.keys(kernels).filter((name) => !seen.has(name))).toEqual([]);
  });
});

function leavesOf(tree: unknown): HostTensor[] {
  if (ArrayBuffer.isView((tree as HostTensor).data)) return [tree as HostTensor];
  return Object.values(tree as object).flatMap(leavesOf);
}

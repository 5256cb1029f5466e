/** @file Elementwise kernels: arithmetic, comparisons, logic, activations and casts. */
import type { Value, ValueType } from "../../onnx/graph.js";
import { broadcastShape, type Tracing } from "../tracing.js";
import type { KernelCall, KernelTable, TraceKernel } from "./kernel.js";

const unary =
  (op: string, name = "x"): TraceKernel =>
  ({ t, input }) =>
    t.unary(op, input(name));

const binary =
  (op: string): TraceKernel =>
  ({ t, input }) =>
    t.binary(op, input("a"), input("b"));

const compare =
  (op: string): TraceKernel =>
  ({ t, input }) =>
    t.binary(op, input("a"), input("b"), "bool");

function number(t: Tracing, like: Value, value: number): Value {
  return t.graph.scalar(like.type as "float32" | "int32", value);
}

/** `x > 0 ? 1 : alpha`, NaN where x is NaN. */
const step: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const alpha = (attrs.alpha as number | undefined) ?? 0;
  const positive = t.binary("Greater", x, number(t, x, 0), "bool");
  const stepped = where(t, positive, number(t, x, 1), number(t, x, alpha), x.shape);
  if (x.type !== "float32") return stepped;
  const isNan = t.unary("IsNaN", x, "bool");
  return where(t, isNan, x, stepped, x.shape);
};

export function where(
  t: Tracing,
  condition: Value,
  a: Value,
  b: Value,
  shape: readonly number[],
): Value {
  return t.graph.node("Where", [condition, a, b], { type: a.type, shape });
}

/** Computes in float64, where every int32 is exact, and comes back. */
function throughDouble(
  t: Tracing,
  a: Value,
  b: Value,
  type: ValueType,
  body: (x: Value, y: Value) => Value,
): Value {
  return t.cast(body(t.cast(a, "float64"), t.cast(b, "float64")), type);
}

function floorOfQuotient(t: Tracing, x: Value, y: Value): Value {
  return t.unary("Floor", t.binary("Div", x, y));
}

/** An int32 for floats too, as in TensorFlow.js. */
const floorDiv: TraceKernel = ({ t, input }) =>
  throughDouble(t, input("a"), input("b"), "int32", (x, y) => floorOfQuotient(t, x, y));

/** The result has the sign of the divisor, as in Python. */
const mod: TraceKernel = ({ t, input }) =>
  throughDouble(t, input("a"), input("b"), input("a").type, (x, y) =>
    t.binary("Sub", x, t.binary("Mul", y, floorOfQuotient(t, x, y))),
  );

const cast: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const type = attrs.dtype as ValueType;
  // ONNX's cast of a float to bool is `x != 0`, as in TensorFlow.js.
  return t.cast(x, type);
};

const clip: TraceKernel = ({ t, input, attrs }) => {
  const x = input("x");
  const bounds = [attrs.clipValueMin, attrs.clipValueMax].map((value) =>
    number(t, x, value as number),
  );
  return t.graph.node("Clip", [x, ...bounds], { type: x.type, shape: x.shape });
};

const square: TraceKernel = ({ t, input }) => t.binary("Mul", input("x"), input("x"));

const squaredDifference: TraceKernel = ({ t, input }) => {
  const difference = t.binary("Sub", input("a"), input("b"));
  return t.binary("Mul", difference, difference);
};

const finite: TraceKernel = ({ t, input }) => {
  const x = input("x");
  // x - x is 0 for finite numbers and NaN for all others.
  return t.unary("Not", t.unary("IsNaN", t.binary("Sub", x, x), "bool"), "bool");
};

/** `log1p(x) = x * log(u) / (u - 1)` with u = 1 + x: exact to rounding where x is tiny. */
const log1p: TraceKernel = ({ t, input }) => {
  const x = input("x");
  const one = number(t, x, 1);
  const u = t.binary("Add", x, one);
  const gap = t.binary("Sub", u, one);
  const isTiny = t.binary("Equal", gap, number(t, x, 0), "bool");
  const safe = where(t, isTiny, one, gap, x.shape);
  return where(t, isTiny, x, t.binary("Div", t.binary("Mul", x, t.unary("Log", u)), safe), x.shape);
};

const expm1: TraceKernel = ({ t, input }) => {
  const x = input("x");
  // exp(x) - 1 = tanh(x / 2) (exp(x) + 1) does not cancel near 0.
  const half = t.unary("Tanh", t.binary("Mul", x, number(t, x, 0.5)));
  return t.binary("Mul", half, t.binary("Add", t.unary("Exp", x), number(t, x, 1)));
};

/** ONNX Runtime's Softplus overflows nowhere; TensorFlow.js's does not either. */
const softplus = unary("Softplus");

const leakyRelu: TraceKernel = ({ t, input, attrs }) =>
  t.graph.node(
    "LeakyRelu",
    [input("x")],
    { type: "float32", shape: input("x").shape },
    { alpha: { float: attrs.alpha as number } },
  );

const filledLike =
  (value: number): TraceKernel =>
  ({ t, input }) => {
    const x = input("x");
    return t.fill(x.type as "float32" | "int32" | "bool", x.shape, value);
  };

const select: TraceKernel = ({ t, input }: KernelCall) => {
  const [condition, a, b] = [input("condition"), input("t"), input("e")];
  // A condition of rank 1 chooses whole rows.
  const shaped =
    condition.shape.length === 1 && a.shape.length > 1
      ? t.reshape(condition, [condition.shape[0] as number, ...a.shape.slice(1).map(() => 1)])
      : condition;
  return where(t, t.cast(shaped, "bool"), a, b, a.shape);
};

/** The angle of the point (b, a), from the arc tangent of the quotient and the quadrant. */
const atan2: TraceKernel = ({ t, input }) => {
  const [y, x] = [input("a"), input("b")];
  const zero = number(t, x, 0);
  const shape = broadcastShape(y.shape, x.shape);
  const principal = t.unary("Atan", t.binary("Div", y, x)); // also right for x = 0 where y is not
  const isLeft = t.binary("Less", x, zero, "bool");
  const isBelow = t.binary("Less", y, zero, "bool");
  const turn = where(t, isBelow, number(t, x, -Math.PI), number(t, x, Math.PI), isBelow.shape);
  const turned = where(t, isLeft, t.binary("Add", principal, turn), principal, shape);
  const isOrigin = t.binary(
    "And",
    t.binary("Equal", x, zero, "bool"),
    t.binary("Equal", y, zero, "bool"),
  );
  return where(t, isOrigin, t.expand(zero, shape), turned, shape);
};

const identity: TraceKernel = ({ input }) => input("x");

export const elementwise: KernelTable = {
  Abs: unary("Abs"),
  Acos: unary("Acos"),
  Acosh: unary("Acosh"),
  Add: binary("Add"),
  AddN: ({ t, inputs }) => inputs().reduce((sum, value) => t.binary("Add", sum, value)),
  Asin: unary("Asin"),
  Asinh: unary("Asinh"),
  Atan: unary("Atan"),
  Atan2: atan2,
  Atanh: unary("Atanh"),
  BitwiseAnd: binary("BitwiseAnd"),
  Cast: cast,
  Ceil: unary("Ceil"),
  ClipByValue: clip,
  Cos: unary("Cos"),
  Cosh: unary("Cosh"),
  Elu: unary("Elu"),
  EluGrad: ({ t, input }) => {
    const [dy, y] = [input("dy"), input("y")];
    const positive = t.binary("GreaterOrEqual", y, number(t, y, 0), "bool");
    return where(
      t,
      positive,
      dy,
      t.binary("Mul", dy, t.binary("Add", y, number(t, y, 1))),
      y.shape,
    );
  },
  Equal: compare("Equal"),
  Erf: unary("Erf"),
  Exp: unary("Exp"),
  Expm1: expm1,
  Floor: unary("Floor"),
  FloorDiv: floorDiv,
  Greater: compare("Greater"),
  GreaterEqual: compare("GreaterOrEqual"),
  Identity: identity,
  IsFinite: finite,
  IsInf: ({ t, input }) => t.unary("IsInf", input("x"), "bool"),
  IsNan: ({ t, input }) => t.unary("IsNaN", input("x"), "bool"),
  LeakyRelu: leakyRelu,
  Less: compare("Less"),
  LessEqual: compare("LessOrEqual"),
  Log: unary("Log"),
  Log1p: log1p,
  LogicalAnd: compare("And"),
  LogicalNot: ({ t, input }) => t.unary("Not", input("x"), "bool"),
  LogicalOr: compare("Or"),
  Maximum: binary("Max"),
  Minimum: binary("Min"),
  Mod: mod,
  Multiply: binary("Mul"),
  Neg: unary("Neg"),
  NotEqual: ({ t, input }) =>
    t.unary("Not", t.binary("Equal", input("a"), input("b"), "bool"), "bool"),
  OnesLike: filledLike(1),
  Pow: binary("Pow"),
  Prelu: ({ t, input }) =>
    t.graph.node("PRelu", [input("x"), input("alpha")], {
      type: "float32",
      shape: input("x").shape,
    }),
  RealDiv: binary("Div"),
  Reciprocal: unary("Reciprocal"),
  Relu: unary("Relu"),
  Relu6: ({ t, input }) => {
    const x = input("x");
    return t.graph.node("Clip", [x, number(t, x, 0), number(t, x, 6)], {
      type: x.type,
      shape: x.shape,
    });
  },
  Round: unary("Round"),
  Rsqrt: ({ t, input }) => t.unary("Reciprocal", t.unary("Sqrt", input("x"))),
  Select: select,
  Selu: unary("Selu"),
  Sigmoid: unary("Sigmoid"),
  Sign: unary("Sign"),
  Sin: unary("Sin"),
  Sinh: unary("Sinh"),
  Softplus: softplus,
  Sqrt: unary("Sqrt"),
  Square: square,
  SquaredDifference: squaredDifference,
  Step: step,
  Sub: binary("Sub"),
  Tan: unary("Tan"),
  Tanh: unary("Tanh"),
  ZerosLike: filledLike(0),
};

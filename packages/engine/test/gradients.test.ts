import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  createEngine,
  defineTracedOp,
  type Engine,
  type HostTensor,
  type SpecTree,
  type TensorParams,
  valueAndGrads,
} from "../src/index.js";
import { quietCpu } from "./quiet-cpu.js";

const float = (values: number[]): HostTensor => ({
  dtype: "float32",
  shape: [values.length],
  data: Float32Array.from(values),
});
const vector: SpecTree = { dtype: "float32", shape: ["n"] };

let engines: Engine[];
beforeAll(async () => {
  await quietCpu();
  engines = [
    await createEngine({ threads: 2 }),
    await createEngine({ runtime: "eager", backend: "cpu" }),
  ];
});
afterAll(async () => {
  for (const engine of engines) await engine.dispose();
});

describe("valueAndGrads", () => {
  const specs = { inputs: { p: { a: vector, b: vector } } };
  const feeds = { p: { a: float([1, 2, 3]), b: float([4, 5, 6]) } };
  const loss = (p: TensorParams) => tf.sum(tf.square(p.a as tf.Tensor)) as tf.Scalar;

  it("gives zeros for parameters that the loss does not reach, or leaves them out", async () => {
    for (const engine of engines) {
      const f = engine.compile(
        ({ p }: { p: TensorParams }) => ({
          zero: valueAndGrads(loss, p).gradients,
          omit: valueAndGrads(loss, p, { unreached: "omit" }).gradients,
        }),
        { name: "reach", ...specs },
      );
      const out = await f.run<Record<"zero" | "omit", Record<string, HostTensor>>>(feeds);
      expect(Array.from(out.zero.a?.data ?? [])).toEqual([2, 4, 6]);
      expect(Array.from(out.zero.b?.data ?? [])).toEqual([0, 0, 0]);
      expect(Object.keys(out.omit)).toEqual(["a"]);
    }
  });

  it("refuses unreached parameters where told to, by name", () => {
    const body = ({ p }: { p: TensorParams }) =>
      valueAndGrads(loss, p, { unreached: "error" }).gradients;
    expect(() => engines[0]?.compile(body, { name: "reach", ...specs })).toThrowError(
      expect.objectContaining({ code: "BAD_INPUT", message: expect.stringContaining(" b.") }),
    );
  });

  it("refuses a loss that is no scalar", () => {
    const body = ({ p }: { p: TensorParams }) =>
      valueAndGrads((q) => tf.square(q.a as tf.Tensor) as tf.Scalar, p).gradients;
    expect(() => engines[0]?.compile(body, { name: "vector", ...specs })).toThrowError(
      expect.objectContaining({ code: "BAD_INPUT", message: expect.stringContaining("scalar") }),
    );
  });

  it("hands over what the loss function returns beside the loss, without leaving tensors", async () => {
    for (const engine of engines) {
      const f = engine.compile(
        ({ p }: { p: TensorParams }) => {
          const { loss: total, aux } = valueAndGrads((q) => {
            const squares = tf.square(q.a as tf.Tensor);
            return {
              loss: tf.sum(squares) as tf.Scalar,
              aux: { deep: [squares, q.b as tf.Tensor] },
            };
          }, p);
          return { total, aux: aux ?? [] };
        },
        { name: "aux", ...specs },
      );
      const before = tf.memory().numTensors;
      const out = await f.run<{ total: HostTensor; aux: { deep: HostTensor[] } }>(feeds);
      expect(tf.memory().numTensors).toBe(before);
      expect(Array.from(out.total.data)).toEqual([14]);
      expect(out.aux.deep.map(({ data }) => Array.from(data))).toEqual([
        [1, 4, 9],
        [4, 5, 6],
      ]);
    }
  });
});

describe("defineTracedOp", () => {
  /** The hypotenuse of two legs; its further result is not returned, only used by the gradient. */
  const hypot = defineTracedOp<{ readonly scale: number }>({
    name: "hypot",
    eager([a, b], { scale }) {
      const length = tf.sqrt(tf.add(tf.square(a as tf.Tensor), tf.square(b as tf.Tensor)));
      return [tf.mul(length, scale), length];
    },
    trace(t, [a, b], { scale }) {
      if (!a || !b) throw new Error("internal: hypot takes two inputs");
      const sum = t.binary("Add", t.binary("Mul", a, a), t.binary("Mul", b, b));
      const length = t.unary("Sqrt", sum);
      return [t.binary("Mul", length, t.graph.scalar("float32", scale)), length];
    },
    gradient(dy, [a, b], [, length], { scale }) {
      const part = (leg: tf.Tensor) => tf.mul(tf.mul(dy, scale), tf.div(leg, length as tf.Tensor));
      return [part(a as tf.Tensor), part(b as tf.Tensor)];
    },
  });
  const floorless = defineTracedOp<Record<never, never>>({
    name: "constantLike",
    eager: ([x]) => tf.onesLike(x as tf.Tensor),
    trace: (t, [x]) => t.fill("float32", x?.shape ?? [], 1),
  });

  it("has the same value and gradient traced and eager", async () => {
    for (const engine of engines) {
      const f = engine.compile(
        ({ a, b }: Record<string, tf.Tensor>) => {
          const { loss, gradients } = valueAndGrads(
            (p) => tf.sum(hypot([p.a as tf.Tensor, p.b as tf.Tensor], { scale: 2 })) as tf.Scalar,
            { a: a as tf.Tensor, b: b as tf.Tensor },
          );
          return { loss, gradients, value: hypot([a as tf.Tensor, b as tf.Tensor], { scale: 3 }) };
        },
        { name: "hypot", inputs: { a: vector, b: vector } },
      );
      const out = await f.run<{
        loss: HostTensor;
        value: HostTensor;
        gradients: Record<string, HostTensor>;
      }>({ a: float([3, 5]), b: float([4, 12]) });
      expect(out.loss.data).toBeAllclose([36]);
      expect(out.value.data).toBeAllclose([15, 39]);
      expect(out.gradients.a?.data).toBeAllclose([1.2, 10 / 13], { rtol: 1e-6 });
      expect(out.gradients.b?.data).toBeAllclose([1.6, 24 / 13], { rtol: 1e-6 });
    }
  });

  it("stops gradients where it has none", async () => {
    for (const engine of engines) {
      const f = engine.compile(
        ({ a }: Record<string, tf.Tensor>) =>
          tf.grad((x) => tf.mul(x, floorless([x], {})))(a as tf.Tensor),
        { name: "stop", inputs: { a: vector } },
      );
      expect(Array.from((await f.run<HostTensor>({ a: float([3, 5]) })).data)).toEqual([1, 1]);
    }
  });
});

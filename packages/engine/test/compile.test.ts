import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  createEngine,
  createRng,
  type Engine,
  type HostTensor,
  initNormal,
  valueAndGrads,
} from "../src/index.js";
import { quietCpu } from "./quiet-cpu.js";

let engine: Engine;
beforeAll(async () => {
  await quietCpu();
  engine = await createEngine({ threads: 2 });
});
afterAll(() => engine.dispose());

const normal = (shape: number[], label: string) => initNormal(shape, 1, createRng(7).fork(label));

describe("compile", () => {
  it("runs a graph at sizes other than those traced", async () => {
    const f = engine.compile(
      ({ x, w }: { x: tf.Tensor3D; w: tf.Tensor2D }) => {
        const [B, S, H] = x.shape;
        const flat = tf.reshape(x, [B * S, H]);
        return { y: tf.softmax(tf.reshape(tf.matMul(flat, w), [B, S, 4])) };
      },
      {
        name: "mixer",
        inputs: {
          x: { dtype: "float32", shape: ["batch", "length", 3] },
          w: { dtype: "float32", shape: [3, 4] },
        },
      },
    );
    for (const [B, S] of [
      [1, 1],
      [2, 5],
      [7, 3],
    ] as const) {
      const x = normal([B, S, 3], `x${B}`);
      const w = normal([3, 4], "w");
      const { y } = await f.run<{ y: HostTensor }>({ x, w });
      expect(y.shape).toEqual([B, S, 4]);
      const expected = tf.tidy(() =>
        tf
          .softmax(
            tf.reshape(tf.matMul(tf.tensor2d(x.data, [B * S, 3]), tf.tensor2d(w.data, [3, 4])), [
              B,
              S,
              4,
            ]),
          )
          .dataSync(),
      );
      expect(y.data).toBeAllclose(expected, { rtol: 1e-5 });
    }
  });

  it("gives the same numbers with memory of its own and with memory shared among functions", async () => {
    const compile = (ownMemory: boolean) =>
      engine.compile(
        ({ x }: { x: tf.Tensor2D }) => {
          const square = tf.matMul(x, x, true, false);
          return { y: tf.add(tf.matMul(x, tf.softmax(square)), tf.tanh(x)) };
        },
        {
          name: `memory ${ownMemory}`,
          inputs: { x: { dtype: "float32", shape: ["rows", 24] } },
          ownMemory,
        },
      );
    const [own, shared] = [compile(true), compile(false)];
    for (const rows of [3, 64, 1]) {
      const x = normal([rows, 24], `rows ${rows}`);
      expect(await shared.run({ x })).toEqual(await own.run({ x }));
    }
    // Ending one leaves the other, whose graph is the same, as it was.
    await own.dispose();
    const x = normal([2, 24], "after");
    expect((await shared.run<{ y: HostTensor }>({ x })).y.shape).toEqual([2, 24]);
    await shared.dispose();
  });

  it("differentiates through the tape", async () => {
    const body = ({ w, x, perRow }: Record<string, tf.Tensor>) => {
      const { loss, gradients } = valueAndGrads(
        (p) => {
          const hidden = tf.tanh(tf.matMul(x as tf.Tensor2D, p.w as tf.Tensor2D));
          return tf.mul(tf.sum(tf.square(hidden)), perRow as tf.Scalar) as tf.Scalar;
        },
        { w: w as tf.Tensor },
      );
      return { loss, gradients };
    };
    const f = engine.compile(body, {
      name: "mlp",
      inputs: {
        x: { dtype: "float32", shape: ["batch", 3] },
        w: { dtype: "float32", shape: [3, 4] },
        perRow: { dtype: "float32", shape: [] },
      },
    });
    const x = normal([5, 3], "x");
    const w = normal([3, 4], "w");
    const perRow: HostTensor = { dtype: "float32", shape: [], data: new Float32Array([1 / 5]) };
    const out = await f.run<{ loss: HostTensor; gradients: { w: HostTensor } }>({ x, w, perRow });
    const eager = await createEngine({ runtime: "eager", backend: "cpu" });
    const g = eager.compile(body, {
      name: "mlp",
      inputs: {
        x: { dtype: "float32", shape: ["batch", 3] },
        w: { dtype: "float32", shape: [3, 4] },
        perRow: { dtype: "float32", shape: [] },
      },
    });
    const expected = await g.run<{ loss: HostTensor; gradients: { w: HostTensor } }>({
      x,
      w,
      perRow,
    });
    expect(out.loss.data).toBeAllclose(expected.loss.data, { rtol: 1e-5 });
    expect(out.gradients.w.data).toBeAllclose(expected.gradients.w.data, {
      rtol: 1e-5,
      atol: 1e-7,
    });
  });

  it.each([
    [
      "READ_TRACED",
      (i: Record<string, tf.Tensor>) =>
        tf.mul(i.x as tf.Tensor, (i.x as tf.Tensor).dataSync()[0] as number),
    ],
    [
      "SYMBOL_LEAK",
      (i: Record<string, tf.Tensor>) =>
        tf.div(i.x as tf.Tensor, (i.x as tf.Tensor).shape[0] as number),
    ],
    [
      "SYMBOL_LEAK",
      (i: Record<string, tf.Tensor>) =>
        tf.slice(i.x as tf.Tensor, [0, 0], [((i.x as tf.Tensor).shape[0] as number) - 1, 3]),
    ],
    [
      "UNMAPPED_KERNEL",
      (i: Record<string, tf.Tensor>) => tf.unique(tf.reshape(i.x as tf.Tensor, [-1])).values,
    ],
  ])("refuses %s", (code, fn) => {
    expect(() =>
      engine.compile(fn as never, {
        name: "bad",
        inputs: { x: { dtype: "float32", shape: ["batch", 3] } },
      }),
    ).toThrowError(expect.objectContaining({ code }));
  });
});

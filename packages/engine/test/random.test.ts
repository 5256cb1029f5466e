import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createEngine, dropout, type Engine, type HostTensor, uniform } from "../src/index.js";
import { quietCpu } from "./quiet-cpu.js";

let compiled: Engine;
let eager: Engine;
beforeAll(async () => {
  await quietCpu();
  compiled = await createEngine({ threads: 2 });
  eager = await createEngine({ runtime: "eager", backend: "cpu" });
});
afterAll(() => compiled.dispose());

const seedOf = (a: number, b: number): HostTensor => ({
  dtype: "int32",
  shape: [2],
  data: new Int32Array([a, b]),
});
const ones = (shape: number[]): HostTensor => ({
  dtype: "float32",
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1),
});
const specs = {
  x: { dtype: "float32", shape: ["batch", "length", 64] },
  seed: { dtype: "int32", shape: [2] },
} as const;

function program(engine: Engine, rate: number, site = 3) {
  return engine.compile(
    ({ x, seed }: { x: tf.Tensor3D; seed: tf.Tensor1D }) => ({
      dropped: dropout(x, { rate, seed, site }),
      noise: uniform(x, { seed, site }),
    }),
    { name: "random", inputs: specs },
  );
}
type Out = { dropped: HostTensor; noise: HostTensor };

describe("dropout and uniform", () => {
  it("give the same bits compiled and eager", async () => {
    for (const [a, b] of [
      [1, 2],
      [-5, 2 ** 31 - 1],
    ] as const) {
      const inputs = { x: ones([3, 7, 64]), seed: seedOf(a, b) };
      const left = await program(compiled, 0.1).run<Out>(inputs);
      const right = await program(eager, 0.1).run<Out>(inputs);
      expect(left.dropped.data).toEqual(right.dropped.data);
      expect(left.noise.data).toEqual(right.noise.data);
    }
  });

  it("drop the stated share and keep the mean, at every row and column", async () => {
    const rate = 0.1;
    const [B, S, H] = [64, 64, 64];
    const { dropped } = await program(compiled, rate).run<Out>({
      x: ones([B, S, H]),
      seed: seedOf(11, 12),
    });
    const data = dropped.data as Float32Array;
    const share = data.filter((value) => value === 0).length / data.length;
    expect(Math.abs(share - rate)).toBeLessThan(5 * Math.sqrt((rate * (1 - rate)) / data.length));
    let worst = 0;
    for (let column = 0; column < H; column += 1) {
      let zeros = 0;
      for (let row = 0; row < B * S; row += 1) if (data[row * H + column] === 0) zeros += 1;
      worst = Math.max(worst, Math.abs(zeros / (B * S) - rate));
    }
    expect(worst).toBeLessThan(5 * Math.sqrt((rate * (1 - rate)) / (B * S)));
  });

  it("are independent between neighbours, rows, sites and steps", async () => {
    const rate = 0.3;
    const sample = async (a: number, site: number) =>
      (await program(compiled, rate, site).run<Out>({ x: ones([32, 32, 64]), seed: seedOf(a, 5) }))
        .dropped.data as Float32Array;
    const base = await sample(1, 3);
    const pairs: [string, Float32Array, Float32Array][] = [
      ["neighbour in the row", base.subarray(0, -1), base.subarray(1)],
      ["neighbour in the column", base.subarray(0, -64), base.subarray(64)],
      ["other site", base, await sample(1, 4)],
      ["next step", base, await sample(2, 3)],
    ];
    for (const [name, a, b] of pairs) {
      let both = 0;
      for (let index = 0; index < a.length; index += 1)
        if (a[index] === 0 && b[index] === 0) both += 1;
      const expected = rate * rate;
      const deviation = Math.abs(both / a.length - expected);
      expect(deviation, name).toBeLessThan(5 * Math.sqrt((expected * (1 - expected)) / a.length));
    }
  });

  it("uniform fills its bins evenly (chi-square)", async () => {
    const { noise } = await program(compiled, 0.1).run<Out>({
      x: ones([16, 64, 64]),
      seed: seedOf(9, 9),
    });
    const bins = new Float64Array(256);
    for (const value of noise.data as Float32Array) {
      expect(value >= 0 && value < 1).toBe(true);
      bins[Math.floor(value * 256)] = (bins[Math.floor(value * 256)] as number) + 1;
    }
    const mean = noise.data.length / 256;
    const chi = bins.reduce((sum, count) => sum + (count - mean) ** 2 / mean, 0);
    // 255 degrees of freedom: mean 255, standard deviation 22.6.
    expect(chi).toBeGreaterThan(255 - 5 * 22.6);
    expect(chi).toBeLessThan(255 + 5 * 22.6);
  });

  it("passes gradients through what was kept", async () => {
    const f = compiled.compile(
      ({ x, seed }: { x: tf.Tensor; seed: tf.Tensor1D }) =>
        tf.grad((t) => tf.sum(dropout(t, { rate: 0.5, seed, site: 1 })))(x),
      { name: "grad", inputs: specs },
    );
    const inputs = { x: ones([2, 3, 64]), seed: seedOf(1, 2) };
    const gradient = await f.run<HostTensor>(inputs);
    const { dropped } = await program(compiled, 0.5, 1).run<Out>(inputs);
    expect(gradient.data).toEqual(dropped.data);
  });
});

/** @file Random numbers inside tensor functions: equal bits in every runtime, gradients, statistics. */
import * as tf from "@tensorflow/tfjs";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { useBackend } from "../src/backends.js";
import { createEngine } from "../src/engine.js";
import { valueAndGrads } from "../src/gradients.js";
import { dropout, uniform } from "../src/random.js";
import { stopGradient } from "../src/stop-gradient.js";
import type { Engine, HostTensor, Runtime } from "../src/types.js";

const seedOf = (a: number, b: number): HostTensor => ({
  dtype: "int32",
  shape: [2],
  data: Int32Array.of(a, b),
});

const RATE = 0.1;
type Inputs = { x: tf.Tensor; seed: tf.Tensor1D };

/** Everything this file offers, on `x` of any batch and length. */
const draw = ({ x, seed }: Inputs) => {
  const [batch, length] = x.shape as [number, number, number];
  const { loss, gradients } = valueAndGrads(
    (params) => {
      const dropped = dropout(params.x!, { rate: RATE, seed, site: 3 });
      return tf.sum(tf.mul(dropped, stopGradient(dropped))) as tf.Scalar;
    },
    { x },
  );
  return {
    numbers: uniform(x, { seed, site: 3 }),
    square: uniform([batch, 2, length, length], { seed, site: 2 ** 33 + 1 }),
    vector: uniform([length], { seed, site: 0 }),
    dropped: dropout(x, { rate: RATE, seed, site: 3 }),
    gradient: gradients.x!,
    loss,
  };
};

type Drawn = Record<"numbers" | "square" | "vector" | "dropped" | "gradient" | "loss", HostTensor>;

const engines: Engine[] = [];
const engineFor = async (runtime: Runtime) => {
  const engine = await createEngine({ runtime, threads: 2 });
  engines.push(engine);
  return engine.compile(draw, {
    name: "draw",
    inputs: {
      x: { dtype: "float32", shape: ["batch", "length", 6] },
      seed: { dtype: "int32", shape: [2] },
    },
  });
};

const input = (shape: number[]): HostTensor => ({
  dtype: "float32",
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, n) => Math.cos(n)),
});

beforeAll(async () => {
  await useBackend("cpu");
});

afterAll(async () => {
  for (const engine of engines) await engine.dispose();
});

describe("in every runtime", () => {
  it("draws the same bits, at sizes other than those traced", async () => {
    const functions = [await engineFor("eager")];
    for (const runtime of ["onnxruntime-node", "onnxruntime-web"] as const) {
      functions.push(await engineFor(runtime));
    }
    for (const [shape, seed] of [
      [[3, 5, 6], seedOf(0, 0)],
      [[1, 1, 6], seedOf(-5, 2 ** 31 - 1)],
      [[7, 64, 6], seedOf(123_456_789, -(2 ** 31))],
    ] as const) {
      const [expected, ...others] = await Promise.all(
        functions.map((fn) => fn.run<Drawn>({ x: input([...shape]), seed })),
      );
      for (const other of others) {
        for (const key of ["numbers", "square", "vector", "dropped"] as const) {
          expect(other[key].shape).toEqual(expected![key].shape);
          expect(other[key].data).toEqual(expected![key].data);
        }
        expect(other.gradient.data).toBeAllclose(expected!.gradient.data as Float32Array);
      }
    }
  });

  it("draws the same bits on the wasm backend", async () => {
    const run = () => tf.tidy(() => uniform([4, 3], { seed: seed(4, 2), site: 1 }).dataSync());
    const expected = run();
    await useBackend("wasm");
    expect(run()).toEqual(expected);
    await useBackend("cpu");
  });

  it("keeps its numbers from one release to the next", () => {
    const numbers = tf.tidy(() => uniform([2, 2], { seed: seed(1, 2), site: 3 }).dataSync());
    expect([...numbers]).toEqual([
      0.9161537289619446, 0.9899101853370667, 0.8702748417854309, 0.18184274435043335,
    ]);
  });
});

describe("dropout", () => {
  it("drops exactly where uniform is below the rate, and scales the rest", () => {
    const rates = fc.double({ min: 0, max: 0.999, noNaN: true });
    fc.assert(
      fc.property(rates, fc.integer(), fc.nat(), (rate, step, site) => {
        tf.tidy(() => {
          const x = tf.ones([16, 8]);
          const kept = dropout(x, { rate, seed: seed(9, step), site }).dataSync();
          const numbers = uniform(x, { seed: seed(9, step), site }).dataSync();
          const expected = numbers.map((u) => (u < rate ? 0 : 1 / (1 - rate)));
          expect(kept).toBeAllclose(expected, { rtol: 1e-6 });
        });
      }),
    );
  });

  it("uses the forward mask in its gradient", () => {
    tf.tidy(() => {
      const options = { rate: 0.3, seed: seed(1, 1), site: 0 };
      const x = tf.ones([40, 10]);
      const gradient = tf.grad((t) => tf.sum(dropout(t, options)))(x);
      expect(gradient.dataSync()).toEqual(dropout(x, options).dataSync());
    });
  });

  it("refuses a rate of 1, a seed of another type and a site that is no whole number", () => {
    tf.tidy(() => {
      const x = tf.ones([2]);
      const good = { rate: 0.5, seed: seed(1, 1), site: 0 };
      expect(() => dropout(x, { ...good, rate: 1 })).toThrow(/rate must be in \[0, 1\), got 1/);
      expect(() => dropout(x, { ...good, seed: tf.tensor1d([1, 2]) })).toThrow(/got float32 \[2\]/);
      expect(() => dropout(x, { ...good, site: 0.5 })).toThrow(
        /site must be a whole number, got 0.5/,
      );
    });
  });
});

describe("stopGradient", () => {
  it("passes the value and no gradient", () => {
    tf.tidy(() => {
      const x = tf.tensor1d([1, -2, 3]);
      const gradient = tf.grad((t) => tf.sum(tf.mul(stopGradient(t), t)))(x);
      expect(gradient.dataSync()).toEqual(x.dataSync());
    });
  });
});

/**
 * Statistics over many masks, as scores that are about standard normal under ideal randomness: over 32 masks their mean
 * must lie within 4.5 standard errors of 0, which an ideal generator misses once in 10^5. A matrix whose rows and columns are
 * merely added instead of multiplied fails the rectangle and row-pair scores by hundreds.
 */
describe("statistics", () => {
  const rows = 256;
  const columns = 128;
  const n = rows * columns;
  const masks = 32;

  /** Standardised masks: mean 0 and variance 1 under the ideal. */
  const maskOf = (rate: number, step: number, site: number) => {
    const sd = Math.sqrt(rate * (1 - rate));
    const numbers = tf.tidy(() =>
      uniform([rows, columns], { seed: seed(0, step), site }).dataSync(),
    );
    return Float64Array.from(numbers, (u) => ((u < rate ? 1 : 0) - rate) / sd);
  };
  const score = (values: readonly number[]) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return mean * Math.sqrt(values.length);
  };
  const product = (mask: Float64Array, other: Float64Array, offset: number) => {
    let sum = 0;
    for (let index = 0; index + offset < n; index += 1)
      sum += mask[index]! * other[index + offset]!;
    return sum / Math.sqrt(n - offset);
  };
  const excess = (sums: Float64Array, size: number) => {
    const total = sums.reduce((sum, value) => sum + (value * value) / size, 0);
    return (total - sums.length) / Math.sqrt(2 * sums.length);
  };

  it.each([0.1, 0.5])("of masks with rate %f are those of independent draws", (rate) => {
    const scores: Record<string, number[]> = {};
    const add = (name: string, value: number) => {
      scores[name] ??= [];
      scores[name].push(value);
    };
    for (let step = 0; step < masks; step += 1) {
      const mask = maskOf(rate, step, 0);
      const sums = { rows: new Float64Array(rows), columns: new Float64Array(columns) };
      for (let index = 0; index < n; index += 1) {
        sums.rows[Math.floor(index / columns)]! += mask[index]!;
        sums.columns[index % columns]! += mask[index]!;
      }
      add("mean", mask.reduce((sum, value) => sum + value, 0) / Math.sqrt(n));
      add("variance of row sums", excess(sums.rows, columns));
      add("variance of column sums", excess(sums.columns, rows));
      add("next column", product(mask, mask, 1));
      add("next row", product(mask, mask, columns));
      add("next diagonal", product(mask, mask, columns + 1));
      add("next site", product(mask, maskOf(rate, step, 1), 0));
      add("next step", product(mask, maskOf(rate, step + 1, 0), 0));
      const rectangles = new Float64Array(n);
      const triples = new Float64Array(n);
      for (let index = 0; index + columns + 1 < n; index += 1) {
        triples[index] = mask[index]! * mask[index + 1]! * mask[index + columns]!;
        rectangles[index] = triples[index]! * mask[index + columns + 1]!;
      }
      add("triples", triples.reduce((sum, value) => sum + value, 0) / Math.sqrt(n));
      add("rectangles", rectangles.reduce((sum, value) => sum + value, 0) / Math.sqrt(n));
      const pairs = new Float64Array(rows);
      for (let row = 0; row < rows; row += 1) {
        const other = (row + 37) % rows;
        for (let column = 0; column < columns; column += 1) {
          pairs[row]! += mask[row * columns + column]! * mask[other * columns + column]!;
        }
      }
      add("row pairs", excess(pairs, columns));
    }
    for (const [name, values] of Object.entries(scores)) {
      expect(Math.abs(score(values)), name).toBeLessThan(4.5);
      // A score that hardly varies would hide a defect that changes sign from mask to mask.
      const power = values.reduce((sum, value) => sum + value * value, 0) / masks;
      expect(power, name).toBeGreaterThan(0.3);
      expect(power, name).toBeLessThan(2.5);
    }
  });

  it("of numbers are uniform, over positions, over steps, over seeds and over sites", () => {
    const many = 16_384;
    const first = (a: number, b: number, site: number) =>
      tf.tidy(() => uniform([1], { seed: seed(a, b), site }).dataSync()[0]!);
    const samples: Record<string, ArrayLike<number>> = {
      positions: tf.tidy(() => uniform([256, 64], { seed: seed(1, 1), site: 1 }).dataSync()),
      steps: Array.from({ length: many }, (_, step) => first(1, step, 1)),
      seeds: Array.from({ length: many }, (_, run) => first(run, 1, 1)),
      sites: Array.from({ length: many }, (_, site) => first(1, 1, site)),
    };
    for (const [name, numbers] of Object.entries(samples)) {
      const cells = 128;
      const counts = new Float64Array(cells);
      for (let index = 0; index < many; index += 1)
        counts[Math.floor(numbers[index]! * cells)]! += 1;
      const expected = many / cells;
      const chi2 = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
      expect(Math.abs((chi2 - cells + 1) / Math.sqrt(2 * (cells - 1))), name).toBeLessThan(4);
    }
  });
});

function seed(a: number, b: number): tf.Tensor1D {
  return tf.tensor1d([a, b], "int32");
}

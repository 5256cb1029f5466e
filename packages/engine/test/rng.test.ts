/** @file The host-side generator: determinism, uniformity, independence of streams. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRng, initConstant, initNormal, initUniform, type Rng } from "../src/rng.js";

const draws = (rng: Rng, n: number) => Array.from({ length: n }, () => rng.next());

/** The statistic (chi2 - df) / sqrt(2 df), about standard normal for many cells. */
function chiSquareScore(counts: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const expected = total / counts.length;
  const chi2 = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  const freedom = counts.length - 1;
  return (chi2 - freedom) / Math.sqrt(2 * freedom);
}

function correlation(x: readonly number[], y: readonly number[]): number {
  const n = x.length;
  const mean = (values: readonly number[]) => values.reduce((sum, v) => sum + v, 0) / n;
  const [mx, my] = [mean(x), mean(y)];
  let [xy, xx, yy] = [0, 0, 0];
  for (let i = 0; i < n; i += 1) {
    xy += (x[i]! - mx) * (y[i]! - my);
    xx += (x[i]! - mx) ** 2;
    yy += (y[i]! - my) ** 2;
  }
  return xy / Math.sqrt(xx * yy);
}

describe("createRng", () => {
  it("repeats itself for the same seed and differs for another", () => {
    fc.assert(
      fc.property(fc.oneof(fc.integer(), fc.string()), (seed) => {
        expect(draws(createRng(seed), 8)).toEqual(draws(createRng(seed), 8));
        expect(draws(createRng(seed), 8)).not.toEqual(draws(createRng(`${seed}?`), 8));
      }),
    );
  });

  it("keeps its first numbers from one release to the next", () => {
    const rng = createRng(42);
    const first = [rng.next(), rng.int(1000), rng.normal(), rng.fork("data").next()];
    expect(first).toEqual([0.8149346194901914, 14, -0.24446549001302686, 0.5216401572414161]);
  });

  it("tells the number 1 from the text 1", () => {
    expect(createRng(1).next()).not.toBe(createRng("1").next());
  });

  it("refuses a seed that is not finite", () => {
    expect(() => createRng(Number.NaN)).toThrow(/seed must be finite, got NaN/);
  });

  it("fills [0, 1) evenly, in one and in two dimensions", () => {
    const rng = createRng("uniformity");
    const cells = new Array<number>(256).fill(0);
    const pairs = new Array<number>(32 * 32).fill(0);
    for (let n = 0; n < 400_000; n += 1) {
      const [a, b] = [rng.next(), rng.next()];
      cells[Math.floor(a * 256)]! += 1;
      pairs[Math.floor(a * 32) * 32 + Math.floor(b * 32)]! += 1;
    }
    expect(Math.abs(chiSquareScore(cells))).toBeLessThan(4);
    expect(Math.abs(chiSquareScore(pairs))).toBeLessThan(4);
  });

  it("mixes small seeds well: the first draws of seeds 0, 1, 2, … are uniform and uncorrelated", () => {
    const first = Array.from({ length: 65_536 }, (_, seed) => createRng(seed).next());
    const cells = new Array<number>(64).fill(0);
    for (const value of first) cells[Math.floor(value * 64)]! += 1;
    expect(Math.abs(chiSquareScore(cells))).toBeLessThan(4);
    expect(Math.abs(correlation(first.slice(1), first.slice(0, -1)))).toBeLessThan(0.02);
  });

  it("draws every integer below n equally often", () => {
    const rng = createRng(3);
    const counts = new Array<number>(10).fill(0);
    for (let n = 0; n < 100_000; n += 1) counts[rng.int(10)]! += 1;
    expect(Math.abs(chiSquareScore(counts))).toBeLessThan(4);
    expect(() => rng.int(0)).toThrow(RangeError);
    expect(() => rng.int(1.5)).toThrow(RangeError);
  });

  it("draws normal numbers with the right moments and tails", () => {
    const rng = createRng("normal");
    const n = 400_000;
    let [sum, squares, fourth, tail] = [0, 0, 0, 0];
    for (let index = 0; index < n; index += 1) {
      const z = rng.normal();
      sum += z;
      squares += z * z;
      fourth += z ** 4;
      if (Math.abs(z) > 1.959964) tail += 1;
    }
    expect(Math.abs(sum / n)).toBeLessThan(4 / Math.sqrt(n));
    expect(Math.abs(squares / n - 1)).toBeLessThan(4 * Math.sqrt(2 / n));
    expect(Math.abs(fourth / n - 3)).toBeLessThan(4 * Math.sqrt(96 / n));
    expect(Math.abs(tail / n - 0.05)).toBeLessThan(4 * Math.sqrt((0.05 * 0.95) / n));
  });

  it("shuffles into every order equally often, keeping the elements", () => {
    const rng = createRng("orders");
    const counts = new Map<string, number>();
    for (let n = 0; n < 60_000; n += 1) {
      const order = rng.shuffle(["a", "b", "c", "d"]).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    expect(Math.abs(chiSquareScore([...counts.values()]))).toBeLessThan(4);
    expect(rng.shuffle(Int32Array.from([1, 2, 3])).toSorted()).toEqual(Int32Array.from([1, 2, 3]));
  });
});

describe("fork", () => {
  it("does not depend on how much was drawn from the parent, nor changes it", () => {
    const [fresh, used] = [createRng(7), createRng(7)];
    draws(used, 100);
    used.normal();
    expect(draws(used.fork("x"), 5)).toEqual(draws(fresh.fork("x"), 5));
    expect(draws(fresh, 5)).toEqual(draws(createRng(7), 5));
  });

  it("keeps the boundaries between labels", () => {
    const root = createRng(7);
    expect(root.fork("ab").fork("c").next()).not.toBe(root.fork("a").fork("bc").next());
    expect(root.fork("").next()).not.toBe(root.next());
  });

  it("gives streams uncorrelated with the parent and with each other", () => {
    const n = 50_000;
    const bound = 4.5 / Math.sqrt(n);
    const root = createRng(0);
    const streams = [
      root,
      ...["0", "1", "2", "epoch 1", "epoch 2"].map((label) => root.fork(label)),
    ];
    const values = streams.map((rng) => draws(rng, n));
    for (let i = 0; i < values.length; i += 1) {
      for (let j = 0; j < i; j += 1) {
        expect(Math.abs(correlation(values[i]!, values[j]!))).toBeLessThan(bound);
      }
    }
  });
});

describe("initial tensors", () => {
  it("have the shape, the type and the spread asked for", () => {
    const weights = initNormal([300, 200], 0.02, createRng(5));
    expect(weights.shape).toEqual([300, 200]);
    expect(weights.dtype).toBe("float32");
    const values = weights.data as Float32Array;
    const variance = values.reduce((sum, value) => sum + value * value, 0) / 60_000;
    expect(Math.abs(Math.sqrt(variance) / 0.02 - 1)).toBeLessThan(0.02);
    const even = initUniform([10_000], -1, 3, createRng(5)).data;
    expect(Math.min(...even)).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...even)).toBeLessThanOrEqual(3);
    expect(initConstant([2, 2], 1).data).toEqual(Float32Array.of(1, 1, 1, 1));
  });

  it("refuse a shape that is none", () => {
    expect(() => initNormal([2, -1], 1, createRng(0))).toThrow(/got \[2, -1\]/);
  });
});

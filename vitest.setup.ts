/** @file Matchers shared by every test: `toBeAllclose(expected, { rtol, atol })` for numbers and typed arrays. */
import { expect } from "vitest";

interface Tolerance {
  readonly rtol?: number;
  readonly atol?: number;
}

type Numbers = ArrayLike<number>;

expect.extend({
  toBeAllclose(actual: Numbers, expected: Numbers, { rtol = 1e-5, atol = 1e-8 }: Tolerance = {}) {
    if (actual.length !== expected.length) {
      return {
        pass: false,
        message: () => `expected ${expected.length} numbers, got ${actual.length}`,
      };
    }
    let worst = -1;
    let worstExcess = 0;
    for (let index = 0; index < actual.length; index += 1) {
      const a = actual[index] as number;
      const e = expected[index] as number;
      if (Object.is(a, e) || a === e) continue;
      const excess = Math.abs(a - e) - (atol + rtol * Math.abs(e));
      if (!(excess <= worstExcess)) {
        worst = index;
        worstExcess = Number.isNaN(excess) ? Number.POSITIVE_INFINITY : excess;
      }
    }
    return {
      pass: worst === -1,
      message: () =>
        worst === -1
          ? "expected numbers to differ"
          : `numbers differ at index ${worst}: got ${actual[worst]}, expected ${expected[worst]} (rtol ${rtol}, atol ${atol})`,
    };
  },
});

declare module "vitest" {
  // biome-ignore lint/suspicious/noExplicitAny: vitest declares the type parameter this way
  interface Assertion<T = any> {
    toBeAllclose(expected: Numbers, tolerance?: Tolerance): T;
  }
}

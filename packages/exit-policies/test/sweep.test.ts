import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  alwaysAt,
  type ExitRecord,
  type ExitStrategy,
  entropy,
  patience,
  pcee,
  replay,
  replayAll,
  replaySweep,
  rightTool,
  withOptions,
} from "../src/index.js";
import { random } from "./fixtures.js";

/** Coarse numbers, so that ties with the knob are common, with some that are not finite. */
function coarseRecord(seed: number, rows: number, depth: number, width: number): ExitRecord {
  const next = random(seed);
  const draw = () =>
    next() < 0.05 ? [Number.NaN, Number.POSITIVE_INFINITY][seed % 2] : Math.floor(next() * 9) / 8;
  const numbers = (length: number) => Float32Array.from({ length }, () => draw() as number);
  return {
    shape: { task: "classification", depth, hidden: 4, classes: 2 },
    ids: Array.from({ length: rows }, (_, row) => String(row)),
    labels: new Float32Array(rows),
    logits: numbers(rows * depth * 2),
    observed: numbers(rows * depth * width),
    observedWidth: width,
  };
}

const cases: readonly (readonly [ExitStrategy, number, (seed: number) => number])[] = [
  [entropy(), 1, (x) => Math.floor(x * 9) / 8],
  [rightTool({ temperatures: [2, 0.5] }), 2, (x) => x],
  [alwaysAt({ layer: 1 }), 1, (x) => 1 + Math.floor(x * 9)],
  [patience(), 1, (x) => 1 + Math.floor(x * 9)],
  [pcee(), 1, (x) => Math.floor(x * 9) / 8],
];

describe("a sweep", () => {
  it.each(cases)("equals one replay per value: $name", (strategy, width, toValue) =>
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 1e6 }),
        fc.integer({ min: 0, max: 12 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 7 }),
        fc.array(fc.double({ min: 0, max: 0.999, noNaN: true }), { maxLength: 12 }),
        (seed, rows, depth, maxLayer, draws) => {
          const record = coarseRecord(seed, rows, depth, width);
          const values = draws.map(toValue);
          const option = strategy.definition.knob?.option as string;
          const singles = values.map((value) => ({
            value,
            ...replay(record, withOptions(strategy, { [option]: value }), { maxLayer }),
          }));
          expect(replaySweep(record, strategy, values, { maxLayer })).toEqual(singles);
          const configured = values.map((value) => withOptions(strategy, { [option]: value }));
          const all = replayAll(record, configured, { maxLayer });
          expect(all.map((outcome, at) => ({ value: values[at], ...outcome }))).toEqual(singles);
        },
      ),
      { numRuns: 150, seed: 5 },
    ),
  );

  it("names the strategy that throws", () => {
    const broken = {
      ...entropy(),
      definition: {
        ...entropy.definition,
        decide() {
          throw new Error("no");
        },
      },
    } as unknown as ExitStrategy;
    expect(() => replaySweep(coarseRecord(2, 3, 3, 1), broken, [0.1, 0.2])).toThrowError(
      "[entropy] decide threw at layer 1: no",
    );
  });
});

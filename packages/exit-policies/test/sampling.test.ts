/** @file From logits to tokens, and the acceptance rule of drafts. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { acceptOrReplace, draw, nextTokenProbabilities } from "../src/generation/sampling.js";

const logits = Float32Array.of(1, 3, 2, 3, -1);
const probabilities = (
  options: Parameters<typeof nextTokenProbabilities>[2],
  context: number[] = [],
) => Array.from(nextTokenProbabilities(logits, context, options));

describe("next-token probabilities", () => {
  it("are the softmax at temperature 1, sharper below", () => {
    const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
    expect(probabilities({ temperature: 1 })).toBeAllclose(
      Array.from(logits, (logit) => Math.exp(logit) / sum),
      { rtol: 1e-12, atol: 0 },
    );
    expect(probabilities({ temperature: 0.5 })[1]).toBeGreaterThan(0.4);
  });

  it("lie on the first of the likeliest at temperature 0", () => {
    expect(probabilities({})).toEqual([0, 1, 0, 0, 0]);
  });

  it("keep the top k with what is level, and the smallest nucleus", () => {
    const zeros = (options: Parameters<typeof nextTokenProbabilities>[2]) =>
      probabilities(options).map((share) => share === 0);
    expect(zeros({ temperature: 1, topK: 1 })).toEqual([true, false, true, false, true]);
    expect(zeros({ temperature: 1, topK: 3 })).toEqual([true, false, false, false, true]);
    expect(zeros({ temperature: 1, topP: 0.3 })).toEqual([true, false, true, true, true]);
    expect(zeros({ temperature: 1, topP: 0.7 })).toEqual([true, false, true, false, true]);
    expect(probabilities({ temperature: 1, topP: 0.7 })[3]).toBeCloseTo(0.5, 12);
  });

  it("push tokens of the text down, whatever their logit's sign", () => {
    expect(probabilities({ repetitionPenalty: 2 }, [1, 1])).toEqual([0, 0, 0, 1, 0]);
    const [before, after] = [
      probabilities({ temperature: 1 }),
      probabilities({ temperature: 1, repetitionPenalty: 2 }, [4]),
    ];
    expect(after[4]).toBeLessThan(before[4] as number);
  });
});

describe("draws", () => {
  it("never give a token without probability", () => {
    const share = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(
        share,
        fc.double({ min: 0, max: 0.9999999999, noNaN: true }),
        (weights, random) => {
          const sum = weights.reduce((total, weight) => total + weight, 0);
          fc.pre(sum > 0);
          const shares = Float64Array.from(weights, (weight) => weight / sum);
          expect(shares[draw(shares, random)]).toBeGreaterThan(0);
        },
      ),
    );
  });

  it("of accepted or replaced drafts are distributed as full depth's", () => {
    const draft = Float64Array.of(0.6, 0.3, 0.1);
    const full = Float64Array.of(0.2, 0.3, 0.5);
    // A grid over both numbers that a round uses, so that shares are exact up to its step.
    const steps = 60;
    const counts = [0, 0, 0];
    let accepted = 0;
    for (let a = 0; a < steps; a += 1)
      for (let b = 0; b < steps; b += 1)
        for (let c = 0; c < steps; c += 1) {
          const numbers = [b, c].map((step) => (step + 0.5) / steps);
          const id = draw(draft, (a + 0.5) / steps);
          // An id whose acceptance is certain draws nothing.
          const result = acceptOrReplace(id, draft, full, () => numbers.shift() as number);
          counts[result.id] = (counts[result.id] as number) + 1;
          accepted += Number(result.isAccepted);
        }
    const shares = counts.map((count) => count / steps ** 3);
    expect(shares).toBeAllclose(Array.from(full), { rtol: 0, atol: 0.01 });
    // 1 minus half the distance of the two distributions.
    expect(accepted / steps ** 3).toBeCloseTo(0.6, 2);
  });
});

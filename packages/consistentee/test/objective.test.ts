/** @file The exact policy gradient, and what the sampled one converges to. */
import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Baseline,
  exactObjective,
  exitProbabilities,
  greedyExit,
  greedyExits,
  logExitProbabilities,
  sampledExits,
  sampledObjective,
} from "../src/index.js";
import { uniformTensor } from "./support.js";

const logitOf = (p: number) => Math.log(p / (1 - p));
const probabilities = [0.2, 0.5];
const rewardVector = [-0.7, -0.3, -0.1];
const vector = probabilities.map(logitOf);

/** dJ/da_t = p_t (1 - p_t) reach_t (R_t - V_{t+1}) in double precision (methods, 18.2). */
function analyticGradient(logits: readonly number[], reward: readonly number[]): number[] {
  const depth = reward.length;
  const p = logits.map((a) => 1 / (1 + Math.exp(-a)));
  const values = new Array<number>(depth + 1).fill(0);
  values[depth] = reward[depth - 1] as number;
  for (let layer = depth - 1; layer >= 1; layer -= 1)
    values[layer] =
      (p[layer - 1] as number) * (reward[layer - 1] as number) +
      (1 - (p[layer - 1] as number)) * (values[layer + 1] as number);
  let reach = 1;
  return p.map((prob, index) => {
    const gradient =
      prob * (1 - prob) * reach * ((reward[index] as number) - (values[index + 2] as number));
    reach *= 1 - prob;
    return gradient;
  });
}

function exactGradient(logits: number[][], reward: number[][]): Float32Array {
  return tf.tidy(() =>
    tf
      .grad((a) => tf.sum(exactObjective(a as tf.Tensor2D, tf.tensor2d(reward))))(
        tf.tensor2d(logits),
      )
      .dataSync<"float32">(),
  );
}

interface Sampling {
  readonly epsilon: number;
  readonly baseline: Baseline;
  readonly importance: boolean;
}

const copies = 8;
const rows = 20_000;

/** Mean sampled gradient over many equal rows. */
function sampledGradient(options: Sampling, seed: string): number[] {
  return tf.tidy(() => {
    const draw = (what: string) =>
      uniformTensor([copies, rows, 2], `${seed} ${what}`) as tf.Tensor3D;
    const draws = { action: draw("action"), exploration: draw("exploration") };
    const gradient = tf.grad((a) => {
      const logits = tf.mul(tf.ones([rows, 1]), a) as tf.Tensor2D;
      const reward = tf.mul(tf.ones([rows, 1]), tf.tensor2d([rewardVector])) as tf.Tensor2D;
      return tf.mul(tf.sum(sampledObjective(logits, reward, draws, options)), 1 / rows);
    })(tf.tensor2d([vector]));
    return [...gradient.dataSync()];
  });
}

describe("exact objective", () => {
  it("has the published probabilities, value and gradient", () => {
    const [probability, value] = tf.tidy(() => {
      const logits = tf.tensor2d([vector]);
      return [
        tf.exp(logExitProbabilities(logits)).dataSync(),
        exactObjective(logits, tf.tensor2d([rewardVector])).dataSync(),
      ] as const;
    });
    expect(probability).toBeAllclose([0.2, 0.4, 0.4], { rtol: 1e-6 });
    expect(value).toBeAllclose([-0.3], { rtol: 1e-6 });
    // dJ/dp = dJ/da / (p (1 - p))
    const gradient = exactGradient([vector], [rewardVector]);
    const byProbability = probabilities.map(
      (p, index) => (gradient[index] as number) / (p * (1 - p)),
    );
    expect(byProbability).toBeAllclose([-0.5, -0.16], { rtol: 1e-5 });
    expect(analyticGradient(vector, rewardVector)).toBeAllclose([-0.08, -0.04], { rtol: 1e-9 });
  });

  it("has the analytic gradient at any logits and rewards", () => {
    const number = (min: number, max: number) => fc.double({ min, max, noNaN: true });
    fc.assert(
      fc.property(
        fc
          .integer({ min: 2, max: 12 })
          .chain((depth) =>
            fc.tuple(
              fc.array(number(-6, 6), { minLength: depth - 1, maxLength: depth - 1 }),
              fc.array(number(-3, 0), { minLength: depth, maxLength: depth }),
            ),
          ),
        ([logits, reward]) => {
          expect(exactGradient([logits], [reward])).toBeAllclose(analyticGradient(logits, reward), {
            rtol: 1e-4,
            atol: 1e-6,
          });
        },
      ),
      { numRuns: 50 },
    );
  });

  it("stays finite where a policy is certain", () => {
    const logits = [[200, -200, 200]];
    const gradient = exactGradient(logits, [[-1, -2, -3, -4]]);
    expect([...gradient].every(Number.isFinite)).toBe(true);
    const value = tf.tidy(() =>
      exactObjective(tf.tensor2d(logits), tf.tensor2d([[-1, -2, -3, -4]])).dataSync(),
    );
    expect(value).toBeAllclose([-1], { rtol: 1e-6 });
  });

  it("agrees with the host's probabilities", () => {
    const logits = [0.3, -1.2, 2.5, -0.1];
    const tensor = tf.tidy(() => tf.exp(logExitProbabilities(tf.tensor2d([logits]))).dataSync());
    expect(tensor).toBeAllclose([...exitProbabilities([...logits, 99])], { rtol: 1e-5 });
  });
});

describe("exit layers", () => {
  it("are the first above one half, the last where none is, on host and in tensors", () => {
    const logits = [
      [0.1, 5, -1],
      [0, 0, 0],
      [-1, -1, 1e-6],
      [Number.NaN, 1, 1],
    ];
    const expected = [1, 4, 3, 2];
    expect(logits.map((row) => greedyExit([...row, 0]))).toEqual(expected);
    const layers = tf.tidy(() => tf.argMax(greedyExits(tf.tensor2d(logits)), 1).dataSync());
    expect([...layers].map((index) => index + 1)).toEqual(expected);
  });

  it("are sampled with the policy's probabilities, mixed with coin tosses", () => {
    for (const epsilon of [0, 0.4]) {
      const shares = tf.tidy(() => {
        const logits = tf.mul(tf.ones([rows, 1]), tf.tensor2d([vector])) as tf.Tensor2D;
        const draws = {
          action: uniformTensor([4, rows, 2], "a") as tf.Tensor3D,
          exploration: uniformTensor([4, rows, 2], "e") as tf.Tensor3D,
        };
        return tf.mean(sampledExits(logits, draws, epsilon), [0, 1]).dataSync();
      });
      const mixed = probabilities.map((p) => (1 - epsilon) * p + epsilon / 2);
      const [first, second] = mixed as [number, number];
      // Five standard errors of a share over 80 000 draws are below 0.009.
      expect(shares).toBeAllclose([first, (1 - first) * second, (1 - first) * (1 - second)], {
        rtol: 0,
        atol: 0.009,
      });
    }
  });
});

describe("sampled objective", () => {
  const exact = analyticGradient(vector, rewardVector);
  // Standard error of each component over 20 000 rows of 8 copies is about 3e-4; the targets differ by 0.005 and more.
  const tolerance = { rtol: 0, atol: 1.5e-3 };

  it("with a leave-one-out baseline converges to the exact gradient", () => {
    const found = sampledGradient(
      { epsilon: 0, baseline: "leave-one-out", importance: false },
      "loo",
    );
    expect(found).toBeAllclose(exact, tolerance);
  });

  it("with the group mean converges to (K - 1) / K of the exact gradient", () => {
    const found = sampledGradient({ epsilon: 0, baseline: "group", importance: false }, "group");
    expect(found).toBeAllclose(
      exact.map((value) => (value * (copies - 1)) / copies),
      tolerance,
    );
  });

  it("without a baseline converges to the exact gradient", () => {
    const found = sampledGradient({ epsilon: 0, baseline: "none", importance: false }, "none");
    expect(found).toBeAllclose(exact, { rtol: 0, atol: 3e-3 });
  });

  it("with exploration needs importance weights", () => {
    const options = { epsilon: 0.3, baseline: "leave-one-out" } as const;
    const weighted = sampledGradient({ ...options, importance: true }, "weighted");
    expect(weighted).toBeAllclose(exact, tolerance);
    const group = sampledGradient(
      { epsilon: 0.3, baseline: "group", importance: true },
      "weighted group",
    );
    expect(group).toBeAllclose(
      exact.map((value) => (value * (copies - 1)) / copies),
      tolerance,
    );
    const plain = sampledGradient({ ...options, importance: false }, "plain");
    expect(plain).toBeAllclose(unweightedGradient(vector, rewardVector, 0.3), tolerance);
    expect(Math.abs((plain[0] as number) - (exact[0] as number))).toBeGreaterThan(0.004);
  });

  it("has the bias that the README states", () => {
    const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
    const stated = readme
      .split("\n")
      .map((line) => line.split("|").slice(1, -1).map(Number.parseFloat))
      .filter((cells) => cells.length === 4 && cells.every(Number.isFinite));
    expect(stated.map(([epsilon]) => epsilon)).toEqual([0, 0.01, 0.05, 0.1, 0.3, 1]);
    for (const [epsilon, first, second, percent] of stated) {
      const { gradient, bias } = biasAt(epsilon as number);
      // Half a unit of the last digit shown, and what rounding adds.
      expect([first, second]).toBeAllclose(gradient, { rtol: 0, atol: 5.01e-5 });
      expect([percent]).toBeAllclose([100 * bias], { rtol: 0, atol: 0.0501 });
    }
  });
});

/** What the estimator without importance weights converges to, by enumeration of the exit layers. */
function unweightedGradient(
  logits: readonly number[],
  reward: readonly number[],
  epsilon: number,
): number[] {
  const p = logits.map((a) => 1 / (1 + Math.exp(-a)));
  const behaviour = exitProbabilities([
    ...p.map((value) => logitOf((1 - epsilon) * value + epsilon / 2)),
    0,
  ]);
  const baseline = behaviour.reduce((sum, q, index) => sum + q * (reward[index] as number), 0);
  // d ln P(exit at T) / d a_t: 1 - p_t at T, -p_t below it, nothing above.
  return p.map((prob, index) =>
    behaviour.reduce((sum, q, exit) => {
      const score = index === exit ? 1 - prob : index < exit ? -prob : 0;
      return sum + q * ((reward[exit] as number) - baseline) * score;
    }, 0),
  );
}

/** What the estimator without importance weights converges to, and how far that is from the exact gradient. */
function biasAt(epsilon: number) {
  const exact = analyticGradient(vector, rewardVector);
  const gradient = unweightedGradient(vector, rewardVector, epsilon);
  const error = gradient.map((value, index) => value - (exact[index] as number));
  return { gradient, bias: Math.hypot(...error) / Math.hypot(...exact) };
}

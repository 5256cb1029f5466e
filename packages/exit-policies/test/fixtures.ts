/** @file Numbers for tests, from seeded generators. N = rows, T = layers, C = classes. */
import type { Fixture } from "../src/testing/fixed-exits.js";

/** Uniform numbers in [0, 1). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Logits that grow more certain with depth, at a pace of each row's own. */
export function gradedLogits(seed: number, rows: number, depth = 6, classes = 2): Fixture {
  const next = random(seed);
  return Array.from({ length: rows }, () => {
    const pace = 0.2 + 2 * next();
    const answer = Math.floor(next() * classes);
    return Array.from({ length: depth }, (_, index) =>
      Array.from({ length: classes }, (_, k) =>
        Math.fround((k === answer ? pace * index : 0) + 2 * next() - 1),
      ),
    );
  });
}

/** Two-class logits whose arg max follows the labels, shape `[1, T, 2]`. */
export function logitsOfLabels(labels: readonly number[]): Fixture {
  return [labels.map((label) => (label === 1 ? [-1, 1] : [1, -1]))];
}

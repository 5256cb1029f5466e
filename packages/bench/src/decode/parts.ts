/**
 * @file The parts of a token's time by themselves: layers, head, and the keys and values of the layers above an exit.
 */
import type { DecoderRunner } from "@cee/backbone";
import { quantile } from "../metrics/statistics.js";

/**
 * The time of one among equal calls: the lower quartile, since what a machine does besides only ever makes a call longer,
 * and long calls more than short ones.
 */
export function typicalTime(times: readonly number[]): number {
  return quantile(
    [...times].sort((a, b) => a - b),
    0.25,
  );
}

/** Milliseconds. */
export interface Parts {
  /** Of a layer, the first up to the deepest that ran. */
  readonly layers: readonly number[];
  readonly head: number;
  /** Keys and values of all layers above an exit, by its layer. */
  readonly fills: ReadonlyMap<number, number>;
  /** Enlarging the cache, per token. */
  readonly growth: number;
  /** Bytes that enlarging the cache copies, per token. */
  readonly copied: number;
}

/** Times the parts call by call over a text whose tokens leave at `exits` in turn, with a cache that grows as usual. */
export async function timeParts(
  runner: DecoderRunner,
  ids: readonly number[],
  tokens: number,
  exits: readonly number[],
): Promise<Parts> {
  const { depth } = runner.shape;
  const pass = runner.begin(1, { maxTokens: ids.length + tokens });
  const times = new Map<string, number[]>();
  const clock = async <T>(part: string, action: () => Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await action();
    const own = times.get(part) ?? [];
    times.set(part, own);
    own.push(performance.now() - started);
    return result;
  };
  let [growth, copied] = [0, 0];
  try {
    pass.append(0, ids);
    for (let layer = 1; layer <= depth; layer += 1) await pass.advance([0], layer);
    for (let token = 1; token < tokens; token += 1) {
      const before = runner.cacheBytes;
      const started = performance.now();
      pass.append(0, [token]);
      if (runner.cacheBytes > before) {
        growth += performance.now() - started;
        copied += before;
      }
      const exit = exits[token % exits.length] as number;
      let states = new Float32Array(0);
      for (let layer = 1; layer <= exit; layer += 1) {
        const [out] = await clock(`layer ${layer}`, () => pass.advance([0], layer));
        states = (out?.states ?? states) as typeof states;
      }
      await clock("head", () => pass.project(exit, states));
      if (exit < depth) await clock(`fill ${exit}`, () => pass.copyUp([0]));
    }
  } finally {
    pass.dispose();
  }
  const of = (part: string) => typicalTime(times.get(part) ?? []);
  return {
    layers: Array.from({ length: Math.max(...exits) }, (_, index) => of(`layer ${index + 1}`)),
    head: of("head"),
    fills: new Map(exits.map((exit) => [exit, exit < depth ? of(`fill ${exit}`) : 0])),
    growth: growth / (tokens - 1),
    copied: copied / (tokens - 1),
  };
}

/** What a token that leaves at `exit` should take. */
export function predict({ layers, head, fills }: Parts, exit: number): number {
  const run = layers.slice(0, exit).reduce((sum, layer) => sum + layer, 0);
  return run + head + (fills.get(exit) ?? 0);
}

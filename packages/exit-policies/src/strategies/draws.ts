/** @file Seeded initial values of parameters that strategies of this package own. */
import type { HostTensor } from "../host-tensor.js";

/** Normal draws around 0; the same for the same seed and stream. */
export function draws(
  shape: readonly number[],
  deviation: number,
  seed: number,
  stream: string,
): HostTensor {
  const size = shape.reduce((product, length) => product * length, 1);
  const data = new Float32Array(size);
  if (deviation > 0) {
    const next = uniforms(seed, stream);
    for (let index = 0; index < size; index += 1)
      data[index] =
        deviation * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  }
  return { dtype: "float32", shape: [...shape], data };
}

/** Numbers in [0, 1): Mulberry32, started from a hash (FNV-1a) of seed and stream. */
function uniforms(seed: number, stream: string): () => number {
  let state = 0x811c9dc5;
  for (const character of `${seed}/${stream}`)
    state = Math.imul(state ^ (character.codePointAt(0) as number), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

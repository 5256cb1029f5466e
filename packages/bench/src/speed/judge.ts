/** @file The bars that the project sets itself, judged on what was measured. */

import { SYSTEMS } from "./forced.js";
import { BUCKETED } from "./full-depth.js";
import type { SpeedBar, SpeedResults } from "./results.js";
import type { RatioInterval } from "./rounds.js";

type Measured = Pick<
  SpeedResults,
  "depths" | "mixed" | "full" | "throughput" | "decide" | "memory"
>;

/** Time over the truncated model's, at every layer, by width. */
const GRAPH_LIMITS: Readonly<Record<number, number>> = { 128: 1.15, 384: 1.05, 768: 1.05 };
const LOOP_LIMITS: Readonly<Record<number, number>> = { 128: 1.3, 384: 1.12, 768: 1.12 };
/** Share of the ideal gain, by width. */
const MIXED_LIMITS: Readonly<Record<number, number>> = { 384: 0.9, 768: 0.95 };
const MEMORY_LIMIT = 20 * 2 ** 20;

/** A bar is met when the better end of the 95 % interval reaches it. */
export function judge({ depths, mixed, full, throughput, decide, memory }: Measured): SpeedBar[] {
  const bars: SpeedBar[] = [];
  const atMost = (
    name: string,
    { estimate, low }: RatioInterval,
    limit: number,
    text = `at most ${limit}`,
  ) => bars.push({ name, value: estimate, better: low, limit: text, isMet: low <= limit });
  const atLeast = (name: string, { estimate, high }: RatioInterval, limit: number) =>
    bars.push({
      name,
      value: estimate,
      better: high,
      limit: `at least ${limit}`,
      isMet: high >= limit,
    });
  for (const width of new Set(depths.map((part) => part.width)))
    for (const [system, limits] of [
      [SYSTEMS.graph, GRAPH_LIMITS],
      [SYSTEMS.loop, LOOP_LIMITS],
    ] as const) {
      const limit = limits[width];
      const all = depths
        .filter((part) => part.width === width)
        .map(({ layer, timed }) => ({
          layer,
          ratio: timed.find((own) => own.system === system)?.ratio,
        }))
        .filter((one): one is { layer: number; ratio: RatioInterval } => one.ratio !== undefined);
      // The worst layer speaks for all of them.
      const worst = all.sort((a, b) => b.ratio.low - a.ratio.low)[0];
      if (limit !== undefined && worst)
        atMost(
          `width ${width}, ${system}: worst layer (${worst.layer}) against the model that ends there`,
          worst.ratio,
          limit,
        );
    }
  for (const { width, batch, timed } of mixed) {
    const limit = MIXED_LIMITS[width];
    const own = timed.find(({ system }) => system === SYSTEMS.file);
    if (limit !== undefined && batch >= 16 && own)
      atLeast(`width ${width}, batch ${batch}: share of the ideal gain`, own.efficiency, limit);
  }
  for (const { width, batch, timed } of full) {
    const own = timed.find(({ system }) => system === SYSTEMS.full);
    if (own)
      atMost(`width ${width}, batch ${batch}: full depth against Transformers.js`, own.ratio, 1);
  }
  for (const { width, data, timed } of throughput) {
    const own = timed.find(({ system }) => system === BUCKETED);
    if (!own) continue;
    const { estimate, low, high } = own.ratio;
    const gain = { estimate: 1 / estimate, low: 1 / high, high: 1 / low };
    atLeast(`width ${width}, ${data}: throughput against Transformers.js`, gain, 1.3);
  }
  for (const { width, share } of decide)
    if (width === 384)
      atMost(`width ${width}: decisions on the host, share of a run`, share, 0.02, "under 2 %");
  if (memory) {
    const [before, after] = memory.resident;
    const grown = after - before;
    const [from, to] = memory.calls;
    bars.push({
      name: `resident memory from call ${from} to ${to}, MiB more`,
      value: grown / 2 ** 20,
      better: grown / 2 ** 20,
      limit: "under 20",
      isMet: grown < MEMORY_LIMIT && memory.tensors[0] === memory.tensors[1],
    });
  }
  return bars;
}

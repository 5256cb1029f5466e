/** @file Track one: exits forced to known layers, against truncated models and full depth. T = layers. */
import {
  type ExitEncoder,
  exportOnnx,
  type FlatModel,
  openEncoder,
  openExported,
  openFlat,
  openInGraph,
  type TokenBatch,
} from "@cee/backbone";
import type { Engine, Rng } from "@cee/engine";
import { alwaysAt, classify, type ExitStrategy, toObserver } from "@cee/exit-policies";
import { BenchError } from "../errors.js";
import type { ProgressLine } from "../glue/progress.js";
import { median } from "../metrics/statistics.js";
import {
  forcedBatch,
  forcedExits,
  meanOf,
  mixedLayers,
  rowOf,
  type SpeedSizes,
  workOf,
} from "./model.js";
import type { DepthPart, MixedPart, Timed } from "./results.js";
import { type Candidate, interleave, type RatioInterval, type Rounds, ratioOf } from "./rounds.js";
import type { SpeedTorch } from "./torch.js";

export const SYSTEMS = {
  truncated: "model that ends there",
  full: "full depth, one graph",
  fullSpinning: "full depth, threads that spin",
  graph: "exits in the graph",
  file: "exported file",
  loop: "layer by layer",
  alone: "exits in the graph, row by row",
  torch: "PyTorch, model that ends there",
  transformers: "Transformers.js",
  transformersOwn: "Transformers.js, its own thread settings",
} as const;

export interface ForcedOptions {
  readonly engine: Engine;
  readonly encoder: ExitEncoder;
  readonly sizes: SpeedSizes;
  readonly rounds: number;
  readonly seed: number;
  readonly rng: Rng;
  readonly torch: SpeedTorch | undefined;
  readonly signal: AbortSignal | undefined;
  readonly progress: ProgressLine;
}

/** Batch 1 at every forced layer. */
export async function measureDepths(options: ForcedOptions): Promise<DepthPart[]> {
  const { engine, encoder, sizes, rounds, rng, torch, signal, seed, progress } = options;
  const { width, depth } = sizes;
  const strategies = Array.from({ length: depth }, (_, index) => alwaysAt({ layer: index + 1 }));
  const observer = toObserver(strategies[0] as ExitStrategy);
  const params = encoder.params;
  const graph = await openInGraph(
    engine,
    encoder,
    params,
    strategies[0] as ExitStrategy,
    observer,
    {
      rows: "one",
    },
  );
  const file = await openExported(
    engine,
    exportOnnx(encoder, strategies[0] as ExitStrategy, observer),
    encoder.shape,
  );
  const loop = await openEncoder(engine, encoder, params, observer);
  // Every token counts, so that the time of a truncated model is that of its layers alone.
  const batch = forcedBatch(sizes, [depth], seed);
  const parts: DepthPart[] = [];
  try {
    for (const [index, strategy] of strategies.entries()) {
      const layer = index + 1;
      const truncated = openFlat(engine, encoder, params, layer);
      try {
        const logits = await truncated.logits(batch);
        checkSame(SYSTEMS.graph, (await graph.classify(batch, layer)).logits, logits);
        checkSame(SYSTEMS.file, (await file.classify(batch, layer)).logits, logits);
        checkSame(SYSTEMS.loop, (await classify(loop, batch, strategy)).logits, logits);
        const candidates: Candidate[] = [
          candidate(SYSTEMS.truncated, () => truncated.logits(batch)),
          candidate(SYSTEMS.graph, () => graph.classify(batch, layer)),
          candidate(SYSTEMS.file, () => file.classify(batch, layer)),
          candidate(SYSTEMS.loop, () => classify(loop, batch, strategy)),
        ];
        if (torch) {
          const answer = await torch.answer(batch, layer);
          checkSame(SYSTEMS.torch, answer.logits, logits);
          candidates.push({
            name: SYSTEMS.torch,
            run: async () => (await torch.answer(batch, layer)).milliseconds,
          });
        }
        const times = await interleave(candidates, {
          ...{ rounds, rng, signal },
          onRound: () => progress.update(`width ${width}, exit at layer ${layer}`, workOf(width)),
        });
        const timed = compare(times, SYSTEMS.truncated, seed);
        parts.push({ width, layer, timed });
        progress.print(`width ${width}, exit at layer ${layer}: ${line(timed)}`);
      } finally {
        await truncated.dispose();
      }
    }
  } finally {
    for (const one of [graph, file, loop]) await one.dispose();
  }
  return parts;
}

/** Batches whose rows leave at layers of their own. */
export async function measureMixed(
  options: ForcedOptions,
  batches: readonly number[],
): Promise<MixedPart[]> {
  const { engine, encoder, sizes, rounds, rng, signal, seed, progress } = options;
  const { width, depth } = sizes;
  const strategy = forcedExits(sizes);
  const observer = toObserver(strategy);
  const { params } = encoder;
  const file = await openExported(engine, exportOnnx(encoder, strategy, observer), encoder.shape);
  const one = await openInGraph(engine, encoder, params, strategy, observer, { rows: "one" });
  const loop = await openEncoder(engine, encoder, params, observer);
  const full: FlatModel = openFlat(engine, encoder, params);
  const parts: MixedPart[] = [];
  try {
    for (const size of batches) {
      // One row at a time goes through sixteen rows in turn: one depth alone would say little.
      const layers = mixedLayers(size === 1 ? 16 : size, depth);
      const batch = forcedBatch(sizes, layers, seed);
      const rows = layers.map((_, row) => rowOf(batch, row));
      const calls = size === 1 ? rows : [batch];
      const each = (run: (batch: TokenBatch) => Promise<unknown>) => async () => {
        for (const call of calls) await run(call);
      };
      const found = await file.classify(batch, 0);
      const byLoop = await classify(loop, batch, strategy);
      layers.forEach((layer, row) => {
        for (const { exitLayers } of [found, byLoop])
          if (exitLayers[row] !== layer)
            throw mismatch("forced exits", `row ${row} left at ${exitLayers[row]}, not ${layer}`);
      });
      checkSame(SYSTEMS.file, found.logits, byLoop.logits);
      const candidates = [
        candidate(
          SYSTEMS.full,
          each((call) => full.logits(call)),
        ),
        candidate(
          SYSTEMS.file,
          each((call) => file.classify(call, 0)),
        ),
        candidate(
          SYSTEMS.loop,
          each((call) => classify(loop, call, strategy)),
        ),
        candidate(SYSTEMS.alone, async () => {
          for (const row of rows) await one.classify(row, 0);
        }),
      ];
      const times = await interleave(candidates, {
        ...{ rounds, rng, signal },
        onRound: () => progress.update(`width ${width}, mixed exits, batch ${size}`, workOf(width)),
      });
      const idealGain = depth / meanOf(layers);
      const timed = compare(times, SYSTEMS.full, seed).map((own) => ({
        ...own,
        efficiency: inverse(own.ratio, idealGain),
      }));
      parts.push({ width, batch: size, meanExitLayer: meanOf(layers), idealGain, timed });
      progress.print(
        `width ${width}, batch ${size}, mean exit ${meanOf(layers).toFixed(2)}: share of the ideal gain ${timed.map(({ system, efficiency }) => `${system} ${efficiency.estimate.toFixed(2)}`).join(", ")}`,
      );
    }
  } finally {
    for (const opened of [file, one, loop, full]) await opened.dispose();
  }
  return parts;
}

/** Everything against one of them. */
export function compare(times: Rounds, reference: string, seed: number): Timed[] {
  const base = times.get(reference) as readonly number[];
  return [...times].map(([system, rounds]) => ({
    system,
    rounds,
    median: median(rounds),
    ratio: ratioOf(rounds, base, seed),
  }));
}

/** From time over full depth's to the share of the ideal gain. */
function inverse({ estimate, low, high }: RatioInterval, ideal: number): RatioInterval {
  return { estimate: 1 / estimate / ideal, low: 1 / high / ideal, high: 1 / low / ideal };
}

function line(timed: readonly Timed[]): string {
  return timed
    .map(({ system, median: middle, ratio }) =>
      system === SYSTEMS.truncated
        ? `${system} ${middle.toFixed(2)} ms`
        : `${system} ${ratio.estimate.toFixed(3)}`,
    )
    .join(", ");
}

export function candidate(name: string, run: () => Promise<unknown>): Candidate {
  return {
    name,
    async run() {
      await run();
      return undefined;
    },
  };
}

/** Systems that answer differently are not compared. @throws BenchError `RUN_MISMATCH` */
export function checkSame(who: string, own: Float32Array, expected: Float32Array): void {
  const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  let gap = own.length === expected.length ? 0 : Number.POSITIVE_INFINITY;
  for (let index = 0; index < expected.length; index += 1)
    gap = Math.max(gap, Math.abs((own[index] as number) - (expected[index] as number)));
  if (!(gap <= 1e-3 * scale)) throw mismatch(who, `its logits differ by ${gap}`);
}

function mismatch(who: string, what: string): BenchError {
  return new BenchError(
    "RUN_MISMATCH",
    who,
    `${what}. It computes another model; its times mean nothing.`,
  );
}

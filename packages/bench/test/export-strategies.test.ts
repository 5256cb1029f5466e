/** @file Every built-in layer-wise method, its learned parameters and its head included, leaves alike inside a graph. */
import { exportOnnx, openEncoder, openExported, type TokenBatch, toBatch } from "@cee/backbone";
import { tinyBert } from "@cee/backbone/testing";
import {
  berxit,
  cat,
  deebert,
  fastBert,
  pabee,
  pastFuture,
  pceeBert,
  rightTool,
  romeBert,
  zeroTimeWaste,
} from "@cee/baselines";
import { consistentEE } from "@cee/consistentee";
import { createEngine, createRng, type Engine, type HostParams } from "@cee/engine";
import {
  agreement,
  classify,
  type ExitHead,
  type ExitRecord,
  type ExitStrategy,
  nearTies,
  record,
  replay,
  toObserver,
  withOptions,
} from "@cee/exit-policies";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const DEPTH = 5;
const ROWS = 200;
const rng = createRng("rows of the export");
const rows = Array.from({ length: ROWS }, () => {
  const ids = Int32Array.from({ length: 2 + rng.int(18) }, () => rng.int(20));
  return { ids, types: new Int32Array(ids.length) };
});
const batches: readonly TokenBatch[] = Array.from({ length: ROWS / 20 }, (_, index) =>
  toBatch(rows.slice(index * 20, (index + 1) * 20)),
);

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ runtime: "onnxruntime-node", threads: 1 });
});
afterAll(() => engine.dispose());

/** Fresh heads and modules are certain of nothing: scaled up, they differ from row to row. */
function scaled(params: HostParams, factor: number, prefix: string): HostParams {
  return Object.fromEntries(
    Object.entries(params).map(([path, tensor]) => [
      path,
      path.startsWith(prefix)
        ? { ...tensor, data: (tensor.data as Float32Array).map((value) => factor * value) }
        : tensor,
    ]),
  );
}

const named: Record<string, { strategy: () => ExitStrategy; head: string | ExitHead }> = {
  deebert,
  pabee,
  berxit,
  "right-tool": rightTool,
  "pcee-bert": pceeBert,
  romebert: romeBert,
  fastbert: fastBert,
  "past-future": pastFuture,
  cat,
  "zero-time-waste": zeroTimeWaste,
  consistentee: { strategy: consistentEE, head: "linear" },
};

/** The knob at which rows leave at the most layers, among the grid and the values observed. */
function spreading(strategy: ExitStrategy, full: ExitRecord): ExitStrategy {
  const { knob } = strategy.definition;
  if (!knob) return strategy;
  const observed = [...full.observed].filter(Number.isFinite).sort((a, b) => a - b);
  const seen = Array.from(
    { length: 19 },
    (_, index) => observed[Math.floor(((index + 1) * observed.length) / 20)] as number,
  );
  let best = { strategy, spread: 0 };
  for (const value of [...knob.grid, ...seen, ...seen.map((logit) => 1 / (1 + Math.exp(-logit)))]) {
    let tried: ExitStrategy;
    try {
      tried = withOptions(strategy, { [knob.option]: value });
    } catch {
      continue; // An observed value that the option does not take.
    }
    const { exitLayers } = replay(full, tried);
    const shares = Array.from(
      { length: DEPTH },
      (_, index) => exitLayers.filter((layer) => layer === index + 1).length / ROWS,
    );
    const spread = shares.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);
    if (spread > best.spread) best = { strategy: tried, spread };
  }
  return best.strategy;
}

describe("an exported method", () => {
  it.each(Object.keys(named))("leaves where the layer loop does: %s", async (name) => {
    const { strategy: make, head } = named[name] as (typeof named)[string];
    const fresh = tinyBert({ depth: DEPTH, hidden: 16, spread: 0.95, classes: 3, seed: 2, head });
    const params = scaled(fresh.params, 20, "heads.");
    const trainedHeads = Array.from({ length: DEPTH }, (_, index) => index + 1);
    const encoder = { ...fresh, params, trainedHeads };
    const untuned = make();
    const { definition, options } = untuned;
    const own = scaled(definition.params?.(fresh.shape, options, 3) ?? {}, 3, "");
    const runner = await openEncoder(engine, encoder, params, toObserver(untuned, own));
    const full = await record(runner, batches, {
      ids: rows.map((_, index) => String(index)),
      labels: Float32Array.from(rows, ({ ids }) => (ids[1] as number) % 3),
    });
    const calibrated = withOptions(untuned, definition.calibrate?.(full, options) ?? {});
    const strategy = spreading(calibrated, full);
    const knob = definition.knob?.option as string;

    const file = exportOnnx(encoder, strategy, toObserver(strategy, own));
    const exits = await openExported(engine, file, encoder.shape);
    const seen = new Set<number>();
    const ties = new Set(nearTies(full, strategy));
    let start = 0;
    for (const batch of batches) {
      const loop = await classify(runner, batch, strategy);
      const graph = await exits.classify(batch, strategy.options[knob] as number);
      const near = [...ties].filter((row) => row >= start && row < start + batch.rows);
      const found = agreement(
        loop,
        graph,
        near.map((row) => row - start),
      );
      expect(found.unexplained).toEqual([]);
      for (let index = 0; index < graph.logits.length; index += 1)
        if (!near.includes(start + Math.floor(index / 3)))
          expect(graph.logits[index]).toBeCloseTo(loop.logits[index] as number, 2);
      for (const layer of loop.exitLayers) seen.add(layer);
      start += batch.rows;
    }
    // A comparison that says something: rows leave at several layers, and few are near ties.
    expect(seen.size).toBeGreaterThan(2);
    expect(ties.size).toBeLessThan(0.05 * ROWS);
    await exits.dispose();
    await runner.dispose();
  });
});

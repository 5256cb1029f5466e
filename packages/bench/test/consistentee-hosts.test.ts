/** @file ConsistentEE on a real encoder: the early-stopping host exits where the record says, whatever the batches. */
import { openEncoder, toBatch } from "@cee/backbone";
import { tinyBert } from "@cee/backbone/testing";
import { consistentEE } from "@cee/consistentee";
import { createEngine, createRng, type HostParams, type HostTensor } from "@cee/engine";
import {
  agreement,
  classify,
  type ExitRecord,
  nearTies,
  record,
  replay,
  toObserver,
} from "@cee/exit-policies";
import { describe, expect, it } from "vitest";

const DEPTH = 5;
const ROWS = 240;
const rng = createRng("rows");
const rows = Array.from({ length: ROWS }, () => {
  const ids = Int32Array.from({ length: 2 + rng.int(18) }, () => rng.int(20));
  return { ids, types: new Int32Array(ids.length) };
});

/** Fresh policies and heads decide nothing: scaled up, they differ from row to row. */
function scaled(params: HostParams, factor: number, prefix = ""): HostParams {
  return Object.fromEntries(
    Object.entries(params).map(([path, tensor]) => [
      path,
      path.startsWith(prefix)
        ? { ...tensor, data: (tensor.data as Float32Array).map((value) => factor * value) }
        : tensor,
    ]),
  );
}

/** Shifts every policy so that it lets three rows in ten go. */
function balanced(policies: HostParams, { observed }: ExitRecord): HostParams {
  const shifted = { ...policies };
  for (let layer = 1; layer < DEPTH; layer += 1) {
    const own = observed.filter((_, cell) => cell % DEPTH === layer - 1).sort();
    const [low, high] = [0.7, 0.71].map((share) => own[Math.floor(share * ROWS)] as number);
    const path = `policy.${layer}.output.bias`;
    shifted[path] = {
      ...(policies[path] as HostTensor),
      data: Float32Array.of(-((low as number) + (high as number)) / 2),
    };
  }
  return shifted;
}

describe("consistentee in the hosts", () => {
  it("exits layer by layer as in the record, alone and in batches", async () => {
    const engine = await createEngine({ threads: 1 });
    const model = tinyBert({ depth: DEPTH, hidden: 16, spread: 0.4 });
    const strategy = consistentEE();
    const own = strategy.definition.params?.(model.shape, strategy.options, 3) as HostParams;
    const params = scaled(model.params, 40, "heads.");
    const batches = (size: number) =>
      Array.from({ length: Math.ceil(ROWS / size) }, (_, index) =>
        toBatch(rows.slice(index * size, (index + 1) * size)),
      );
    const open = async (policies: HostParams) => {
      const runner = await openEncoder(engine, model, params, toObserver(strategy, policies));
      const full = await record(runner, batches(48), {
        ids: rows.map((_, index) => String(index)),
        labels: new Float32Array(ROWS),
      });
      return { runner, full };
    };
    const first = await open(scaled(own, 12));
    await first.runner.dispose();
    const { runner, full } = await open(balanced(scaled(own, 12), first.full));
    const expected = replay(full, strategy);
    expect(new Set(expected.exitLayers).size).toBeGreaterThan(2);
    const ties = nearTies(full, strategy);
    expect(ties.length / ROWS).toBeLessThan(0.001);
    for (const size of [1, 13, 80]) {
      const exitLayers: number[] = [];
      const predictions: number[] = [];
      let rowLayers = 0;
      for (const batch of batches(size)) {
        const part = await classify(runner, batch, strategy);
        exitLayers.push(...part.exitLayers);
        predictions.push(...part.predictions);
        rowLayers += part.rowLayers;
      }
      const live = {
        ...expected,
        exitLayers: Int32Array.from(exitLayers),
        predictions: Float32Array.from(predictions),
      };
      expect(agreement(expected, live, ties).unexplained).toEqual([]);
      expect(rowLayers).toBe(exitLayers.reduce((sum, layer) => sum + layer, 0));
    }
    await runner.dispose();
    await engine.dispose();
  });
});

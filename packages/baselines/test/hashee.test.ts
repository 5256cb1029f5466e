/** @file HashEE: its maps, its cost, its training, and a forward pass that really skips tokens. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ModelPlan, type TokenBatch, toBatch } from "@cee/backbone";
import { tinyBert, toTensors } from "@cee/backbone/testing";
import type { HostParams } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import {
  blockMacs,
  frozenTokenMacs,
  fullMacs,
  hashEeOptions,
  hashEePlan,
  loadHashEe,
  openHashEe,
  saveHashEe,
  tokenMap,
} from "../src/index.js";
import { denseEncoder } from "./dense-encoder.js";
import { inventRows, movable, openEngine, trainModelPlan, withoutKeyBias } from "./support.js";

const engine = await openEngine();

const training = { epochs: 1, batchSize: 4, learningRate: 0.01, warmup: 0 };

describe("the cost model", () => {
  it("gives a whole block for all tokens, and the worked example", () => {
    const size = { hidden: 768 };
    expect(blockMacs(128, 128, size)).toBe(12 * 128 * 768 ** 2 + 2 * 128 ** 2 * 768);
    const share = frozenTokenMacs([128, 110, 92, 74, 56, 38], 128, size) / fullMacs(128, 6, size);
    expect(share).toBeCloseTo(0.7054, 4);
  });
});

describe("the map", () => {
  const special = [0, 1];
  const rows = (counts: readonly number[]) => [
    { ids: Int32Array.from([1, ...counts.flatMap((n, id) => Array<number>(n).fill(id + 2))]) },
  ];
  const make = (
    input: Parameters<typeof hashEeOptions>[0],
    counts: readonly number[],
    vocabSize = 20,
  ) => [...tokenMap(hashEeOptions(input), { vocabSize, rows: rows(counts), special, seed: 1 })];

  it("lets frequent tokens stop early: 6 buckets on 6 layers", () => {
    // Ids 2..7, the last the most frequent.
    const map = make({ maxLayer: 7, buckets: 6 }, [1, 2, 3, 4, 5, 6]);
    expect(map.slice(2, 8)).toEqual([6, 5, 4, 3, 2, 1]);
    // Special tokens and what was never seen run through.
    expect([map[0], map[1], map[8], map[19]]).toEqual([6, 6, 6, 6]);
  });

  it("leaves at every other layer of 12, and the remainder at the end", () => {
    const map = make({ maxLayer: 13, buckets: 6 }, [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    expect(map.slice(2, 15)).toEqual([1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 12]);
  });

  it("takes the first seen of equally frequent ids first", () => {
    expect(make({ maxLayer: 4, buckets: 3 }, [2, 2, 2]).slice(2, 5)).toEqual([1, 2, 3]);
  });

  it("is the same for the same seed, with buckets of the same size, when it is random", () => {
    const counts = Array.from({ length: 12 }, (_, index) => 1 + index);
    const [one, two] = [1, 2].map((seed) => [
      ...tokenMap(hashEeOptions({ maxLayer: 4, buckets: 3, map: "random" }), {
        vocabSize: 20,
        rows: rows(counts),
        special,
        seed,
      }).slice(2, 14),
    ]);
    expect(one).not.toEqual(two);
    for (const map of [one, two])
      expect([...(map as number[])].sort()).toEqual([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
  });

  it("puts tokens that are alike into one bucket when it is clustered", () => {
    const data = new Float32Array(20 * 2);
    // Three groups far from each other; ids 2, 3 occur most, then 6, 7, then 4, 5.
    [2, 3].forEach((id, at) => {
      data.set([10 + at / 10, 0], 2 * id);
    });
    [4, 5].forEach((id, at) => {
      data.set([0, 10 + at / 10], 2 * id);
    });
    [6, 7].forEach((id, at) => {
      data.set([-10 - at / 10, -10], 2 * id);
    });
    const map = tokenMap(hashEeOptions({ maxLayer: 4, buckets: 3, map: "clustered" }), {
      vocabSize: 20,
      rows: rows([9, 9, 1, 1, 5, 5]),
      special,
      seed: 3,
      embeddings: { dtype: "float32", shape: [20, 2], data },
    });
    expect([...map.slice(2, 8)]).toEqual([1, 1, 3, 3, 2, 2]);
    expect(() => make({ map: "clustered" }, [1])).toThrow(/needs the word embeddings/);
  });

  it("has the published options, and refuses more buckets than layers", () => {
    expect(hashEeOptions()).toMatchObject({
      maxLayer: 7,
      buckets: 6,
      training: { epochs: 4, batchSize: 32, learningRate: 5e-5, warmup: 0.1 },
    });
    expect(() => hashEeOptions({ maxLayer: 6, buckets: 6 })).toThrow(/fewer than maxLayer/);
  });
});

/** Rows of different lengths, and a map that sends ids to all layers. */
const rows = inventRows().map((row, index) => ({
  ...row,
  ids: Int32Array.from(row.ids, (id) => id % 20).slice(0, 2 + (index % 6)),
  types: row.types.slice(0, 2 + (index % 6)),
}));
const mapFor = (last: number) => Int32Array.from({ length: 20 }, (_, id) => 1 + (id % last));

describe("the forward pass", () => {
  const model = tinyBert({ depth: 4, hidden: 8, dropout: 0 });
  const options = hashEeOptions({ maxLayer: 5, buckets: 4, training });

  it("gives what a dense pass with frozen states gives, written otherwise", async () => {
    for (const [maxLayer, seed] of [
      [5, 1],
      [4, 2],
    ] as const) {
      const other = tinyBert({ depth: 4, hidden: 8, seed });
      const last = maxLayer - 1;
      const opened = openHashEe(engine, other, other.params, mapFor(last), {
        ...options,
        maxLayer,
      });
      const batch = toBatch(rows, { multiple: 8 });
      const { logits, predictions } = await opened.classify(batch);
      const expected = dense(other, other.params, batch, mapFor(last), last);
      expect(logits.length).toBe(expected.length);
      logits.forEach((value, index) => {
        expect(value).toBeCloseTo(expected[index] as number, 4);
      });
      expect([...predictions]).toEqual(
        rows.map((_, row) =>
          Number((expected[2 * row + 1] as number) > (expected[2 * row] as number)),
        ),
      );
      await opened.dispose();
    }
  });

  it("gives each row what it gets alone, and counts its tokens", async () => {
    const opened = openHashEe(engine, model, model.params, mapFor(4), options);
    const together = await opened.classify(toBatch(rows, { multiple: 8 }));
    for (const [row, own] of rows.entries()) {
      const alone = await opened.classify(toBatch([own]));
      for (const at of [0, 1])
        expect(together.logits[2 * row + at]).toBeCloseTo(alone.logits[at] as number, 5);
      const active = [1, 2, 3, 4].map(
        (layer) => [...own.ids].filter((id, at) => at === 0 || 1 + (id % 4) >= layer).length,
      );
      expect([...alone.active]).toEqual(active);
      expect([...together.active.slice(4 * row, 4 * row + 4)]).toEqual(active);
      expect(together.macs[row]).toBe(frozenTokenMacs(active, own.ids.length, model.config));
    }
    await opened.dispose();
  });

  it("goes through more layers than one graph holds", async () => {
    const deep = tinyBert({ depth: 14, hidden: 8, spread: 0.2 });
    const opened = openHashEe(engine, deep, deep.params, mapFor(14), { ...options, maxLayer: 15 });
    const batch = toBatch(rows.slice(0, 4));
    const { logits } = await opened.classify(batch);
    const expected = dense(deep, deep.params, batch, mapFor(14), 14);
    logits.forEach((value, index) => {
      expect(value).toBeCloseTo(expected[index] as number, 4);
    });
    await opened.dispose();
  });

  it("refuses what it can't run", () => {
    const open = (other: ModelPlan & { params: HostParams }, map = mapFor(4), maxLayer = 5) =>
      openHashEe(engine, other, other.params, map, { ...options, maxLayer });
    expect(() => open(tinyBert({ regression: true }))).toThrow(/can't do regression: .*no classes/);
    expect(() => open(model, mapFor(4), 6)).toThrow(/at most 5 for a model of 4 layers, got 6/);
    expect(() => open(model, mapFor(4).slice(1))).toThrow(
      /must have 20 tokens, as the model, got 19/,
    );
  });
});

/** Logits `[N, C]`; every token is computed at every layer, and the frozen ones are put back row by row. */
function dense(
  model: ModelPlan,
  params: HostParams,
  batch: TokenBatch,
  map: Int32Array,
  last: number,
) {
  return denseEncoder(
    model,
    toTensors(params),
    batch,
    (layer, before, after) => {
      const frozen = Array.from({ length: batch.rows * batch.length }, (_, at) => {
        const isFirst = at % batch.length === 0;
        return !isFirst && layer > (map[batch.ids[at] as number] as number);
      });
      const keep = tf.tensor(frozen.map(Number), [batch.rows, batch.length, 1]);
      return tf.where(tf.equal(keep, 1), before, after);
    },
    last,
  );
}

describe("training", () => {
  it("moves the layers it keeps and the last classifier, and nothing else", async () => {
    const options = hashEeOptions({ maxLayer: 3, buckets: 2, training });
    const result = await trainModelPlan(engine, (model) =>
      hashEePlan(model, options, allEven(model)),
    );
    const parts = [
      "backbone.embeddings.",
      "backbone.encoder.layer.0.",
      "backbone.encoder.layer.1.",
      "backbone.pooler.",
      "heads.2.",
    ];
    expect(withoutKeyBias(result.changed)).toEqual(movable(result.before, ...parts));
    expect(result.trained.heads).toEqual([2]);
  });

  it("takes the loss of the very pass that answers", async () => {
    const options = hashEeOptions({
      maxLayer: 4,
      buckets: 3,
      training: { ...training, batchSize: 12, learningRate: 1e-9 },
    });
    const result = await trainModelPlan(
      engine,
      (model) => hashEePlan(model, options, allEven(model)),
      {
        dropout: 0,
      },
    );
    const opened = openHashEe(engine, result.model, result.before, allEven(result.model), options);
    const { logits } = await opened.classify(toBatch(inventRows()));
    await opened.dispose();
    const losses = inventRows().map(({ label }, row) => {
      const [a, b] = [logits[2 * row] as number, logits[2 * row + 1] as number];
      return Math.log(Math.exp(a) + Math.exp(b)) - (label === 0 ? a : b);
    });
    const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    expect(result.reports[0]?.loss).toBeCloseTo(mean, 4);
  });

  it("costs less with fewer layers or tokens that leave earlier, and answers alike after loading", async () => {
    const folder = await mkdtemp(join(tmpdir(), "cee-hashee-"));
    try {
      const options = hashEeOptions({ maxLayer: 4, buckets: 3, training });
      const result = await trainModelPlan(engine, (model) =>
        hashEePlan(model, options, allEven(model)),
      );
      const map = allEven(result.model);
      const encoder = { ...result.model, params: result.params, trainedHeads: [3] };
      await saveHashEe(folder, { encoder, map, options });
      const loaded = await loadHashEe(folder);
      expect(loaded.options).toEqual(options);
      expect(loaded.map).toEqual(map);
      const batch = toBatch(inventRows());
      const spent = async (own: Int32Array, maxLayer: number, params = result.params) => {
        const opened = openHashEe(engine, result.model, params, own, { ...options, maxLayer });
        const outcome = await opened.classify(batch);
        await opened.dispose();
        return { ...outcome, total: outcome.macs.reduce((sum, value) => sum + value, 0) };
      };
      const [saved, again] = [
        await spent(map, 4),
        await spent(loaded.map, 4, loaded.encoder.params),
      ];
      expect(again.logits).toEqual(saved.logits);
      const later = await spent(new Int32Array(map.length).fill(3), 4);
      const shallower = await spent(
        map.map((layer) => Math.min(layer, 2)),
        3,
      );
      expect(saved.total).toBeLessThan(later.total);
      expect(shallower.total).toBeLessThan(saved.total);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

function allEven({ config }: ModelPlan): Int32Array {
  return Int32Array.from({ length: config.vocabSize }, (_, id) => 1 + (id % 2));
}

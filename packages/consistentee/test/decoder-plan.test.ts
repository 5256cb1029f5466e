/** @file ConsistentEE's and CALM's training of decoders: what is learned where a token needs depth and where it does not. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type CausalDecoder,
  createCausalDecoder,
  createLlamaConfig,
  type DecoderText,
  fitDecoder,
  withOwnHeads,
} from "@cee/backbone";
import { createEngine, createRng, type Engine, type HostParams } from "@cee/engine";
import { calmMeta, calmMetaPhase, type ExitRecord, toObserver } from "@cee/exit-policies";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type ConsistentEEInput,
  consistentEEDecoder,
  consistentEEDecoderPlan,
  decoderOptions,
  greedyExit,
} from "../src/index.js";

let engine: Engine;
let model: CausalDecoder;
beforeAll(async () => {
  engine = await createEngine({ threads: 1 });
  model = damaged((await train({})).decoder);
}, 120_000);
afterAll(() => engine.dispose());

const depth = 3;
const fresh = withOwnHeads(
  createCausalDecoder({
    config: createLlamaConfig({
      vocabSize: 16,
      hidden: 24,
      depth,
      heads: 2,
      intermediate: 32,
      maxPositions: 24,
      initializerRange: 0.15,
    }),
    seed: 2,
  }),
);

/** The first layer's head takes one letter for another, so that letters need a second layer. */
function damaged(decoder: CausalDecoder): CausalDecoder {
  const path = "heads.1.weight";
  const { shape: sizes, data: before } = decoder.params[path] as HostParams[string];
  const [vocabulary, width] = sizes as [number, number];
  const data = Float32Array.from(before);
  for (let letter = 3; letter < vocabulary; letter += 1) {
    const other = letter + 1 < vocabulary ? letter + 1 : 3;
    data.set(before.subarray(other * width, (other + 1) * width) as Float32Array, letter * width);
  }
  return {
    ...decoder,
    params: { ...decoder.params, [path]: { dtype: "float32", shape: sizes, data } },
  };
}

/** Every other token is 2, which any token announces; those between repeat the one six places before. */
const texts: readonly DecoderText[] = Array.from({ length: 64 }, (_, row) => {
  const rng = createRng(`text ${row}`);
  const letters = [0, 1, 2].map(() => 3 + rng.int(13));
  const ids = Int32Array.from({ length: 18 }, (_, at) =>
    at % 2 === 0 ? (letters[(at / 2) % 3] as number) : 2,
  );
  return { id: `${row}`, ids, from: 6 };
});
const isEasy = (id: string) => Number(id.split(":")[1]) % 2 === 1;

const strategy = consistentEEDecoder({ width: 8 });
const shape = fresh.shape;

/** Fits the plan, by default its first step alone. */
async function train(options: ConsistentEEInput, decoder: CausalDecoder = fresh) {
  const records: ExitRecord[] = [];
  const own = strategy.definition.params?.(shape, strategy.options, 1) ?? {};
  const settings = decoderOptions({
    objective: "exact",
    initialise: { epochs: 40, batchSize: 16, learningRate: 6e-3 },
    policy: { epochs: 20, batchSize: 128, learningRate: 1e-2 },
    task: { epochs: 1, batchSize: 16, learningRate: 1e-4 },
    ...options,
  });
  const fitted = await fitDecoder({
    engine,
    decoder,
    strategyParams: own,
    observer: toObserver(strategy, own),
    *plan() {
      const plan = consistentEEDecoderPlan(shape, settings, { heads: "per-layer", lora: false });
      for (let next = plan.next(); !next.done; ) {
        const phase = next.value;
        if (decoder === fresh && phase.name !== "initialise") return;
        const report = yield {
          ...phase,
          measure(record) {
            records.push(record);
            return phase.measure?.(record) ?? {};
          },
        };
        next = plan.next(report);
      }
    },
    train: texts,
    dev: texts,
    seed: 4,
  });
  const record = records.at(-1) as ExitRecord;
  const exits = record.ids.map((_, row) =>
    greedyExit(record.observed.subarray(row * depth, (row + 1) * depth)),
  );
  const mean = (wanted: (id: string) => boolean) => {
    const own = exits.filter((_, row) => wanted(record.ids[row] as string));
    return own.reduce((sum, exit) => sum + exit, 0) / own.length;
  };
  return { ...fitted, record, mean };
}

describe("ConsistentEE's plan for decoders", () => {
  it("lets the tokens go early that need no depth, and those alone", async () => {
    const { record, mean, decoder, trained } = await train(
      { alpha: 0.05, initialised: true },
      model,
    );
    const losses = record.tokens?.losses as Float32Array;
    const meanLoss = (layer: number, wanted: boolean) => {
      const own = record.ids.flatMap((id, row) =>
        isEasy(id) === wanted ? [losses[row * depth + layer - 1] as number] : [],
      );
      return own.reduce((sum, loss) => sum + loss, 0) / own.length;
    };
    // What the texts are made for: otherwise the test says nothing.
    expect(meanLoss(1, true)).toBeLessThan(0.1);
    expect(meanLoss(1, false)).toBeGreaterThan(meanLoss(depth, false) + 0.5);
    expect(mean(isEasy)).toBeLessThan(1.1);
    expect(mean((id) => !isEasy(id))).toBeGreaterThan(1.9);
    expect(trained).toEqual({ heads: [1, 2, 3], strategy: true });
    // Behind the first step the backbone is frozen.
    for (const [path, { data }] of Object.entries(model.params))
      if (path.startsWith("backbone.")) expect(decoder.params[path]?.data).toEqual(data);
  });

  it("pays for speed as alpha says", async () => {
    const at = async (alpha: number) =>
      (await train({ alpha, initialised: true }, model)).mean(() => true);
    expect(await at(50)).toBe(1);
    expect(await at(0)).toBeGreaterThanOrEqual(1.5);
  });
});

describe("CALM's early-exit classifier", () => {
  it("is surer where the answer stays than where it changes", async () => {
    const meta = calmMeta();
    const params = meta.definition.params?.(shape, meta.options, 1) ?? {};
    let record: ExitRecord | undefined;
    const fit = (more: object) =>
      fitDecoder({
        engine,
        decoder: model,
        strategyParams: params,
        observer: toObserver(meta, params),
        *plan() {
          yield {
            ...calmMetaPhase({ epochs: 30, batchSize: 64, learningRate: 2e-2 }),
            measure(found) {
              record = found;
              return {};
            },
          };
        },
        train: texts,
        dev: texts,
        seed: 4,
        ...more,
      });
    const fromMemory = await fit({});
    // The same from files, where recorded states do not fit into memory.
    const out = await mkdtemp(join(tmpdir(), "cee-decoder-"));
    const sizes: string[] = [];
    const log = (line: string) => sizes.push(line);
    const fromFiles = await fit({ out, recordMemory: 1, log }).finally(() =>
      rm(out, { recursive: true, force: true }),
    );
    expect(fromFiles.strategyParams).toEqual(fromMemory.strategyParams);
    expect(sizes.join()).toContain("recorded states take");
    const { observed, tokens, ids } = record as ExitRecord;
    const surest = [false, true].map((wanted) => {
      const own = ids.flatMap((_, row) => {
        const answers = tokens?.answers.subarray(row * depth, (row + 1) * depth) as Float32Array;
        return (answers[0] === answers[depth - 1]) === wanted
          ? [observed[row * depth] as number]
          : [];
      });
      expect(own.length).toBeGreaterThan(20);
      return own.reduce((sum, value) => sum + value, 0) / own.length;
    });
    expect(surest[1]).toBeGreaterThan((surest[0] as number) + 0.3);
  });
});

describe("options", () => {
  it("that cannot be are refused by name", () => {
    expect(() => decoderOptions({ alpha: -1 })).toThrow(/^\[ConsistentEE\] alpha: .*-1/);
    expect(() => decoderOptions({ policy: { epochs: 0 } })).toThrow(/policy\.epochs/);
  });
});

/**
 * @file Rows of a batch that leave and end at different places get what they get alone, under every strategy and every
 * treatment of skipped layers; and drafts that are verified give full depth's text, whatever drafted them.
 */
import {
  type CausalDecoder,
  createCausalDecoder,
  createLlamaConfig,
  withOwnHeads,
} from "@cee/backbone";
import { createRng, type HostParams } from "@cee/engine";
import {
  alwaysAt,
  calm,
  calmMeta,
  calmState,
  type ExitStrategy,
  never,
  shallowDeep,
} from "@cee/exit-policies";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { CausalLM, consistentEEDecoder, type Generation } from "../src/index.js";

const DEPTH = 5;

/** Weights large enough to be decided. */
function fresh(seed: number): CausalDecoder {
  return createCausalDecoder({
    config: createLlamaConfig({
      vocabSize: 40,
      hidden: 16,
      depth: DEPTH,
      heads: 4,
      kvHeads: 2,
      intermediate: 24,
      maxPositions: 64,
      initializerRange: 0.35,
      bosTokenId: 1,
      eosTokenIds: [0],
    }),
    seed,
  });
}

/** Parameters as the strategy makes them, with numbers spread so that places differ. */
function spread(strategy: ExitStrategy, decoder: CausalDecoder): HostParams {
  const rng = createRng(`spread ${strategy.name}`);
  const made = strategy.definition.params?.(decoder.shape, strategy.options, 1) ?? {};
  return Object.fromEntries(
    Object.entries(made).map(([name, tensor]) => [
      name,
      {
        ...tensor,
        data: Float32Array.from(tensor.data as Float32Array, () => 1.5 * (rng.next() - 0.5)),
      },
    ]),
  );
}

/** Heads per layer that answer a little unlike each other. */
function withDistinctHeads(decoder: CausalDecoder): CausalDecoder {
  const own = withOwnHeads(decoder);
  const params = Object.entries(own.params).map(([path, tensor]) => {
    if (!path.startsWith("heads.")) return [path, tensor];
    const rng = createRng(path);
    const data = Float32Array.from(tensor.data as Float32Array, (x) => x + 0.08 * rng.normal());
    return [path, { ...tensor, data }];
  });
  const trainedHeads = Array.from({ length: DEPTH }, (_, index) => index + 1);
  return { ...own, params: Object.fromEntries(params), trainedHeads };
}

const opened: CausalLM[] = [];
afterAll(async () => {
  for (const model of opened) await model.dispose();
});

async function open(
  decoder: CausalDecoder,
  strategy?: ExitStrategy,
  exits?: readonly number[],
): Promise<CausalLM> {
  const model = await CausalLM.open(decoder, {
    threads: 1,
    ...(strategy ? { strategy } : {}),
    ...(strategy?.definition.params ? { strategyParams: spread(strategy, decoder) } : {}),
    ...(exits ? { exits } : {}),
  });
  opened.push(model);
  return model;
}

const prompts = [
  [1, 3, 7, 11, 2, 30],
  [1, 25],
  [1, 4, 4, 9, 17, 5, 6, 8, 33, 12],
  [1, 38, 20, 21],
];

interface Case {
  readonly strategy: ExitStrategy;
  readonly exits?: readonly number[];
  /** Tokens leave at several layers. */
  readonly isMixed: boolean;
}

const cases: readonly Case[] = [
  { strategy: calm({ threshold: 0.35 }), isMixed: true },
  { strategy: calmState({ threshold: 0.8, decay: "none" }), isMixed: true },
  { strategy: calmMeta({ threshold: 0.5, decay: "none" }), isMixed: true },
  { strategy: shallowDeep({ layer: 2, threshold: 0.3 }), exits: [2], isMixed: true },
  { strategy: consistentEEDecoder(), isMixed: true },
  { strategy: alwaysAt({ layer: 3 }), exits: [3], isMixed: false },
  { strategy: never(), isMixed: false },
];

describe("a row of a batch gets what it gets alone", () => {
  describe.each(["shared", "per-layer"] as const)("with %s heads", (heads) => {
    const decoder = heads === "shared" ? fresh(6) : withDistinctHeads(fresh(6));

    it.each(cases.map((one) => [one.strategy.name, one] as const))("%s", async (_, one) => {
      const model = await open(decoder, one.strategy, one.exits);
      for (const keyValues of ["copy", "recompute", "verify"] as const) {
        const most = { keyValues, maxNewTokens: 24 };
        // What the first row writes for the first time, as late as there is such a token, ends it before the others.
        const { ids } = await model.generate(prompts[0] as number[], { ...most, stopTokens: [] });
        const stop = ids.findLast((id, place) => ids.indexOf(id) === place && place < 20);
        const options = { ...most, stopTokens: [stop as number] };
        const { rows } = await model.generateBatch(prompts, options);
        for (const [row, prompt] of prompts.entries())
          expect(rows[row], `${keyValues}, row ${row + 1}`).toEqual(
            await model.generate(prompt, options),
          );
        // What the texts are made for: otherwise the test says nothing.
        expect(new Set(rows.map(({ ids }) => ids.length)).size).toBeGreaterThan(1);
        const places = rows.map(({ exitLayers }) => exitLayers.slice(1));
        if (one.isMixed) {
          const isApart = Array.from({ length: 24 }, (_, at) =>
            places.flatMap((row) => row[at] ?? []),
          ).some((layers) => new Set(layers).size > 1);
          expect(isApart, `${keyValues}: rows leave at different layers`).toBe(true);
        }
        expect(model.inUse).toEqual({ batches: 0, cacheBytes: 0 });
      }
    });
  });
});

/** As {@link fresh}, but tokens 2 i and 2 i + 1 have the same logits, so that every place is a tie. */
function tied(seed: number): CausalDecoder {
  const decoder = fresh(seed);
  const path = "backbone.lm_head.weight";
  const table = decoder.params[path] as HostParams[string];
  const data = Float32Array.from(table.data as Float32Array);
  const width = decoder.config.hidden;
  for (let id = 0; id < decoder.config.vocabSize; id += 2)
    data.copyWithin((id + 1) * width, id * width, (id + 1) * width);
  return { ...decoder, params: { ...decoder.params, [path]: { ...table, data } } };
}

/** The first place where two texts part. */
function partsAt(one: Generation, other: Generation): number | undefined {
  const length = Math.max(one.ids.length, other.ids.length);
  for (let place = 0; place < length; place += 1)
    if (one.ids[place] !== other.ids[place]) return place;
  return undefined;
}

describe("verified drafts", () => {
  const drafter = fc.oneof(
    fc.integer({ min: 1, max: DEPTH - 1 }).map((layer) => `layer ${layer}`),
    fc.constantFrom("calm", "consistentee-decoder"),
  );
  const text = fc
    .array(fc.integer({ min: 0, max: 39 }), { minLength: 1, maxLength: 12 })
    .map((ids) => [1, ...ids]);

  it("give full depth's text token for token, but behind a listed near tie", async () => {
    const decoders = [fresh(6), fresh(7)];
    const models = new Map<string, Promise<CausalLM>>();
    const modelOf = (which: number, name: string): Promise<CausalLM> => {
      const known = models.get(`${which} ${name}`);
      if (known) return known;
      const decoder = decoders[which] as CausalDecoder;
      const layer = Number(/^layer (\d)$/.exec(name)?.[1]);
      const model =
        name === "full"
          ? open(decoder)
          : name === "calm"
            ? open(decoder, calm({ threshold: 0.2 }))
            : layer
              ? open(decoder, alwaysAt({ layer }), [layer])
              : open(decoder, consistentEEDecoder());
      models.set(`${which} ${name}`, model);
      return model;
    };
    let [drafted, accepted] = [0, 0];
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: decoders.length - 1 }),
        drafter,
        fc.array(text, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 6 }),
        async (which, name, batch, draftLength) => {
          const options = { maxNewTokens: 24 };
          const full = await (await modelOf(which, "full")).generateBatch(batch, options);
          const drafts = await (await modelOf(which, name)).generateBatch(batch, {
            ...options,
            keyValues: "verify",
            draftLength,
          });
          drafted += drafts.stats.drafted;
          accepted += drafts.stats.accepted;
          for (const [row, wanted] of full.rows.entries()) {
            const found = drafts.rows[row] as Generation;
            const place = partsAt(wanted, found);
            if (place === undefined) expect(found.finishReason).toBe(wanted.finishReason);
            else expect(wanted.nearTies.some((tie) => tie <= place)).toBe(true);
          }
        },
      ),
      { numRuns: 40, seed: 1 },
    );
    expect(accepted).toBeGreaterThan(100);
    expect(drafted - accepted).toBeGreaterThan(100);
  });

  it("list the places where full depth's two best are level", async () => {
    const decoder = tied(6);
    const full = await open(decoder);
    const drafting = await open(decoder, alwaysAt({ layer: 3 }), [3]);
    const options = { maxNewTokens: 12, stopTokens: [] };
    const all = Array.from({ length: 12 }, (_, place) => place);
    expect((await full.generate([1, 5], options)).nearTies).toEqual(all);
    const { nearTies } = await drafting.generate([1, 5], { ...options, keyValues: "verify" });
    expect(nearTies).toEqual(all);
    // And only those.
    const apart = await open(fresh(6));
    expect((await apart.generate([1, 5], options)).nearTies).toEqual([]);
  });
});

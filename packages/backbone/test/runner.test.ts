/** @file The encoder's runner: layer by layer as in one graph, rows that leave cost nothing, and nothing stays behind. */
import { createEngine, createRng, type Engine, type HostTensor } from "@cee/engine";
import {
  agreement,
  type Carry,
  type Classification,
  classify,
  createRegistry,
  type ExitHead,
  type ExitOutcome,
  type ExitRecord,
  type ExitRunner,
  type ExitStrategy,
  entropy,
  loadStrategy,
  nearTies,
  type Observer,
  patience,
  record,
  replay,
  saveStrategy,
  toObserver,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadExitEncoder, saveExitEncoder } from "../src/encoder-folder.js";
import { linear } from "../src/heads/linear.js";
import { type TokenBatch, toBatch } from "../src/runner/batch.js";
import { openFlat } from "../src/runner/flat.js";
import { compileFull, openEncoder } from "../src/runner/open.js";
import { tinyBert } from "../src/testing.js";
import { fit, type TrainingRow } from "../src/train/fit.js";
import { recordRows } from "../src/train/recording.js";
import { scratchFolder } from "./helpers/scratch.js";
import { allExits, inventRows, tinyTraining } from "./helpers/tiny-training.js";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 1 });
});
afterAll(() => engine.dispose());

const DEPTH = 5;
const fresh = tinyBert({ depth: DEPTH, hidden: 16, heads: 4, spread: 0.4, classes: 3 });
/** Fresh heads are certain of nothing; these answer like trained ones. */
const model = {
  ...fresh,
  params: Object.fromEntries(
    Object.entries(fresh.params).map(([path, tensor]) => [
      path,
      path.startsWith("heads.")
        ? { ...tensor, data: (tensor.data as Float32Array).map((value) => 60 * value) }
        : tensor,
    ]),
  ),
};
const rows = inventRows(300, "rows", 20);

const labelsOf = (of: readonly TrainingRow[]) => ({
  ids: of.map(({ id }) => id),
  labels: of.map(({ label }) => label),
});
const batchesOf = (of: readonly TrainingRow[], size: number): TokenBatch[] =>
  Array.from({ length: Math.ceil(of.length / size) }, (_, index) =>
    toBatch(of.slice(index * size, (index + 1) * size)),
  );

/** The outcome of several batches as one. */
async function classifyAll(
  runner: ExitRunner<TokenBatch>,
  batches: readonly TokenBatch[],
  strategy: ExitStrategy,
  compactEvery = 1,
): Promise<ExitOutcome & { readonly rowLayers: number }> {
  const parts: Classification[] = [];
  for (const batch of batches)
    parts.push(await classify(runner, batch, strategy, { compactEvery }));
  const join = (name: "exitLayers" | "logits" | "predictions") =>
    parts.flatMap((p) => [...p[name]]);
  return {
    rows: join("exitLayers").length,
    exitLayers: Int32Array.from(join("exitLayers")),
    logits: Float32Array.from(join("logits")),
    predictions: Float32Array.from(join("predictions")),
    nonFinite: parts.reduce((sum, part) => sum + part.nonFinite, 0),
    rowLayers: parts.reduce((sum, part) => sum + part.rowLayers, 0),
  };
}

/** An engine that writes down what its functions ran on, and which of them were disposed of. */
function watched(real: Engine) {
  const runs: { readonly name: string; readonly batch: number }[] = [];
  const open = new Set<string>();
  const watching: Engine = {
    ...real,
    compile(fn, options) {
      const made = real.compile(fn, options);
      open.add(options.name);
      return {
        ...made,
        async run(inputs: Record<string, HostTensor>, more) {
          runs.push({ name: options.name, batch: (inputs.hidden ?? inputs.ids)?.shape[0] ?? 0 });
          return made.run(inputs, more);
        },
        async dispose() {
          open.delete(options.name);
          await made.dispose();
        },
      } as typeof made;
    },
  };
  return { engine: watching, runs, open };
}

/** A threshold that a share of the numbers lie below, in a gap between them. */
function thresholdAt(numbers: Float32Array, share: number): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const at = Math.floor(share * sorted.length);
  const [low, high] = sorted
    .slice(Math.max(0, at - 15), at + 15)
    .map((value, index, near) => [value, near[index + 1] ?? value] as const)
    .reduce((best, gap) => (gap[1] - gap[0] > best[1] - best[0] ? gap : best));
  return (low + high) / 2;
}

describe.each([
  [
    "entropy",
    entropy(),
    ({ observed }: ExitRecord) => entropy({ threshold: thresholdAt(observed, 0.3) }),
  ],
  ["patience", patience(), () => patience({ patience: 1 })],
] as const)("early stopping with %s", (_, recorded, choose) => {
  let strategy: ExitStrategy;
  let runner: ExitRunner<TokenBatch>;
  let full: ExitRecord;
  let expected: ExitOutcome;
  let ties: readonly number[];
  beforeAll(async () => {
    runner = await openEncoder(engine, model, model.params, toObserver(recorded));
    full = await record(runner, batchesOf(rows, 32), labelsOf(rows));
    strategy = choose(full);
    expected = replay(full, strategy);
    ties = nearTies(full, strategy);
  });
  afterAll(() => runner.dispose());

  it("uses several layers on these rows", () => {
    expect(new Set(expected.exitLayers).size).toBeGreaterThan(2);
    expect(ties.length / rows.length).toBeLessThan(0.001);
  });

  it.each([
    ["one by one", 1, 1],
    ["in batches of mixed lengths", 32, 1],
    ["in batches, dropping rows now and then", 32, 2],
    ["in batches of another size", 7, 1],
  ])("answers %s as the record says", async (_title, size, compactEvery) => {
    const outcome = await classifyAll(runner, batchesOf(rows, size), strategy, compactEvery);
    const { unexplained, differing } = agreement(expected, outcome, ties, 1e-4);
    expect(unexplained).toEqual([]);
    expect(differing.length).toBeLessThanOrEqual(ties.length);
    expect(outcome.logits).toBeAllclose(expected.logits, { rtol: 1e-4, atol: 1e-4 });
  });

  it("answers in other company as the record says", async () => {
    const order = createRng("company").shuffle(rows.map((_row, index) => index));
    const shuffled = order.map((index) => rows[index] as TrainingRow);
    const outcome = await classifyAll(runner, batchesOf(shuffled, 19), strategy);
    const back = {
      ...expected,
      exitLayers: new Int32Array(300),
      predictions: new Float32Array(300),
    };
    order.forEach((row, index) => {
      back.exitLayers[row] = outcome.exitLayers[index] as number;
      back.predictions[row] = outcome.predictions[index] as number;
    });
    expect(agreement(expected, back, ties).unexplained).toEqual([]);
  });

  it("exits exactly as a replay of the numbers that it saw itself", async () => {
    const batch = toBatch(rows.slice(0, 64));
    const observed = new Float32Array(64 * DEPTH).fill(Number.NaN);
    const logits = new Float32Array(64 * DEPTH * 3).fill(Number.NaN);
    const spying: ExitRunner<TokenBatch> = {
      ...runner,
      async begin(input) {
        const pass = await runner.begin(input);
        return Object.create(pass, {
          advance: {
            async value() {
              const live = [...pass.liveRows];
              const output = await pass.advance();
              live.forEach((row, index) => {
                const cell = row * DEPTH + pass.layer - 1;
                observed[cell] = output.observed[index] as number;
                logits.set(output.logits.subarray(index * 3, index * 3 + 3), cell * 3);
              });
              return output;
            },
          },
        });
      },
    };
    const live = await classify(spying, batch, strategy);
    const seen = {
      ...full,
      ids: full.ids.slice(0, 64),
      labels: full.labels.slice(0, 64),
      logits,
      observed,
    };
    const { exitLayers, predictions, logits: answers } = replay(seen, strategy);
    expect(live).toMatchObject({ exitLayers, predictions, logits: answers });
  });

  it("spends nothing on rows that have left", async () => {
    const { engine: watching, runs } = watched(engine);
    const own = await openEncoder(watching, model, model.params, toObserver(strategy));
    runs.length = 0;
    const outcome = await classify(own, toBatch(rows.slice(0, 50)), strategy);
    await own.dispose();
    const alive = (layer: number) => outcome.exitLayers.filter((exit) => exit >= layer).length;
    expect(runs).toEqual([
      ...Array.from({ length: Math.max(...outcome.exitLayers) }, (__, index) => ({
        name: `layer ${index + 1}`,
        batch: alive(index + 1),
      })),
    ]);
    expect(outcome.rowLayers).toBe(outcome.exitLayers.reduce((sum, layer) => sum + layer, 0));
    expect(alive(DEPTH)).toBeLessThan(50);
  });

  it("runs two passes side by side without mixing them", async () => {
    const [a, b] = [toBatch(rows.slice(0, 40)), toBatch(rows.slice(40, 60))];
    const alone = [await classify(runner, a, strategy), await classify(runner, b, strategy)];
    const together = await Promise.all([
      classify(runner, a, strategy),
      classify(runner, b, strategy),
    ]);
    expect(together).toEqual(alone);
  });

  it("takes memory over from the pass before, of whatever size, but not while a layer writes to it", async () => {
    const batches = [rows.slice(0, 3), rows.slice(3, 40), rows.slice(40, 41)].map((some) =>
      toBatch(some),
    );
    const first: Classification[] = [];
    for (const batch of batches) first.push(await classify(runner, batch, strategy));
    for (const index of [2, 0, 1, 0]) {
      const left = await runner.begin(batches[1] as TokenBatch);
      await left.advance();
      const running = left.advance();
      left.dispose();
      const [again] = await Promise.all([
        classify(runner, batches[index] as TokenBatch, strategy),
        running,
      ]);
      expect(again).toEqual(first[index]);
    }
  });
});

describe("openEncoder", () => {
  const observer = toObserver(entropy());

  it("gives in one graph what a program with fed weights gives, and the flat model at the end", async () => {
    const runner = await openEncoder(engine, model, model.params, observer);
    const program = compileFull(engine, model, model.params, observer, ["logits", "pooled"]);
    const batch = toBatch(rows.slice(0, 9));
    const [baked, fed] = [await runner.full(batch), await program.run(model.params, batch)];
    expect(fed.logits).toBeAllclose(baked.logits, { rtol: 1e-4, atol: 1e-5 });
    expect(fed.observed).toBeAllclose(baked.observed, { rtol: 1e-4, atol: 1e-5 });
    expect(fed.extra.logits?.data).toEqual(fed.logits);
    expect(fed.extra.pooled?.width).toBe(16);
    for (const layer of [2, DEPTH]) {
      const flat = openFlat(engine, model, model.params, layer);
      const at = baked.logits.filter((__, index) => Math.floor(index / 3) % DEPTH === layer - 1);
      expect(await flat.logits(batch)).toBeAllclose(at, { rtol: 1e-4, atol: 1e-5 });
      await flat.dispose();
    }
    expect(() => openFlat(engine, model, model.params, 6)).toThrow(/from 1 to 5/);
    // Rows are recorded in order of length and come back in their own.
    const { record: made } = await recordRows(program, {
      shape: model.shape,
      params: model.params,
      rows: rows.slice(0, 9),
      batchSize: 4,
      padId: 0,
    });
    expect(made.logits).toBeAllclose(baked.logits, { rtol: 1e-4, atol: 1e-4 });
    expect(made.ids).toEqual(rows.slice(0, 9).map(({ id }) => id));
    await program.dispose();
    await runner.dispose();
  });

  it("hands carries from layer to layer, compacted with the rows, also those with a length", async () => {
    // Past answers are averaged in, and a running maximum over the tokens travels along.
    const averaging: ExitHead = {
      ...linear,
      name: "averaging",
      carries: true,
      apply(params, input, carry) {
        const now = linear.apply(params, input, undefined);
        const past = carry as { sum: tf.Tensor2D; peak: tf.Tensor3D } | undefined;
        const sum = past ? tf.add<tf.Tensor2D>(past.sum, now.logits) : now.logits;
        const peak = past ? tf.maximum<tf.Tensor3D>(past.peak, input.hidden) : input.hidden;
        const logits = tf.add<tf.Tensor2D>(
          tf.div(sum, input.layer),
          tf.mul(tf.sum(tf.mul(tf.sum(peak, 2), input.mask), 1, true), 0.01),
        );
        return { ...now, logits, carry: { sum, peak } };
      },
    };
    const remembering: Observer = {
      name: "remembering",
      needs: ["logits"],
      params: {},
      observe(now, { carry }) {
        const top = tf.max(now.logits as tf.Tensor2D, 1) as tf.Tensor1D;
        const [past] = (carry as readonly [tf.Tensor1D] | undefined) ?? [top];
        const most = tf.maximum<tf.Tensor1D>(past, top);
        return {
          values: tf.stack([top, most], 1) as tf.Tensor2D,
          carry: [most] as readonly Carry[],
        };
      },
    };
    const own = { ...model, head: averaging };
    const runner = await openEncoder(engine, own, model.params, remembering);
    const batch = toBatch(rows.slice(0, 12));
    const whole = await runner.full(batch);
    expect(whole.observedWidth).toBe(2);
    const pass = await runner.begin(batch);
    for (let layer = 1; layer <= DEPTH; layer += 1) {
      const live = [...pass.liveRows];
      const output = await pass.advance();
      live.forEach((row, index) => {
        const cell = row * DEPTH + layer - 1;
        const [seen, told] = [
          [
            ...output.observed.slice(index * 2, index * 2 + 2),
            ...output.logits.slice(index * 3, index * 3 + 3),
          ],
          [
            ...whole.observed.slice(cell * 2, cell * 2 + 2),
            ...whole.logits.slice(cell * 3, cell * 3 + 3),
          ],
        ];
        expect(seen, `row ${row}, layer ${layer}`).toBeAllclose(told, { rtol: 1e-4, atol: 1e-4 });
      });
      pass.keep(live.filter((row) => row % (layer + 1) !== 0));
    }
    expect(pass.liveRows).toEqual([1, 7, 11]);
    pass.dispose();
    await runner.dispose();
  });

  it("refuses to go on where a pass cannot", async () => {
    const runner = await openEncoder(engine, model, model.params, observer);
    const pass = await runner.begin(toBatch(rows.slice(0, 4)));
    for (const kept of [[4], [1, 0], [0, 0], [-1]])
      expect(() => pass.keep(kept)).toThrow(expect.objectContaining({ code: "BAD_ROWS" }));
    const running = pass.advance();
    expect(() => pass.keep([0])).toThrow(/while a layer was running/);
    await expect(pass.advance()).rejects.toMatchObject({ code: "BAD_ROWS" });
    await running;
    pass.keep([1, 3]);
    expect(() => pass.keep([0])).toThrow(/row 0 is not live/);
    pass.keep([]);
    for (let layer = 2; layer <= DEPTH; layer += 1)
      expect(await pass.advance()).toEqual({
        observed: new Float32Array(0),
        observedWidth: 1,
        logits: new Float32Array(0),
      });
    await expect(pass.advance()).rejects.toMatchObject({ code: "NO_MORE_LAYERS" });
    pass.dispose();
    pass.dispose();
    await expect(pass.advance()).rejects.toMatchObject({ code: "DISPOSED" });
    await runner.dispose();
  });

  it("drops rows before the first layer too, and answers at the only one", async () => {
    const batch = toBatch(rows.slice(0, 6));
    for (const depth of [1, 2]) {
      const small = tinyBert({ depth, hidden: 16, heads: 4, spread: 0.4, classes: 3 });
      const runner = await openEncoder(engine, small, small.params, observer);
      const whole = await runner.full(batch);
      const pass = await runner.begin(batch);
      pass.keep([1, 4]);
      for (let layer = 1; layer <= depth; layer += 1) {
        const { logits } = await pass.advance();
        const told = [1, 4].flatMap((row) => [
          ...whole.logits.slice((row * depth + layer - 1) * 3, (row * depth + layer) * 3),
        ]);
        expect(logits).toBeAllclose(told, { rtol: 1e-4, atol: 1e-4 });
        pass.keep(pass.liveRows);
      }
      pass.dispose();
      await runner.dispose();
    }
  });

  it("runs a layer again that failed, on what it was handed", async () => {
    let failing = "";
    const flaky: Engine = {
      ...engine,
      compile(fn, options) {
        const made = engine.compile(fn, options);
        const run: typeof made.run = async (inputs, more) => {
          const output = await made.run(inputs, more);
          if (options.name === failing) throw new Error("out of luck");
          return output as never;
        };
        return { ...made, run };
      },
    };
    const runner = await openEncoder(flaky, model, model.params, observer);
    const batch = toBatch(rows.slice(0, 5));
    const whole = await runner.full(batch);
    const pass = await runner.begin(batch);
    for (let layer = 1; layer <= DEPTH; layer += 1) {
      failing = `layer ${layer}`;
      for (const _ of [1, 2]) await expect(pass.advance()).rejects.toThrow("out of luck");
      failing = "";
      const { logits } = await pass.advance();
      const told = whole.logits.filter((__, at) => Math.floor(at / 3) % DEPTH === layer - 1);
      expect(logits).toBeAllclose(told, { rtol: 1e-4, atol: 1e-4 });
    }
    pass.dispose();
    await runner.dispose();
  });

  it("refuses batches that the model has no embeddings for", async () => {
    const runner = await openEncoder(engine, model, model.params, observer);
    const row = (ids: readonly number[], type = 0) => ({
      ids: Int32Array.from(ids),
      types: new Int32Array(ids.length).fill(type),
    });
    const broken: readonly (readonly [TokenBatch, RegExp])[] = [
      [toBatch([row(new Array(33).fill(1))]), /33 tokens.* 32/],
      [toBatch([row([1, 20])]), /0 to 19, got 20/],
      [toBatch([row([-1])]), /0 to 19, got -1/],
      [toBatch([row([1], 2)]), /0 to 1, got 2/],
      [{ ...toBatch([row([1, 2])]), mask: new Float32Array(1) }, /2 mask, got 1/],
    ];
    for (const [batch, message] of broken) {
      await expect(runner.begin(batch)).rejects.toThrow(message);
      await expect(runner.full(batch)).rejects.toThrow(message);
    }
    await expect(runner.full(toBatch([row(new Array(32).fill(1))]))).resolves.toMatchObject({
      rows: 1,
    });
    await runner.dispose();
  });

  it("frees its sessions, also when opening fails half-way", async () => {
    const { engine: watching, open } = watched(engine);
    const runner = await openEncoder(watching, model, model.params, observer);
    await runner.full(toBatch(rows.slice(0, 2)));
    expect(open.size).toBe(DEPTH + 1);
    await runner.dispose();
    await runner.dispose();
    expect(open.size).toBe(0);
    await expect(runner.begin(toBatch(rows.slice(0, 2)))).rejects.toMatchObject({
      code: "DISPOSED",
    });
    const broken: readonly (readonly [Observer["observe"], object])[] = [
      [
        ({ logits }, { site }) => {
          if (site.layer === 3) throw new TypeError("no such thing");
          return tf.max(logits as tf.Tensor2D, 1) as tf.Tensor1D;
        },
        { message: expect.stringContaining("no such thing") },
      ],
      [
        ({ logits }, { site }) =>
          site.layer === 3
            ? (tf.max(logits as tf.Tensor2D, 1) as tf.Tensor1D)
            : (logits as tf.Tensor2D),
        {
          code: "BAD_OBSERVATION",
          message: expect.stringContaining("3 before layer 3 and 1 there"),
        },
      ],
    ];
    for (const [observe, error] of broken) {
      const bad: Observer = { name: "bad", needs: ["logits"], params: {}, observe };
      await expect(openEncoder(watching, model, model.params, bad)).rejects.toMatchObject(error);
      expect(open.size).toBe(0);
    }
  });

  it("ends a pass whose strategy throws", async () => {
    const strategy = entropy();
    const runner = await openEncoder(engine, model, model.params, observer);
    const passes: Awaited<ReturnType<typeof runner.begin>>[] = [];
    const spying: ExitRunner<TokenBatch> = {
      ...runner,
      async begin(input) {
        const pass = await runner.begin(input);
        passes.push(pass);
        return pass;
      },
    };
    const throwing: ExitStrategy = {
      ...strategy,
      definition: {
        ...strategy.definition,
        decide() {
          throw new TypeError("no such thing");
        },
      },
    };
    await expect(classify(spying, toBatch(rows.slice(0, 3)), throwing)).rejects.toMatchObject({
      code: "STRATEGY_THREW",
    });
    await expect(passes[0]?.advance()).rejects.toMatchObject({ code: "DISPOSED" });
    await runner.dispose();
  });
});

describe("a trained model", () => {
  it("saved and loaded again exits as before, and one without training is refused", async () => {
    const training = tinyTraining();
    const plan = function* () {
      yield {
        name: "initialise",
        trains: ["backbone.**", "heads.**"],
        epochs: 6,
        batchSize: 8,
        learningRate: 0.01,
        losses: { all: allExits },
      };
    };
    const own = tinyBert({ depth: 2, hidden: 16 });
    const before = await openEncoder(engine, own, own.params, toObserver(entropy()), {
      trained: { heads: own.trainedHeads, strategy: false },
    });
    const batch = toBatch(inventRows(40, "new"));
    await expect(classify(before, batch, entropy())).rejects.toMatchObject({ code: "NOT_TRAINED" });
    await before.dispose();

    const { params, trained } = await fit({ ...training, engine, plan, params: own.params });
    const encoder = { ...own, params, trainedHeads: trained.heads };
    const program = compileFull(engine, own, params, toObserver(entropy()));
    const { observed } = await program.run(params, batch);
    await program.dispose();
    const strategy = entropy({ threshold: thresholdAt(observed, 0.4) });
    const open = (of: typeof encoder, rule: ExitStrategy) =>
      openEncoder(engine, of, of.params, toObserver(rule), {
        trained: { heads: of.trainedHeads, strategy: false },
      });
    const folder = scratchFolder();
    await saveExitEncoder(encoder, `${folder}/model`);
    await saveStrategy(`${folder}/strategy`, {
      strategy,
      params: {},
      modelShape: own.shape,
      phasesCompleted: ["initialise"],
      seed: 7,
    });
    const loaded = await loadExitEncoder(`${folder}/model`);
    const { strategy: rule } = await loadStrategy(`${folder}/strategy`, createRegistry([entropy]));
    expect(loaded.trainedHeads).toEqual([1, 2]);
    const runners = [await open(encoder, strategy), await open(loaded, rule)] as const;
    const [first, again] = [
      await classify(runners[0], batch, strategy),
      await classify(runners[1], batch, rule),
    ];
    expect(again).toEqual(first);
    expect(new Set(first.exitLayers).size).toBe(2);
    for (const runner of runners) await runner.dispose();
  });
});

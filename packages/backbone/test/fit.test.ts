/** @file The trainer: what it trains, that it is deterministic, and what it refuses. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createEngine, type Engine, type HostParams } from "@cee/engine";
import type { ExitHead, PhasePlan, PhaseReport, TrainingPhase } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readSafetensors, writeSafetensors } from "../src/safetensors.js";
import { tinyBert } from "../src/testing.js";
import { type FitOptions, fit } from "../src/train/fit.js";
import { scratchFolder } from "./helpers/scratch.js";
import {
  allExits,
  alternate,
  gate,
  gateParams,
  gatePhase,
  heldOutScore,
  initialise,
  inventRows,
  lastExit,
  tinyTraining,
} from "./helpers/tiny-training.js";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine({ threads: 1 });
});
afterAll(() => engine.dispose());

const planOf = (...phases: readonly TrainingPhase[]) =>
  function* (): PhasePlan {
    for (const phase of phases) yield phase;
  };
const short: TrainingPhase = {
  name: "short",
  trains: ["backbone.**", "heads.**"],
  epochs: 1,
  batchSize: 8,
  learningRate: 0.01,
  losses: { all: allExits },
};
const run = (options: Partial<FitOptions> & Pick<FitOptions, "plan">) =>
  fit({ engine, ...tinyTraining(), ...options });
const changed = (before: HostParams, after: HostParams) =>
  Object.keys(before).filter((path) => String(before[path]?.data) !== String(after[path]?.data));

describe("fit", () => {
  it("lets somebody look on at equal distances, with the same weights in the end", async () => {
    const seen: string[] = [];
    const records: number[] = [];
    const plan = planOf({ ...short, epochs: 3 });
    const watched = await run({
      plan,
      watch: {
        evaluations: 4,
        seen(record, { step, steps }) {
          seen.push(`${step}/${steps}`);
          records.push(record.ids.length);
          expect(record.logits.every(Number.isFinite)).toBe(true);
        },
      },
    });
    const rows = tinyTraining().train.length;
    const steps = 3 * Math.ceil(rows / short.batchSize);
    expect(seen).toEqual([1, 2, 3, 4].map((mark) => `${Math.ceil((mark * steps) / 4)}/${steps}`));
    expect(records).toEqual([rows, rows, rows, rows]);
    const alone = await run({ plan });
    expect(changed(alone.params, watched.params)).toEqual([]);
    expect(watched.reports).toEqual(alone.reports);
  });

  it("lowers the held-out loss", async () => {
    const reports: PhaseReport[] = [];
    const watch = (phase: TrainingPhase): TrainingPhase => ({
      ...phase,
      measure: (record) => ({ score: heldOutScore(record) }),
    });
    const { reports: made } = await run({
      plan: function* () {
        reports.push(yield watch({ ...short, learningRate: 0 }));
        reports.push(yield watch({ ...short, name: "long", epochs: 30, learningRate: 0.02 }));
      },
    });
    expect(made).toEqual(reports);
    const [before, after] = reports.map(({ measures }) => measures.score as number);
    expect(after as number).toBeGreaterThan((before as number) + 0.2);
    expect(reports[1]?.steps).toBe(90);
    expect(reports[1]?.loss).toBeLessThan(reports[0]?.loss as number);
  });

  it("gives bit-identical weights from one seed and others from another", async () => {
    const plan = planOf(short);
    const [a, b, c] = [await run({ plan }), await run({ plan }), await run({ plan, seed: 8 })];
    expect(a.params).toEqual(b.params);
    expect(a.reports).toEqual(b.reports);
    expect(changed(a.params, c.params).length).toBeGreaterThan(10);
  });

  it("trains exactly what a phase names and leaves the rest bit for bit", async () => {
    const { params } = tinyTraining();
    const cases: readonly (readonly [TrainingPhase, RegExp])[] = [
      [{ ...short, trains: ["heads.2.**"] }, /^heads\.2\./],
      [
        { ...short, trains: ["backbone.encoder.layer.*.output.dense.weight"] },
        /^backbone\.encoder\.layer\.\d\.output\.dense\.weight$/,
      ],
      [{ ...gatePhase, epochs: 1 }, /^strategy\./],
    ];
    for (const [phase, expected] of cases) {
      const result = await run({ plan: planOf(phase) });
      expect(changed(params, result.params), String(expected)).toEqual(
        Object.keys(params).filter((path) => expected.test(path)),
      );
      expect(result.trained.paths).toEqual(
        Object.keys(params)
          .filter((path) => expected.test(path))
          .sort(),
      );
    }
  });

  it("reports as trained what gradients have reached, not what a phase allowed", async () => {
    const model = tinyBert({ depth: 3, hidden: 16 });
    const own = { model, params: { ...model.params, ...gateParams(16) } };
    const last = { ...short, losses: { last: lastExit }, weightDecay: 0.1 };
    const first = await run({ ...own, plan: planOf(last) });
    // Weight decay has changed the other heads, but they have learned nothing.
    expect(changed(own.params, first.params)).toContain("heads.1.classifier.weight");
    expect(first.trained).toMatchObject({ heads: [3], strategy: false });
    expect(first.trained.paths).not.toContain("heads.1.classifier.weight");
    const then = await run({
      ...own,
      plan: planOf({ ...gatePhase, epochs: 1 }),
      trained: first.trained,
    });
    expect(then.trained).toMatchObject({ heads: [3], strategy: true, paths: ["strategy.weight"] });
    expect((await run({ ...own, plan: planOf(short) })).trained.heads).toEqual([1, 2, 3]);
  });

  it("takes the same step in micro-batches as at once", async () => {
    const model = tinyBert({ depth: 2, hidden: 16, dropout: 0 });
    const phases: readonly TrainingPhase[] = [
      { ...short, weightDecay: 0.01, clipNorm: 0.5 },
      {
        ...short,
        losses: { all: allExits, last: lastExit },
        // Not linear: combining every part apart would give something else.
        combine: ({ all, last }) =>
          Object.fromEntries(
            Object.keys(all as object).map((path) => [
              path,
              tf.maximum(all?.[path] as tf.Tensor, last?.[path] as tf.Tensor),
            ]),
          ),
      },
      { ...gatePhase, epochs: 1, batchSize: 8 },
    ];
    for (const phase of phases) {
      const moments = async (microBatch?: number) => {
        const out = scratchFolder();
        const stop = new AbortController();
        const options = {
          model,
          params: { ...model.params, ...gateParams(16) },
          train: inventRows(8, "train"),
          plan: planOf(phase),
          out,
          signal: stop.signal,
          onProgress: () => stop.abort(),
          ...(microBatch === undefined ? {} : { microBatch }),
        };
        await expect(run(options)).rejects.toMatchObject({ code: "ABORTED" });
        const { tensors, metadata } = readSafetensors(join(out, "checkpoint.safetensors"));
        const { lossSum } = JSON.parse(metadata.progress as string) as { lossSum: number };
        return { tensors, lossSum };
      };
      const [whole, parts] = [await moments(), await moments(3)];
      expect(parts.lossSum).toBeCloseTo(whole.lossSum, 5);
      // Moments and not weights: Adam makes a full step of a gradient that is nothing but rounding.
      const names = Object.keys(whole.tensors).filter((name) => name.startsWith("m/"));
      expect(names.length).toBeGreaterThan(0);
      for (const name of names)
        expect(parts.tensors[name]?.data, name).toBeAllclose(
          whole.tensors[name]?.data as Float32Array,
          { rtol: 1e-4, atol: 1e-7 },
        );
    }
  });

  it("keeps the epoch with the best score, also when the score is no number", async () => {
    const scores = [Number.NaN, 2, 5, Number.NaN, 3];
    const epochs: HostParams[] = [];
    const at = (index: number): TrainingPhase => ({
      ...short,
      epochs: index + 1,
      schedule: "constant",
    });
    for (const index of [2, 4]) epochs.push((await run({ plan: planOf(at(index)) })).params);
    let call = 0;
    const best = await run({
      plan: planOf({ ...at(4), select: "best", score: () => scores[call++] as number }),
    });
    expect(call).toBe(5);
    expect(best.params).toEqual(epochs[0]);
    const none = await run({
      plan: planOf({ ...at(4), select: "best", score: () => Number.NaN }),
    });
    expect(none.params).toEqual(epochs[1]);
  });

  it("alternates between losses as pick says", async () => {
    const asked: (readonly [number, number])[] = [];
    const pick = (step: number, inEpoch: number) => {
      asked.push([step, inEpoch]);
      return "last";
    };
    const losses = { all: allExits, last: lastExit };
    const picked = await run({ plan: planOf({ ...short, epochs: 2, losses, pick }) });
    const only = await run({ plan: planOf({ ...short, epochs: 2, losses: { last: lastExit } }) });
    expect(picked.params).toEqual(only.params);
    expect(asked).toEqual([0, 1, 2, 3, 4, 5].map((step) => [step, step % 3]));
    const mixed = await run({ plan: planOf({ ...alternate, epochs: 1 }) });
    expect(changed(only.params, mixed.params).length).toBeGreaterThan(0);
  });

  it("trains on recorded signals of any width, in memory and in files alike", async () => {
    const seen: string[] = [];
    const model = tinyBert({ depth: 2, hidden: 16, head: narrowHead });
    const options = {
      model,
      params: { ...model.params, ...gateParams(5) },
      observer: {
        ...gate,
        needs: ["features"],
        observe: (now, context) => gate.observe({ pooled: now.features as tf.Tensor2D }, context),
      } satisfies FitOptions["observer"],
      plan: planOf({
        ...gatePhase,
        losses: {
          gate: (step) =>
            gatePhase.losses.gate?.({
              ...step,
              exits: step.exits.map(({ features }) => ({ pooled: features })),
            } as unknown as typeof step) as tf.Scalar,
        },
      }),
    } as const;
    const inMemory = await run(options);
    const out = scratchFolder();
    const inFiles = await run({ ...options, out, recordMemory: 0, log: (line) => seen.push(line) });
    expect(inFiles.params).toEqual(inMemory.params);
    expect(changed(options.params, inFiles.params)).toEqual(["strategy.weight"]);
    expect(seen.join()).toContain("recorded states take 1 MiB");
    expect(readdirSync(out)).toEqual(["checkpoint.safetensors"]);
    await expect(run({ ...options, recordMemory: 0 })).rejects.toMatchObject({ code: "NO_SPACE" });
  });

  it("applies the head's dropout at the rate of the classifier", async () => {
    const weights = async (rates: object) => {
      const { model, ...rest } = tinyTraining({ dropout: 0 });
      const config = { ...model.config, ...rates };
      return (await run({ ...rest, model: { ...model, config }, plan: planOf(short) })).params;
    };
    const [none, alone, hidden] = [
      await weights({}),
      await weights({ classifierDropout: 0.5 }),
      await weights({ hiddenDropout: 0.5, classifierDropout: 0 }),
    ];
    expect(changed(none, alone).length).toBeGreaterThan(0);
    expect(changed(none, hidden).length).toBeGreaterThan(0);
    // With the rate 0 for the classifier and the encoder, nothing is dropped.
    expect(await weights({ classifierDropout: 0 })).toEqual(none);
  });

  it("neither measures nor selects without held-out rows", async () => {
    const measure = () => {
      throw new Error("must not be called");
    };
    const { reports } = await run({ dev: [], plan: planOf({ ...short, measure }) });
    expect(reports[0]?.measures).toEqual({});
    await expect(run({ dev: [], plan: planOf(initialise) })).rejects.toMatchObject({
      code: "BAD_INPUT",
      message: expect.stringContaining("[initialise]"),
    });
  });

  it("pads up to the model's last position and refuses longer rows", async () => {
    const model = tinyBert({ depth: 1, hidden: 16, maxPositions: 13 });
    const own = { model, params: { ...model.params, ...gateParams(16) }, plan: planOf(short) };
    const { reports } = await run({ ...own, train: inventRows(8, "long", 13) });
    expect(reports[0]?.loss).toBeGreaterThan(0);
    const rows = [...inventRows(3, "short", 5), ...inventRows(30, "longer", 20)];
    await expect(run({ ...own, train: rows })).rejects.toMatchObject({
      code: "BAD_INPUT",
      message: expect.stringMatching(/^\[longer-\d+\] a text has \d+ tokens.* 13/),
    });
  });

  it("refuses rows without a usable label or token", async () => {
    const plan = planOf(short);
    const [row] = inventRows(1, "row");
    const broken = [
      { ...row, label: Number.NaN },
      { ...row, label: 2 },
      { ...row, label: 0.5 },
      { ...row, ids: Int32Array.of(1, 2, 20), types: new Int32Array(3) },
      { ...row, ids: Int32Array.of(1, -1), types: new Int32Array(2) },
      { ...row, types: new Int32Array(1) },
    ];
    for (const one of broken)
      await expect(run({ plan, train: [one as never] })).rejects.toMatchObject({
        code: "BAD_INPUT",
        message: expect.stringContaining("[row-0]"),
      });
    await expect(run({ plan, train: [] })).rejects.toMatchObject({ code: "BAD_INPUT" });
  });

  it("refuses phases and options that cannot run, naming them", async () => {
    const phases: readonly (readonly [Partial<TrainingPhase>, RegExp])[] = [
      [{ trains: ["head.**"] }, /names no parameter/],
      [{ source: "record" }, /strategy\.\*\* and heads\.\*\* only/],
      [{ select: "best" }, /needs score/],
      [{ losses: {} }, /no loss/],
      [{ losses: { a: allExits, b: lastExit } }, /pick\(\) or combine\(\)/],
      [{ pick: () => "other" }, /asked for the loss "other"/],
      [{ combine: () => ({}), losses: { a: allExits } }, /a gradient for every trained parameter/],
      [{ epochs: 0 }, /epochs must be/],
      [{ batchSize: 1.5 }, /batchSize must be/],
      [{ learningRate: Number.NaN }, /learningRate must be/],
      [{ warmup: 2 }, /warmup must be/],
      [{ clipNorm: 0 }, /clipNorm must be/],
      [{ prepare: () => ({ width: 2, values: new Float32Array(3) }) }, /24 x 2 values, got 3/],
      [
        {
          measure() {
            throw new TypeError("no such thing");
          },
        },
        /measure\(\) threw: no such thing/,
      ],
      [
        {
          losses: {
            bad() {
              throw new TypeError("no such thing");
            },
          },
        },
        /the loss "bad" threw: no such thing/,
      ],
    ];
    for (const [part, message] of phases)
      await expect(run({ plan: planOf({ ...short, ...part }) })).rejects.toMatchObject({
        code: "BAD_PHASE",
        message: expect.stringMatching(message),
      });
    await expect(run({ plan: planOf(short, short) })).rejects.toMatchObject({
      message: expect.stringContaining("another phase of this name"),
    });
    await expect(run({ plan: planOf(short), microBatch: 0 })).rejects.toMatchObject({
      code: "BAD_OPTION",
      who: "microBatch",
    });
  });

  it("names phase, step and learning rate when the loss is not a number", async () => {
    const out = scratchFolder();
    const explode: TrainingPhase = {
      ...short,
      epochs: 2,
      schedule: "constant",
      losses: {
        all: (step) => tf.div(allExits(step), tf.sub(4, step.step)) as tf.Scalar,
      },
    };
    const options = {
      out,
      plan: planOf({ ...short, name: "first" }, explode),
      checkpointSeconds: 0,
    };
    await expect(run(options)).rejects.toMatchObject({
      code: "NAN_LOSS",
      message: expect.stringMatching(/^\[short\] the .*step 5 of 6 \(epoch 2\).*rate is 0\.01\./),
    });
    const { metadata, tensors } = readSafetensors(join(out, "checkpoint.safetensors"));
    expect(JSON.parse(metadata.progress as string)).toMatchObject({ phase: "short", step: 4 });
    for (const { data } of Object.values(tensors)) expect(data.every(Number.isFinite)).toBe(true);
    // An update that leaves the finite numbers is not saved either.
    const far = { ...short, learningRate: 9e8, weightDecay: 9e8, epochs: 5 };
    await expect(
      run({ out: join(out, "far"), plan: planOf(far), checkpointSeconds: 0 }),
    ).rejects.toMatchObject({
      code: "NAN_LOSS",
    });
  });
});

describe("a checkpoint", () => {
  const stopped = async (out: string) => {
    const stop = new AbortController();
    const options = {
      out,
      plan: planOf(short),
      signal: stop.signal,
      onProgress: ({ step }: { step: number }) => step === 2 && stop.abort(),
    };
    await expect(run(options)).rejects.toMatchObject({ code: "ABORTED" });
    return join(out, "checkpoint.safetensors");
  };

  it("is refused when it is damaged, truncated or something else", async () => {
    const out = scratchFolder();
    const path = await stopped(out);
    const good = readFileSync(path);
    const { tensors, metadata } = readSafetensors(path);
    const rewrite = (change: object, more: object = {}) => {
      const progress = { ...JSON.parse(metadata.progress as string), ...change };
      writeSafetensors(
        path,
        { ...tensors, ...more },
        { metadata: { ...metadata, progress: JSON.stringify(progress) } },
      );
    };
    const flipped = Buffer.from(good);
    flipped[good.length - 5] = (flipped[good.length - 5] as number) ^ 1;
    const spoil: readonly (() => void)[] = [
      () => writeFileSync(path, good.subarray(0, good.length - 7)),
      () => writeFileSync(path, good.subarray(0, 4)),
      () => writeFileSync(path, ""),
      () => writeFileSync(path, "not a checkpoint at all"),
      () => writeFileSync(path, flipped),
      () => writeSafetensors(path, tensors),
      () => writeSafetensors(path, tensors, { metadata: { ...metadata, progress: "{" } }),
      () => writeSafetensors(path, tensors, { metadata: { ...metadata, progress: "null" } }),
      () => rewrite({ step: -1 }),
      () => rewrite({ epoch: "1" }),
      () => rewrite({ reports: [{ phase: "short" }] }),
      () => rewrite({ trained: ["heads.9.classifier.weight"] }),
      () => rewrite({}, { extra: { dtype: "float32", shape: [1], data: new Float32Array(1) } }),
    ];
    for (const [index, change] of spoil.entries()) {
      change();
      const before = readFileSync(path);
      await expect(run({ out, plan: planOf(short) }), `case ${index}`).rejects.toMatchObject({
        code: "BAD_CHECKPOINT",
        message: expect.stringContaining(path),
      });
      expect(readFileSync(path).equals(before)).toBe(true);
    }
    writeFileSync(path, good);
    const resumed = await run({ out, plan: planOf(short) });
    expect(resumed.params).toEqual((await run({ plan: planOf(short) })).params);
    expect(existsSync(path)).toBe(true);
  });

  it("is refused by another run, which is told what differs", async () => {
    const out = scratchFolder();
    const path = await stopped(out);
    const before = readFileSync(path);
    const plan = planOf(short);
    const others: readonly (readonly [Partial<FitOptions>, RegExp])[] = [
      [{ seed: 9 }, /seed differ/],
      [{ train: inventRows(24, "other") }, /training rows differ/],
      [{ dev: [] }, /held-out rows differ/],
      [{ microBatch: 2 }, /micro batch differ/],
      [{ identity: { alpha: 1 } }, /options differ/],
      [
        { params: { ...tinyBert({ depth: 2, hidden: 16, seed: 2 }).params, ...gateParams(16) } },
        /parameters differ/,
      ],
      [{ plan: planOf({ ...short, name: "else" }) }, /stands in the phase "short"/],
      [{ plan: planOf() }, /the plan has ended/],
      [{ plan: planOf({ ...short, trains: ["heads.**"] }) }, /trains of the phase/],
      [{ plan: planOf({ ...short, batchSize: 12 }) }, /batchSize of the phase "short" differ/],
      [
        { plan: planOf({ ...short, prepare: () => ({ width: 1, values: new Float32Array(24) }) }) },
        /side data/,
      ],
    ];
    for (const [options, message] of others)
      await expect(run({ out, plan, ...options }), String(message)).rejects.toMatchObject({
        code: "CHECKPOINT_MISMATCH",
        message: expect.stringMatching(message),
      });
    expect(readFileSync(path).equals(before)).toBe(true);
    await run({ out, plan });
    for (const other of [
      planOf(short, { ...short, name: "more" }),
      planOf({ ...short, name: "else" }),
    ])
      await expect(run({ out, plan: other })).rejects.toMatchObject({
        code: "CHECKPOINT_MISMATCH",
      });
  });

  it("of a finished run gives its result again without training", async () => {
    const out = scratchFolder();
    const plan = planOf(short, { ...gatePhase, epochs: 1 });
    const first = await run({ out, plan });
    const again = await run({
      out,
      plan,
      onProgress: () => {
        throw new Error("must not train");
      },
    });
    expect(again).toEqual(first);
  });
});

/** A head whose features are narrower than the hidden states. */
const narrowHead: ExitHead = {
  name: "narrow",
  params: () => ({
    "inner.weight": {
      dtype: "float32",
      shape: [16, 5],
      data: Float32Array.from({ length: 80 }, (_, index) => Math.sin(index)),
    },
    "outer.weight": {
      dtype: "float32",
      shape: [5, 2],
      data: Float32Array.from({ length: 10 }, (_, index) => Math.cos(index)),
    },
  }),
  apply(params, input) {
    const pooled = input.pooled();
    const features = tf.matMul<tf.Tensor2D>(pooled, params["inner.weight"] as tf.Tensor2D);
    const logits = tf.matMul<tf.Tensor2D>(features, params["outer.weight"] as tf.Tensor2D);
    return { logits, pooled, features };
  },
};

/** @file FastBERT, Past-Future, CAT and Zero Time Waste: what they train, in what order, and how their exits move. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { loadExitEncoder, saveExitEncoder } from "@cee/backbone";
import {
  type AnyExitStrategyFactory,
  createRegistry,
  type ExitStrategy,
  loadStrategy,
  replay,
  saveStrategy,
  withOptions,
} from "@cee/exit-policies";
import { conformance } from "@cee/exit-policies/testing";
import { describe, expect, it } from "vitest";
import { cat, fastBert, pastFuture, zeroTimeWaste } from "../src/index.js";
import {
  crossEntropy,
  exitsOf,
  lossOf,
  movable,
  openEngine,
  phasesOf,
  stepOf,
  train,
  withoutKeyBias,
} from "./support.js";

const engine = await openEngine();

const once = { epochs: 1, batchSize: 4, learningRate: 0.01 };
const fast = fastBert.strategy({ final: once, distil: once });
const future = pastFuture.strategy({ joint: once });
const ensemble = zeroTimeWaste.strategy({ final: once, cascade: once, ensemble: once });
const confident = cat.strategy({ final: once, exits: once, scaling: once, meta: once });

const ENCODER = ["backbone.embeddings.", "backbone.encoder."];
const BELOW = ["heads.1.", "heads.2."];

describe("conformance", () => {
  const all = [
    ...conformance(fastBert.strategy, { configurations: [[]], knobEnds: { slowest: -1 } }),
    ...conformance(pastFuture.strategy, {
      configurations: [[]],
      knobEnds: { slowest: 0 },
      skip: {
        "every loss is finite": "reads what its own head imagines, which the kit's model has not",
        "each phase trains what it says": "tested below on its own head",
      },
    }),
    ...conformance(zeroTimeWaste.strategy, { configurations: [[]], knobEnds: { slowest: 1.1 } }),
    ...conformance(cat.strategy, {
      configurations: [[{ scores: [0.1, 0.4, 0.45, 0.5] }]],
      knobEnds: { slowest: 0 },
    }),
  ];
  for (const check of all) it(check.name, check.run);
});

describe("training moves, phase by phase, nothing but", () => {
  const pooled = [...ENCODER, "backbone.pooler."];
  it.each([
    ["fastbert's teacher", fastBert.head, fast, 1, [...ENCODER, "heads.3."]],
    ["fastbert's students too", fastBert.head, fast, 2, [...ENCODER, "heads."]],
    ["past-future's everything", pastFuture.head, future, 1, [...ENCODER, "heads."]],
    ["ztw's model", zeroTimeWaste.head, ensemble, 1, [...pooled, "heads.3."]],
    ["ztw's cascade too", zeroTimeWaste.head, ensemble, 2, [...pooled, "heads."]],
    ["ztw's ensembles too", zeroTimeWaste.head, ensemble, 3, [...pooled, "heads.", "strategy."]],
    ["cat's model", cat.head, confident, 1, [...pooled, "heads.3."]],
    ["cat's exits too", cat.head, confident, 2, [...pooled, "heads."]],
    [
      "cat's temperatures too",
      cat.head,
      confident,
      3,
      [...pooled, "heads.", "strategy.temperature."],
    ],
    ["cat's meta-classifiers too", cat.head, confident, 4, [...pooled, "heads.", "strategy."]],
  ] as const)("%s", async (_, head, strategy, phases, prefixes) => {
    const { before, changed } = await train(engine, { strategy, head, phases });
    expect(withoutKeyBias(changed).filter(softKey)).toEqual(
      movable(before, ...prefixes).filter(softKey),
    );
  });

  it("the students of FastBERT leave the teacher as it was", async () => {
    const teacher = await train(engine, { strategy: fast, head: fastBert.head, phases: 1 });
    const both = await train(engine, { strategy: fast, head: fastBert.head });
    for (const [name, { data }] of Object.entries(teacher.params))
      if (!BELOW.some((prefix) => name.startsWith(prefix)))
        expect(String(both.params[name]?.data), name).toBe(String(data));
  });

  it("CAT on an encoder wider than its exits", async () => {
    const { changed } = await train(engine, { strategy: confident, head: cat.head, hidden: 40 });
    expect(changed.some((name) => name.startsWith("strategy.meta."))).toBe(true);
  });

  it("CAT for numbers, without temperatures", async () => {
    expect(
      [...plan("regression")].map(({ name }) => name),
      "phases of a regression",
    ).toEqual(["final", "exits", "meta"]);
    const recipe = { strategy: confident, head: cat.head, regression: true };
    const { changed, before, ...trained } = await train(engine, recipe);
    expect(changed.some((name) => name.startsWith("strategy.meta."))).toBe(true);
    const { made } = await exitsOf(engine, trained, confident, []);
    const calibrated = withOptions(confident, {
      ...confident.definition.calibrate?.(made, confident.options),
    });
    expect(layersAt(made, calibrated, [0, 1])[0]).toBe(3);
  });
});

/** Softmax cancels what an attention key's bias adds to all scores. */
const softKey = (name: string) => !/heads\.\d+\.key\.bias$/.test(name);

function* plan(task: "classification" | "regression") {
  const shape = { task, depth: 3, hidden: 2, classes: task === "regression" ? 1 : 2 };
  const phases = confident.definition.phases?.(shape, confident.options);
  const report = { phase: "", steps: 1, loss: 0, measures: {} };
  for (let next = phases?.next(); next && !next.done; next = phases?.next(report)) yield next.value;
}

const layersAt = (
  record: Parameters<typeof replay>[0],
  strategy: ExitStrategy,
  values: readonly number[],
) =>
  values.map((value) => {
    const at = withOptions(strategy, { [strategy.definition.knob?.option as string]: value });
    const { exitLayers } = replay(record, at);
    return exitLayers.reduce((sum, layer) => sum + layer, 0) / exitLayers.length;
  });

describe("a trained model", () => {
  it.each([
    ["fastbert", fastBert.strategy, fastBert.head, fast, [-1, 0.5, 0.9, 1]],
    ["past-future", pastFuture.strategy, pastFuture.head, future, [0, 0.3, 0.6, 0.7]],
    ["ztw", zeroTimeWaste.strategy, zeroTimeWaste.head, ensemble, [1, 0.7, 0.55, 0]],
    ["cat", cat.strategy, cat.head, confident, [0, 0.5, 0.9, 1]],
  ] as const)(
    "of %s exits earlier along its knob, live, replayed and loaded",
    async (_, factory: AnyExitStrategyFactory, head, strategy, values) => {
      const trained = await train(engine, { strategy, head });
      const { made } = await exitsOf(engine, trained, strategy, []);
      const calibrated = withOptions(strategy, {
        ...strategy.definition.calibrate?.(made, strategy.options),
      });
      const { exits } = await exitsOf(engine, trained, calibrated, values);
      for (const { live, replayed } of exits) expect(live).toEqual(replayed);
      const means = layersAt(made, calibrated, values);
      expect(means[0]).toBe(3);
      expect(means.at(-1)).toBeLessThan(3);
      expect(means).toEqual([...means].sort((a, b) => b - a));

      const folder = await mkdtemp(path.join(tmpdir(), "cee-recipe-"));
      try {
        const own = Object.entries(trained.params).filter(([name]) => name.startsWith("strategy."));
        await saveStrategy(folder, {
          strategy: calibrated,
          params: Object.fromEntries(own.map(([name, tensor]) => [name.slice(9), tensor])),
          modelShape: trained.model.shape,
          phasesCompleted: trained.reports.map(({ phase }) => phase),
          seed: 5,
        });
        const encoder = {
          ...trained.model,
          params: Object.fromEntries(
            Object.entries(trained.params).filter(([name]) => !name.startsWith("strategy.")),
          ),
          trainedHeads: trained.trained.heads,
        };
        await saveExitEncoder(encoder, path.join(folder, "model"));
        const model = await loadExitEncoder(path.join(folder, "model"), { moreHeads: [head] });
        const registry = createRegistry([factory]);
        const loaded = await loadStrategy(folder, registry as never);
        const params = {
          ...model.params,
          ...Object.fromEntries(
            Object.entries(loaded.params).map(([name, tensor]) => [`strategy.${name}`, tensor]),
          ),
        };
        const again = await exitsOf(engine, { model, params }, loaded.strategy, values);
        expect(again.exits).toEqual(exits);
      } finally {
        await rm(folder, { recursive: true });
      }
    },
  );
});

describe("losses", () => {
  const logits = [[[1, 0]], [[0, 2]], [[3, 0]]];

  it("of FastBERT: the students' distance from the teacher, whatever the label", () => {
    const [, distil] = phasesOf(fast);
    const soft = (row: readonly number[]) => row.map((_, k) => Math.exp(-crossEntropy(row, k)));
    const teacher = soft([3, 0]);
    const expected = [
      [1, 0],
      [0, 2],
    ]
      .map((row) => {
        const student = soft(row);
        return teacher.reduce((sum, p, k) => sum + p * Math.log(p / (student[k] as number)), 0);
      })
      .reduce((a, b) => a + b);
    for (const label of [0, 1])
      expect(lossOf(distil, "distil", stepOf(logits, [label]))).toBeCloseTo(expected, 5);
  });

  it("start every layer from weights of its own", () => {
    const shape = { task: "classification", depth: 4, hidden: 4, classes: 3 } as const;
    for (const { head } of [fastBert, pastFuture, cat, zeroTimeWaste]) {
      const [first, second] = [2, 3].map((layer) => head.params(shape, layer, 1));
      const weights = Object.keys(first ?? {}).filter((name) => name.endsWith(".weight"));
      expect(weights.length).toBeGreaterThan(0);
      for (const name of weights) expect(first?.[name]?.data).not.toEqual(second?.[name]?.data);
    }
  });

  it("follow the published schedules", () => {
    expect(phasesOf(fastBert.strategy())).toMatchObject([
      { name: "final", epochs: 3, batchSize: 32, learningRate: 2e-5, warmup: 0.1 },
      { name: "distil", epochs: 5, batchSize: 32, learningRate: 2e-4, warmup: 0.1 },
    ]);
    expect(phasesOf(pastFuture.strategy())).toMatchObject([
      { name: "joint", epochs: 5, batchSize: 16, learningRate: 2e-5 },
    ]);
  });
});

/** @file Exits inside one ONNX graph: what the checker says of the file, and agreement with the layer loop. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createEngine, createRng, type Engine, type HostParams } from "@cee/engine";
import {
  agreement,
  alwaysAt,
  type Classification,
  classify,
  defineExitStrategy,
  type ExitHead,
  type ExitStrategy,
  entropy,
  nearTies,
  never,
  patience,
  pcee,
  record,
  rightTool,
  toObserver,
} from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { needs, pathOf } from "../../../test/needs.js";
import type { ExitEncoder } from "../src/encoder.js";
import { exportOnnx } from "../src/export/export-onnx.js";
import {
  exportFeeds,
  type InGraphExits,
  openExported,
  openInGraph,
} from "../src/export/in-graph.js";
import { linear } from "../src/heads/linear.js";
import { type TokenBatch, toBatch } from "../src/runner/batch.js";
import { openEncoder } from "../src/runner/open.js";
import { tinyBert } from "../src/testing.js";
import { scratchFolder } from "./helpers/scratch.js";
import { inventRows } from "./helpers/tiny-training.js";

let node: Engine;
let web: Engine;
beforeAll(async () => {
  node = await createEngine({ runtime: "onnxruntime-node", threads: 1 });
  web = await createEngine({ runtime: "onnxruntime-web" });
});
afterAll(async () => {
  await node.dispose();
  await web.dispose();
});

const DEPTH = 5;

/** Fresh heads are certain of nothing; these answer like trained ones. */
function certain(options: Parameters<typeof tinyBert>[0] = {}): ExitEncoder {
  const fresh = tinyBert({
    depth: DEPTH,
    hidden: 16,
    heads: 4,
    spread: 0.95,
    classes: 3,
    seed: 2,
    ...options,
  });
  const params = Object.fromEntries(
    Object.entries(fresh.params).map(([path, tensor]) => [
      path,
      path.startsWith("heads.")
        ? { ...tensor, data: (tensor.data as Float32Array).map((value) => 40 * value) }
        : tensor,
    ]),
  );
  return {
    ...fresh,
    params,
    trainedHeads: Array.from({ length: DEPTH }, (_, index) => index + 1),
    labels: ["no", "maybe", "yes"],
  };
}

const model = certain();
const rows = inventRows(10_000, "export", 20);
const batchesOf = (count: number, size: number): TokenBatch[] =>
  Array.from({ length: Math.ceil(count / size) }, (_, index) =>
    toBatch(rows.slice(index * size, Math.min(count, (index + 1) * size))),
  );

/** A learned gate that keeps a running sum of what it saw, in the state of a row and in a carry. */
const gate = defineExitStrategy({
  name: "gate",
  options: entropy.definition.options,
  needs: ["pooled"],
  tasks: ["classification", "regression"],
  knob: { option: "threshold", grid: [0.5, 1, 2], direction: "lower-is-faster" },
  observe({ pooled }, { params, carry }) {
    const score = tf.squeeze<tf.Tensor1D>(
      tf.sigmoid(
        tf.matMul(pooled, (params as Readonly<Record<string, tf.Tensor>>).weight as tf.Tensor2D),
      ),
      [1],
    );
    const total = carry ? tf.add<tf.Tensor1D>(carry as tf.Tensor1D, score) : score;
    return { values: tf.stack([score, total], 1) as tf.Tensor2D, carry: total };
  },
  start: () => ({ sum: 0 }),
  decide([score, total], { sum }, { options }) {
    const now = Math.fround(sum + (score as number));
    return {
      exit: Math.fround(now + (total as number)) > Math.fround(2 * options.threshold),
      state: { sum: now },
    };
  },
  decideTensor(observed, { sum }, { options }) {
    const [score, total] = tf.unstack(observed, 1) as [tf.Tensor1D, tf.Tensor1D];
    const now = tf.add<tf.Tensor1D>(sum, score);
    return {
      exit: tf.greater<tf.Tensor1D>(tf.add(now, total), tf.mul(options.threshold, 2)),
      state: { sum: now },
    };
  },
  params: ({ hidden }, _, seed) => ({
    weight: {
      dtype: "float32",
      shape: [hidden, 1],
      data: Float32Array.from({ length: hidden }, (_x, i) => Math.sin(seed + i)),
    },
  }),
});

/** Averages this layer's logits with those before, which it carries. */
const averaging: ExitHead = {
  ...linear,
  name: "averaging",
  carries: true,
  apply(params, input, carry) {
    const output = linear.apply(params, input, undefined);
    const before = carry as tf.Tensor2D | undefined;
    const logits = before
      ? (tf.mul(tf.add(before, output.logits), 0.5) as tf.Tensor2D)
      : output.logits;
    return { ...output, logits, carry: logits };
  },
};

/** Leaves at the second layer that it sees, whatever it observes: only the host keeps numbers that are not finite from it. */
const second = defineExitStrategy({
  name: "second",
  options: never.definition.options,
  needs: ["logits"],
  tasks: ["classification"],
  observe: ({ logits }) => tf.max(logits, 1) as tf.Tensor1D,
  start: () => ({ seen: 0 }),
  decide: (_, { seen }) => ({ exit: seen + 1 === 2, state: { seen: seen + 1 } }),
  decideTensor(_, { seen }) {
    const now = tf.add<tf.Tensor1D>(seen, 1);
    return { exit: tf.equal<tf.Tensor1D>(now, 2), state: { seen: now } };
  },
});

interface Subject {
  readonly name: string;
  readonly encoder: ExitEncoder;
  readonly strategy: ExitStrategy;
  readonly params?: HostParams;
}

const gateParams = gate.definition.params?.(model.shape, { threshold: 1 }, 3) as HostParams;
const subjects: readonly Subject[] = [
  { name: "entropy", encoder: model, strategy: entropy({ threshold: 0.3 }) },
  { name: "patience", encoder: model, strategy: patience({ patience: 2 }) },
  { name: "pcee", encoder: model, strategy: pcee({ threshold: 0.4, patience: 2 }) },
  {
    name: "right-tool, calibrated",
    encoder: model,
    strategy: rightTool({ threshold: 0.8, temperatures: [1.5, 0.7, 2] }),
  },
  { name: "always-at", encoder: model, strategy: alwaysAt({ layer: 3 }) },
  { name: "never", encoder: model, strategy: never() },
  {
    name: "a learned gate with state and carry",
    encoder: model,
    strategy: gate({ threshold: 1.6 }),
    params: gateParams,
  },
  {
    name: "a head with a carry",
    encoder: certain({ head: averaging }),
    strategy: entropy({ threshold: 0.3 }),
  },
  {
    name: "patience on a regression",
    encoder: { ...certain({ regression: true, classes: 1 }), labels: undefined },
    strategy: patience({ patience: 2, tolerance: 1.6 }),
  },
];

const knobOf = ({ definition, options }: ExitStrategy): number =>
  definition.knob ? (options[definition.knob.option] as number) : 0;

/** Several batches' outcomes as one. */
function joined(parts: readonly Classification[]): Classification {
  const join = (name: "exitLayers" | "logits" | "predictions") =>
    parts.flatMap((part) => [...part[name]]);
  const sum = (name: "nonFinite" | "rowLayers") => parts.reduce((all, part) => all + part[name], 0);
  return {
    rows: sum("rowLayers") >= 0 ? join("exitLayers").length : 0,
    exitLayers: Int32Array.from(join("exitLayers")),
    logits: Float32Array.from(join("logits")),
    predictions: Float32Array.from(join("predictions")),
    nonFinite: sum("nonFinite"),
    rowLayers: sum("rowLayers"),
  };
}

/** The layer loop's outcome, and the rows that the last digits may decide. */
async function reference(
  { encoder, strategy, params }: Subject,
  batches: readonly TokenBatch[],
): Promise<{ readonly outcome: Classification; readonly ties: readonly number[] }> {
  const runner = await openEncoder(node, encoder, encoder.params, toObserver(strategy, params));
  try {
    const parts: Classification[] = [];
    for (const batch of batches) parts.push(await classify(runner, batch, strategy));
    const count = parts.reduce((all, part) => all + part.rows, 0);
    const made = await record(runner, batches, {
      ids: rows.slice(0, count).map(({ id }) => id),
      labels: new Float32Array(count).fill(Number.NaN),
    });
    return { outcome: joined(parts), ties: nearTies(made, strategy) };
  } finally {
    await runner.dispose();
  }
}

async function outcomeOf(
  exits: InGraphExits,
  batches: readonly TokenBatch[],
  strategy: ExitStrategy,
): Promise<Classification> {
  const parts: Classification[] = [];
  for (const batch of batches) parts.push(await exits.classify(batch, knobOf(strategy)));
  return joined(parts);
}

const fileOf = ({ encoder, strategy, params }: Subject, many: "one" | "many" = "many") =>
  exportOnnx(encoder, strategy, toObserver(strategy, params), { rows: many });

describe("an exported file", () => {
  it.each(["many", "one"] as const)(
    "tells every exit's logits up to where a row left: rows %s",
    async (form) => {
      const strategy = entropy({ threshold: 0.3 });
      const observer = toObserver(strategy);
      const file = exportOnnx(model, strategy, observer, { rows: form, exitLogits: true });
      const opened = await node.open(file, { name: "path" });
      const runner = await openEncoder(node, model, model.params, observer);
      const classes = 3;
      const left = new Set<number>();
      try {
        for (const batch of batchesOf(20, form === "one" ? 1 : 10)) {
          const output = await opened.run(exportFeeds(batch, 0.3));
          const all = (await runner.full(batch)).logits;
          expect(output.exit_logits?.shape).toEqual([batch.rows, DEPTH, classes]);
          const given = output.exit_logits?.data as Float32Array;
          const answers = output.logits?.data as Float32Array;
          for (let row = 0; row < batch.rows; row += 1) {
            const layer = Number(output.exit_layer?.data[row]);
            left.add(layer);
            const start = row * DEPTH * classes;
            const end = start + layer * classes;
            expect(given.slice(start, end)).toBeAllclose(all.slice(start, end), { atol: 1e-4 });
            expect(given.slice(end - classes, end)).toEqual(
              answers.slice(row * classes, (row + 1) * classes),
            );
            const rest = given.slice(end, start + DEPTH * classes);
            expect(rest.every(Number.isNaN)).toBe(true);
          }
        }
      } finally {
        await opened.dispose();
        await runner.dispose();
      }
      expect(left.size).toBeGreaterThan(2);
    },
  );

  it.each(subjects)("leaves where the layer loop does: $name", async (subject) => {
    const { encoder, strategy } = subject;
    const batches = batchesOf(300, 16);
    const { outcome, ties } = await reference(subject, batches);
    const file = fileOf(subject);
    for (const engine of [node, web]) {
      const exits = await openExported(engine, file, encoder.shape);
      const own = await outcomeOf(exits, batches, strategy);
      const found = agreement(outcome, own, ties, 1e-3);
      expect(found.unexplained).toEqual([]);
      expect(found.nearTieShare).toBeLessThan(0.01);
      expect(own.rowLayers).toBe(own.exitLayers.reduce((sum, layer) => sum + layer, 0));
      await exits.dispose();
    }
    // The fixture must say something: rows leave at different layers where the rule can let them.
    if (!["always-at", "never"].includes(strategy.name))
      expect(new Set(outcome.exitLayers).size).toBeGreaterThan(2);
  });

  it("agrees on 10,000 inputs in onnxruntime-node and onnxruntime-web", async () => {
    const subject = subjects[0] as Subject;
    const batches = batchesOf(10_000, 250);
    const { outcome, ties } = await reference(subject, batches);
    const file = fileOf(subject);
    for (const engine of [node, web]) {
      const exits = await openExported(engine, file, model.shape);
      const found = agreement(outcome, await outcomeOf(exits, batches, subject.strategy), ties);
      await exits.dispose();
      expect(found.rows).toBe(10_000);
      expect(found.unexplained).toEqual([]);
      expect(found.nearTieShare).toBeLessThan(0.001);
    }
  });

  it("gives a row alone what it gets in a batch, in either form", async () => {
    const subject = subjects[1] as Subject;
    const { outcome, ties } = await reference(subject, batchesOf(60, 20));
    for (const form of ["one", "many"] as const) {
      const exits = await openExported(node, fileOf(subject, form), model.shape, form);
      const own = await outcomeOf(exits, batchesOf(60, 1), subject.strategy);
      expect(agreement(outcome, own, ties).unexplained).toEqual([]);
      await exits.dispose();
    }
  });

  it("takes another value of the knob without being built again", async () => {
    const batches = batchesOf(80, 16);
    const exits = await openExported(node, fileOf(subjects[0] as Subject), model.shape);
    const means: number[] = [];
    for (const threshold of [0, 0.1, 0.5, 2]) {
      const own = await outcomeOf(exits, batches, entropy({ threshold }));
      means.push(own.rowLayers / own.rows);
    }
    await exits.dispose();
    expect(means[0]).toBe(DEPTH);
    expect(means.at(-1)).toBe(1);
    expect(means).toEqual([...means].sort((a, b) => b - a));
  });

  it("never lets a row go on a number that is not finite, and counts it", async () => {
    const broken = Object.fromEntries(
      Object.entries(model.params).map(([path, tensor]) => {
        if (path !== "heads.2.classifier.bias") return [path, tensor];
        return [path, { ...tensor, data: Float32Array.of(Number.NaN, 0, 0) }];
      }),
    );
    const encoder = { ...model, params: broken };
    const subject: Subject = { name: "second", encoder, strategy: second() };
    const batches = batchesOf(40, 8);
    const { outcome } = await reference(subject, batches);
    const exits = await openExported(node, fileOf(subject), model.shape);
    const own = await outcomeOf(exits, batches, subject.strategy);
    await exits.dispose();
    expect(own.nonFinite).toBe(outcome.nonFinite);
    expect(own.nonFinite).toBe(40);
    expect([...own.exitLayers]).toEqual([...outcome.exitLayers]);
    expect([...own.exitLayers]).toEqual(Array(40).fill(3));
  });

  it.runIf(needs("onnx"))("passes ONNX's checker, with its weights in its branches", () => {
    const folder = scratchFolder();
    const paths = subjects.flatMap((subject, index) =>
      (["one", "many"] as const).map((form) => {
        const path = join(folder, `${index}-${form}.onnx`);
        writeFileSync(path, fileOf(subject, form));
        return path;
      }),
    );
    const script = join(import.meta.dirname, "../scripts/check_onnx.py");
    const checked = spawnSync(pathOf("onnx") as string, [script, ...paths], { encoding: "utf8" });
    expect(checked.stderr).toBe("");
    const files = checked.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(files).toHaveLength(2 * subjects.length);
    for (const file of files) {
      expect(file).toMatchObject({ irVersion: 8, opset: { "": 17 }, branches: DEPTH - 1 });
      expect(file.inputs).toEqual(["input_ids", "attention_mask", "token_type_ids", "knob"]);
      expect(file.outputs).toEqual(["logits", "prediction", "exit_layer", "non_finite"]);
      // All layers but the first, with 16 weights each at least.
      expect(file.weightsInBranches).toBeGreaterThan((DEPTH - 1) * 16);
    }
    expect(files[0].metadata).toMatchObject({
      "cee.labels": ["no", "maybe", "yes"],
      "cee.layers": DEPTH,
      "cee.strategy": { name: "entropy", options: { threshold: 0.3 } },
      "cee.knob": { option: "threshold", default: 0.3, direction: "higher-is-faster" },
    });
    expect(files[6].metadata["cee.calibration"].options).toEqual({ temperatures: [1.5, 0.7, 2] });
  });

  it("is refused with the reason where it can't be made or used", async () => {
    const subject = subjects[0] as Subject;
    const { decideTensor: _, ...definition } = entropy.definition;
    const host = { ...subject.strategy, definition } as ExitStrategy;
    const observer = toObserver(subject.strategy);
    expect(() => exportOnnx(model, host, observer)).toThrow(
      expect.objectContaining({ code: "NOT_EXPORTABLE" }),
    );
    expect(() => exportOnnx({ ...model, trainedHeads: [1] }, subject.strategy, observer)).toThrow(
      expect.objectContaining({ code: "NOT_TRAINED" }),
    );
    const opened = await node.open(fileOf(subject), { name: "file" });
    await expect(opened.run({})).rejects.toThrow(
      "[file] the model takes input_ids, attention_mask, token_type_ids, knob; missing: input_ids",
    );
    await opened.dispose();
    await expect(opened.run({})).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(node.open(new Uint8Array(40), { name: "no model" })).rejects.toMatchObject({
      code: "RUN_FAILED",
    });
    const one = await openExported(node, fileOf(subject, "one"), model.shape, "one");
    await expect(one.classify(toBatch(rows.slice(0, 2)), 0.3)).rejects.toMatchObject({
      code: "BAD_INPUT",
    });
    await one.dispose();
  });
});

describe("the in-graph form of a model", () => {
  it("decides as the layer loop, whatever the knob", async () => {
    const subject = subjects[0] as Subject;
    const batches = batchesOf(100, 25);
    const observer = toObserver(subject.strategy);
    const exits = await openInGraph(node, model, model.params, subject.strategy, observer);
    const draw = createRng("knobs");
    for (let count = 0; count < 4; count += 1) {
      const strategy = entropy({ threshold: draw.int(100) / 100 });
      const { outcome, ties } = await reference({ ...subject, strategy }, batches);
      const found = agreement(outcome, await outcomeOf(exits, batches, strategy), ties);
      expect(found.unexplained).toEqual([]);
    }
    await exits.dispose();
  });
});

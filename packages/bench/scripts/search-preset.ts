/**
 * @file One setting of the shared training on embedded or GLUE tasks: loss, accuracy after every layer, processor time.
 *
 * Usage: tsx --conditions=@cee/source packages/bench/scripts/search-preset.ts tasks=sentiment,nli3 lr=1e-3 epochs=10
 * Settings: tasks, data (a folder of GLUE files), limit, backbone (or width and depth of a fresh one), seed, lr, epochs, batch,
 * warmup, dropout, threads.
 */
import { compileFull, fit, recordRows } from "@cee/backbone";
import { initialisePhase } from "@cee/consistentee";
import { createEngine } from "@cee/engine";
import { type ExitRecord, entropy, predictionOf, toObserver } from "@cee/exit-policies";
import { loadEmbeddedTask } from "../src/data/embedded.js";
import { loadGlueTask } from "../src/data/glue.js";
import { prepareBackbone } from "../src/glue/backbone.js";
import { prepareRows } from "../src/glue/prepare.js";
import { createProgressLine } from "../src/glue/progress.js";
import { readSettings } from "./settings.js";

const { text, number } = readSettings([
  ...["tasks", "data", "limit", "backbone", "width", "depth", "seed", "lr", "epochs", "batch"],
  ...["warmup", "dropout", "threads"],
]);
const engine = await createEngine({ threads: number("threads", 2) });
const progress = createProgressLine();
const seed = number("seed", 42);
const maxLength = 64;

for (const name of (text("tasks") ?? "sentiment,nli3,similarity").split(",")) {
  const data = text("data");
  const task = data
    ? await loadGlueTask(data, name, { limit: { train: number("limit", 10_000) }, seed: 0 })
    : loadEmbeddedTask(name, {});
  const encoder = await prepareBackbone({
    spec: text("backbone") ?? `fresh:${number("depth", 12)}x${number("width", 64)}`,
    task,
    seed,
    maxLength,
    progress,
  });
  const dropout = number("dropout", 0.1);
  const config = { ...encoder.config, hiddenDropout: dropout, attentionDropout: dropout };
  const model = { config, shape: encoder.shape, head: encoder.head };
  const rows = prepareRows(task, encoder, { seed, maxLength });
  const phase = initialisePhase({
    epochs: number("epochs", 10),
    batchSize: number("batch", 32),
    learningRate: number("lr", 1e-3),
    warmup: number("warmup", 0.1),
  });
  const before = process.cpuUsage();
  let loss = Number.NaN;
  const { params } = await fit({
    engine,
    model,
    params: encoder.params,
    *plan() {
      yield phase;
    },
    train: rows.train,
    dev: [],
    seed,
    onProgress: (progress) => {
      loss = progress.loss;
    },
  });
  const { user, system } = process.cpuUsage(before);
  const program = compileFull(engine, model, params, toObserver(entropy(), {}));
  const { record } = await recordRows(program, {
    shape: model.shape,
    params,
    rows: rows.dev,
    batchSize: 64,
    padId: config.padTokenId,
  });
  const figures = Array.from({ length: model.shape.depth }, (_, index) => figure(record, index));
  process.stdout.write(
    `${name} ${process.argv.slice(2).join(" ")}: loss ${loss.toFixed(3)}, ${Math.round((user + system) / 1e6)} processor seconds, by layer ${figures.join(" ")}\n`,
  );
}
progress.stop();
await engine.dispose();

/** Accuracy after one layer; the mean absolute error of a regression. */
function figure(record: ExitRecord, index: number): string {
  const { depth, classes, task } = record.shape;
  let sum = 0;
  record.ids.forEach((_, row) => {
    const at = (row * depth + index) * classes;
    const answer = predictionOf(task, record.logits, at, classes);
    const label = record.labels[row] as number;
    sum += task === "regression" ? Math.abs(answer - label) : Number(answer === label);
  });
  return (sum / record.ids.length).toFixed(3);
}

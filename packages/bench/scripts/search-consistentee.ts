/**
 * @file ConsistentEE's own settings on embedded or GLUE tasks: from one shared initialisation, every setting with every
 * alpha; score and mean exit layer of the held-out rows.
 *
 * Usage: tsx --conditions=@cee/source packages/bench/scripts/search-consistentee.ts tasks=sentiment,nli3 lr=1e-3,3e-3
 * Settings: tasks, data (a folder of GLUE files), limit, max-length, backbone (or width and depth), rate (as of bench glue),
 * init (epochs of the initialisation), seed, threads, reward; and lists to combine: lr and epochs of the policy, rounds,
 * task (learning rate of the task step), task-epochs, task-warmup, wce (its weight), final (0 or 1), alpha. The scores per
 * layer that the initialisation reaches come first.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { consistentEEPresets } from "@cee/consistentee";
import { createEngine } from "@cee/engine";
import { alwaysAt, replay } from "@cee/exit-policies";
import { loadEmbeddedTask } from "../src/data/embedded.js";
import { loadGlueTask } from "../src/data/glue.js";
import { prepareBackbone } from "../src/glue/backbone.js";
import { prepareRows } from "../src/glue/prepare.js";
import { createProgressLine } from "../src/glue/progress.js";
import { consistentEEAt } from "../src/methods/consistentee.js";
import { initialiseSpec, rateFor } from "../src/methods/strategy-method.js";
import { createWorkbench } from "../src/methods/workbench.js";
import { score } from "../src/metrics/score.js";
import { readSettings } from "./settings.js";

const { text, number, numbers } = readSettings([
  ...["tasks", "data", "limit", "max-length", "backbone", "width", "depth", "rate", "init"],
  ...["seed", "threads", "reward"],
  ...["lr", "epochs", "rounds", "task", "task-epochs", "task-warmup", "wce", "final", "alpha"],
]);
const { policy, task: taskPhase } = consistentEEPresets.small;

/** One value of each list. */
interface Setting {
  readonly lr: number;
  readonly epochs: number;
  readonly rounds: number;
  readonly task: number;
  readonly "task-epochs": number;
  readonly "task-warmup": number;
  readonly wce: number;
  readonly final: number;
}

const defaults: Setting = {
  lr: policy.learningRate,
  epochs: policy.epochs,
  rounds: 3,
  task: taskPhase.learningRate,
  "task-epochs": taskPhase.epochs,
  "task-warmup": taskPhase.warmup,
  wce: 0,
  final: 0,
};
/** Every combination of the lists. */
const settings = Object.entries(defaults).reduce<readonly Setting[]>(
  (found, [key, otherwise]) =>
    found.flatMap((setting) =>
      numbers(key as keyof Setting, otherwise).map((value) => ({ ...setting, [key]: value })),
    ),
  [defaults],
);
const engine = await createEngine({ threads: number("threads", 2) });
const progress = createProgressLine();
const seed = number("seed", 42);
const maxLength = number("max-length", 64);
const out = await mkdtemp(join(tmpdir(), "cee-search-"));

for (const name of (text("tasks") ?? "sentiment,nli3").split(",")) {
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
  const rows = prepareRows(task, encoder, { seed, maxLength });
  const bench = createWorkbench({
    engine,
    model: { config: encoder.config, shape: encoder.shape, head: encoder.head },
    params: encoder.params,
    taskName: name,
    seed,
    preset: "small",
    epochs: text("init") ? number("init", 1) : undefined,
    rate: number("rate", 1),
    train: rows.train,
    validation: rows.validation,
    dev: rows.dev,
    identity: { search: name },
    out,
    progress,
    unitsPerStep: () => 0,
  });
  const labels = task.splits.dev.map(({ label }) => label);
  const atLast = alwaysAt({ layer: bench.shape.depth });
  const shared = await bench.record(await bench.fit(initialiseSpec(bench)), atLast);
  const perLayer = Array.from({ length: bench.shape.depth }, (_, index) =>
    score(task.task.metric, replay(shared, alwaysAt({ layer: index + 1 })).predictions, labels),
  );
  process.stdout.write(
    `${name} initialisation, layers 1 to ${perLayer.length}: ${perLayer.map((value) => value.toFixed(3)).join(" ")}\n`,
  );
  for (const setting of settings) {
    const { lr, epochs, rounds, task: taskRate, wce, final } = setting;
    const cells: string[] = [];
    const before = process.cpuUsage();
    for (const alpha of numbers("alpha", 0.03)) {
      const { spec, strategy } = consistentEEAt(
        bench,
        {
          name: "search",
          reward: text("reward") === "vanilla" ? "vanilla" : "hardness",
          options: {
            maxRounds: rounds,
            wceWeight: wce,
            finishWithPolicy: final === 1,
            policy: { learningRate: lr, epochs },
            task: {
              learningRate: rateFor(bench, taskRate),
              epochs: setting["task-epochs"],
              warmup: setting["task-warmup"],
            },
          },
        },
        alpha,
      );
      const trained = await bench.fit(spec);
      const record = await bench.record(trained, strategy);
      const { exitLayers, predictions } = replay(record, strategy);
      const mean = exitLayers.reduce((sum, layer) => sum + layer, 0) / exitLayers.length;
      const reached = trained.reports.filter(({ phase }) => phase.startsWith("task-"));
      cells.push(
        `${alpha}: ${score(task.task.metric, predictions, labels).toFixed(3)} at ${mean.toFixed(2)} (${reached.length})`,
      );
    }
    const { user, system } = process.cpuUsage(before);
    const words = Object.entries(setting).map(([key, value]) => `${key} ${value}`);
    process.stdout.write(
      `${name} ${words.join(" ")} | ${cells.join(" | ")} | ${Math.round((user + system) / 1e6)} processor seconds\n`,
    );
  }
  await bench.dispose();
}
progress.stop();
await engine.dispose();
await rm(out, { recursive: true, force: true });

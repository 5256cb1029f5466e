/** @file `cee train`: a text classifier with exits on a user's own data, into a folder that opens as a model. */
import { existsSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { quote } from "../arguments.js";
import { BenchError } from "../errors.js";
import {
  type Args,
  checkBackbone,
  createReader,
  MINI,
  strategyOptionsOf,
} from "../glue/options.js";
import { untilStopped } from "../glue/stop.js";
import type { TrainReport } from "../train/train-model.js";
import type { CeeCommand } from "./command.js";

const help = (cee: string) => `Usage: ${cee} train --data <file> --out <folder> [options]

Trains a text classifier with an exit after every layer on your data, chooses on held-out rows how early to exit, and saves a
folder that EarlyExitModel.fromPretrained opens, ${cee} evaluate and ${cee} predict too.

Data:
  --data <file>         training rows: .tsv, .csv, .jsonl or .parquet, with a column of texts and one of labels
  --dev <file>          rows to choose the operating point on and to report (default: a tenth of the training rows)
  --text <column>       (default: text, sentence, sentence1, premise, question, review or content)
  --pair <column>       of the second text, where texts are read in pairs (default: pair, sentence2 or hypothesis)
  --label <column>      (default: label, class, category, target or score)
  --labels <a,b>        the classes in order (default: those that the training rows have, sorted)
  --regression          labels are numbers to predict
  --limit <n>, --dev-limit <n>   rows at most, drawn at random

Model and training:
  --strategy <s>        consistentee, a built-in strategy or published method by name (entropy, patience, pabee, deebert, …),
                        or one of yours: a file such as ./margin.ts, or a package (default: consistentee)
  --strategy-options <j>  options by strategy, as JSON: '{"consistentee": {"alpha": 0.03}}'
  --max-loss <share>    of full depth's score that may be given up for speed (default: 0.01)
  --backbone <spec>     mini, the small pre-trained encoder that comes along; fresh:<layers>x<width>, a folder in Hugging
                        Face's BERT layout, or a hub id (default: mini)
  --preset <small|paper>  hyper-parameters: for small fresh encoders, or the published ones for pre-trained models
                        (default: small for mini and fresh:, else paper)
  --epochs <n>          of the training on all exits, instead of the preset's
  --max-length <n>      tokens per row (default: 128)
  --seed <n>            (default: 42)
  --threads <n>         (default: all processors)
  --runtime <name>      auto, onnxruntime-node, onnxruntime-web or eager (default: auto)

  --json                prints the report as one JSON object

Ctrl-C stops after the step in progress, with a checkpoint; the same command goes on from there.
Exit codes: 0 trained and saved, 1 something failed, 2 the command line was wrong, 130 stopped.

Examples:
  ${cee} train --data reviews.csv --text review --label stars --out model
  ${cee} train --data train.tsv --dev dev.tsv --strategy patience --backbone google-bert/bert-base-uncased --out model
  ${cee} train --data pairs.jsonl --pair hypothesis --strategy ./margin.ts --out model
`;

const runtimes = ["auto", "onnxruntime-node", "onnxruntime-web", "eager"] as const;
const presets = ["small", "paper"] as const;

const OPTIONS = [
  "data",
  "dev",
  "text",
  "pair",
  "label",
  "labels",
  "regression",
  "limit",
  "dev-limit",
  "strategy",
  "strategy-options",
  "max-loss",
  "backbone",
  "preset",
  "epochs",
  "max-length",
  "seed",
  "threads",
  "runtime",
  "out",
  "json",
] as const;

export const trainCommand: CeeCommand = {
  help,
  flags: ["regression", "json"],
  lists: [],
  async run(args: Args, cee: string): Promise<number> {
    const options = parse(args, cee);
    return untilStopped(
      (signal) => train(options, { signal, isJson: args.json === true, cee }),
      "Stopped. The same command goes on from here.\n",
    );
  },
};

async function train(
  options: ReturnType<typeof parse>,
  { signal, isJson, cee }: { signal: AbortSignal; isJson: boolean; cee: string },
): Promise<number> {
  const { createProgressLine } = await import("../glue/progress.js");
  const progress = createProgressLine();
  try {
    const [{ loadOwnTask }, { findTrainable }, { trainModel }, { createEngine }] =
      await Promise.all([
        import("../data/own-task.js"),
        import("../train/trainable.js"),
        import("../train/train-model.js"),
        import("@cee/engine"),
      ]);
    const task = await loadOwnTask(options.data);
    for (const { file, count, examples } of task.problems)
      progress.print(
        `${file}: ${count} row${count === 1 ? "" : "s"} left out, such as line ${examples[0]?.line}: ${examples[0]?.problem}.`,
      );
    progress.update("trying the strategy");
    const { strategyOptions } = options;
    const trainable = await findTrainable(options.strategy, { strategyOptions, signal });
    const engine = await createEngine(options.engine);
    try {
      const parts = { task, trainable, engine, progress, signal };
      const report = await trainModel({ ...options.training, ...parts });
      const { out } = options.training;
      // A folder names its strategy, not the file or package that it came from.
      const plugin = trainable.source === undefined ? [] : ["--plugin", options.strategy];
      process.stdout.write(
        isJson
          ? `${JSON.stringify({ folder: out, ...report })}\n`
          : `${describe(report, out)}${nextCommands(out, plugin, cee)}`,
      );
      return 0;
    } finally {
      await engine.dispose();
    }
  } finally {
    progress.stop();
  }
}

function parse(args: Args, cee: string) {
  const read = createReader(args, OPTIONS);
  const needed = (name: "data" | "out", example: string): string => {
    const value = read.text(name);
    if (value !== undefined) return value;
    throw new BenchError(
      "BAD_OPTION",
      `--${name}`,
      `is needed. Try: ${cee} train --data reviews.csv --out model, with ${example}.`,
    );
  };
  const file = needed("data", "a file of rows after --data");
  const out = needed("out", "a folder for the model after --out");
  checkOut(out);
  const backbone = read.text("backbone") ?? MINI;
  checkBackbone(backbone);
  const isSmall = backbone === MINI || backbone.startsWith("fresh:");
  const seed = read.whole("seed", 0) ?? 42;
  const labels = read.list("labels");
  if (labels.length === 1)
    throw new BenchError("BAD_OPTION", "--labels", `expected at least two, got "${labels[0]}".`);
  if (labels.length > 0 && args.regression === true)
    throw new BenchError("BAD_OPTION", "--labels", "numbers have no classes. Drop --regression.");
  const threads = read.whole("threads", 1);
  const runtime = read.choice("runtime", runtimes);
  return {
    data: {
      file,
      devFile: read.text("dev"),
      columns: { text: read.text("text"), pair: read.text("pair"), label: read.text("label") },
      labels: labels.length > 0 ? labels : undefined,
      regression: args.regression === true,
      limit: read.whole("limit", 20),
      devLimit: read.whole("dev-limit", 1),
      seed,
    },
    strategy: read.text("strategy") ?? "consistentee",
    strategyOptions: strategyOptionsOf(read.text("strategy-options")),
    engine: {
      ...(threads === undefined ? {} : { threads }),
      ...(runtime === undefined ? {} : { runtime }),
    },
    training: {
      backbone,
      preset: read.choice("preset", presets) ?? (isSmall ? "small" : "paper"),
      epochs: read.whole("epochs", 1),
      maxLength: read.whole("max-length", 8) ?? 128,
      seed,
      maxLoss:
        read.number("max-loss", "a share from 0 to 1", (value) => value >= 0 && value <= 1) ?? 0.01,
      out,
    },
  };
}

/** A folder that is new, empty, or holds a training that was stopped. @throws BenchError `WRITE_FAILED` */
function checkOut(out: string): void {
  if (!existsSync(out)) return;
  const refuse = (problem: string) => new BenchError("WRITE_FAILED", "--out", problem);
  if (!statSync(out).isDirectory()) throw refuse(`${out} is a file. Name a folder.`);
  const names = readdirSync(out);
  if (names.includes("cee.json") && !names.includes("trainings"))
    throw refuse(`${path.join(out, "")} holds a model already. Name another folder, or move it.`);
  if (names.length > 0 && !names.includes("trainings"))
    throw refuse(`${out} holds something else. Name a new or an empty folder.`);
}

function describe(report: TrainReport, out: string): string {
  const { metric, score, fullScore, layers, meanExitLayer, savedLayers, rows } = report;
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const options = Object.entries(report.options)
    .filter(([, value]) => ["number", "string", "boolean"].includes(typeof value))
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
  return `Trained on ${rows.train} rows${report.labels.length > 0 ? ` with ${report.labels.length} classes` : ""}; on ${rows.dev} held-out rows:

  ${metric}  ${score.toFixed(3)} with exits, ${fullScore.toFixed(3)} at full depth
  layers    ${meanExitLayer.toFixed(2)} of ${layers} on average, ${percent(savedLayers)} saved
  strategy  ${report.strategy}${options ? ` (${options})` : ""}
${report.note ? `  note      ${report.note}\n` : ""}
Saved in ${out}. Next:
`;
}

function nextCommands(out: string, plugin: readonly string[], cee: string): string {
  const [folder, ...options] = [out, ...plugin].map(quote);
  const more = options.map((word) => ` ${word}`).join("");
  return `  ${cee} predict ${folder} "a text of yours"${more}
  ${cee} evaluate ${folder} --data other-rows.csv${more}
`;
}

/** @file `cee evaluate`: what a trained model's answers are worth on labelled rows, and where they came from. */
import type { ClassifyInput, EarlyExitModel, Prediction } from "@cee/consistentee";
import type { LabelKind } from "../data/own-task.js";
import { BenchError } from "../errors.js";
import { type Args, createReader } from "../glue/options.js";
import { createProgressLine, type RunHooks } from "../glue/progress.js";
import { untilStopped } from "../glue/stop.js";
import type { CeeCommand } from "./command.js";
import {
  loadingOptions,
  modelHelp,
  modelOf,
  modelOptionNames,
  withHints,
} from "./model-options.js";

const help = (cee: string) => `Usage: ${cee} evaluate <model> --data <file> [options]

Answers labelled rows with a model's exits and at full depth, and compares both with the labels.

  <model>               a folder that ${cee} train or saveEarlyExitModel wrote, or its id on the Hugging Face hub
  --data <file>         rows: .tsv, .csv, .jsonl or .parquet, with a column of texts and one of labels
  --text, --pair, --label <column>   (default: those of the usual names, as ${cee} train --help lists them)
  --limit <n>           rows at most, drawn at random; the same ones every time
${modelHelp}
  --json                prints one JSON object

Exit codes: 0 done, 1 something failed, 2 the command line was wrong, 130 stopped.

Examples:
  ${cee} evaluate ./model --data test.csv --label stars
  ${cee} evaluate ./model --data dev.tsv --strategy patience --json
`;

export const evaluateCommand: CeeCommand = {
  help,
  flags: ["json"],
  lists: ["plugin"],
  operands: "one",
  async run(args: Args, cee: string): Promise<number> {
    const names = ["data", "text", "pair", "label", "limit", "json"];
    const read = createReader(args, [...modelOptionNames, ...names]);
    const folder = modelOf(args, "evaluate", cee);
    const file = read.text("data");
    if (file === undefined)
      throw new BenchError(
        "BAD_OPTION",
        "--data",
        `is needed. Try: ${cee} evaluate ${folder} --data rows.csv`,
      );
    const columns = { text: read.text("text"), pair: read.text("pair"), label: read.text("label") };
    const limit = read.whole("limit", 1);
    const progress = createProgressLine();
    return untilStopped(async (signal) => {
      const [options, { EarlyExitModel }, { loadOwnRows, definitionOf }, { takeRows }, { score }] =
        await Promise.all([
          loadingOptions(read, signal),
          import("@cee/consistentee"),
          import("../data/own-task.js"),
          import("../data/subset.js"),
          import("../metrics/score.js"),
        ]);
      const opened = async <T>(more: object, use: (model: EarlyExitModel) => Promise<T>) => {
        const model = await withHints(
          EarlyExitModel.fromPretrained(folder, { ...options, ...more }),
          { model: folder, read },
        );
        try {
          return await use(model);
        } finally {
          progress.stop();
          await model.dispose({ pending: "reject" });
        }
      };
      const early = await opened({}, async (model) => {
        // Which classes there are decides how the file is read.
        const kind = await kindOf(model);
        const own = await loadOwnRows(file, columns, kind);
        const rows = takeRows(own.rows, limit, 0, "evaluate");
        const inputs = rows.map(({ text, pair }) => (pair === undefined ? text : { text, pair }));
        progress.plan(2 * rows.length);
        const answers = await answersOf(model, inputs, { progress, signal });
        return { kind, own, rows, inputs, answers, name: model.strategy.name };
      });
      const { kind, own, rows } = early;
      if (own.problems)
        process.stderr.write(
          `${file}: ${own.problems.count} rows left out, such as line ${own.problems.examples[0]?.line}: ${own.problems.examples[0]?.problem}.\n`,
        );
      const fullAnswers = await opened({ strategy: "never" }, (model) =>
        answersOf(model, early.inputs, { progress, signal }),
      );
      const labels = rows.map(({ label }) => label);
      const valuesOf = (answers: readonly Prediction[]) =>
        answers.map(({ label, score: value }) =>
          "regression" in kind ? value : kind.labels.indexOf(label),
        );
      const { metric, metrics } = definitionOf(file, own.columns, kind);
      const { layers } = early.answers[0] as Prediction;
      const exitHistogram = Array.from(
        { length: layers },
        (_, index) => early.answers.filter(({ exitLayer }) => exitLayer === index + 1).length,
      );
      const meanExitLayer =
        early.answers.reduce((sum, { exitLayer }) => sum + exitLayer, 0) / rows.length;
      const [values, fullValues] = [valuesOf(early.answers), valuesOf(fullAnswers)];
      const scoresOf = (answered: readonly number[]) =>
        Object.fromEntries(metrics.map((name) => [name, score(name, answered, labels)]));
      const report = {
        model: folder,
        data: file,
        rows: rows.length,
        leftOut: own.problems?.count ?? 0,
        strategy: early.name,
        metric,
        scores: scoresOf(values),
        fullScores: scoresOf(fullValues),
        agreement: values.filter((value, row) => value === fullValues[row]).length / rows.length,
        layers,
        meanExitLayer,
        savedLayers: 1 - meanExitLayer / layers,
        exitHistogram,
        truncated: early.answers.filter(({ truncated }) => truncated).length,
      };
      process.stdout.write(args.json === true ? `${JSON.stringify(report)}\n` : describe(report));
      return 0;
    });
  },
};

/** Class names, or numbers, as the model's answers show it. */
async function kindOf(model: EarlyExitModel): Promise<LabelKind> {
  if (model.labels) return { labels: model.labels };
  const { probabilities } = await model.classify("a");
  if (probabilities.length === 0) return { regression: true };
  return { labels: probabilities.map((_, index) => `LABEL_${index}`) };
}

async function answersOf(
  model: EarlyExitModel,
  rows: readonly ClassifyInput[],
  { progress, signal }: RunHooks & { readonly signal: AbortSignal },
): Promise<readonly Prediction[]> {
  const answers: Prediction[] = [];
  for await (const answer of model.stream(rows, { signal })) {
    answers.push(answer);
    progress.update(`strategy ${model.strategy.name}, row ${answers.length} of ${rows.length}`, 1);
  }
  return answers;
}

interface Report {
  readonly rows: number;
  readonly strategy: string;
  readonly scores: Readonly<Record<string, number>>;
  readonly fullScores: Readonly<Record<string, number>>;
  readonly layers: number;
  readonly meanExitLayer: number;
  readonly savedLayers: number;
  readonly exitHistogram: readonly number[];
  readonly truncated: number;
}

function describe(report: Report): string {
  const { rows, strategy, scores, fullScores, layers, meanExitLayer, exitHistogram } = report;
  const width = Math.max(...Object.keys(scores).map((name) => name.length), 8);
  const lines = Object.entries(scores).map(
    ([name, value]) =>
      `  ${name.padEnd(width)}  ${value.toFixed(3)} with exits, ${(fullScores[name] as number).toFixed(3)} at full depth`,
  );
  const most = Math.max(...exitHistogram);
  const bars = exitHistogram.map(
    (count, index) =>
      `  layer ${String(index + 1).padEnd(width - 6)}  ${String(count).padStart(6)} ${"#".repeat(Math.round((30 * count) / most))}`,
  );
  return [
    `${rows} rows, strategy ${strategy}:`,
    "",
    ...lines,
    `  ${"layers".padEnd(width)}  ${meanExitLayer.toFixed(2)} of ${layers} on average, ${(100 * report.savedLayers).toFixed(1)} % saved`,
    "",
    ...bars,
    ...(report.truncated > 0
      ? [`  ${report.truncated} texts were cut to the model's length.`]
      : []),
    "",
  ].join("\n");
}

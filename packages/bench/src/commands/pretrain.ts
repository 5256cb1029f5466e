/** @file `cee pretrain`: masked language modelling on text files, from scratch or from a pre-trained folder. */
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import {
  type Evaluation,
  exportPretrained,
  type PretrainReport,
  parsePretrainSettings,
  pretrain,
} from "@cee/backbone";
import { createEngine } from "@cee/engine";
import { BenchError } from "../errors.js";
import { listenForStop } from "../glue/stop.js";

export const PRETRAIN_USAGE = `Usage: cee pretrain --corpus <files> --config <file> --out <folder> [options]

Pre-trains an encoder on text. Run again with the same --out to go on where it was stopped.

  --corpus <path>    text file or folder, UTF-8; may be repeated
  --config <file>    JSON: the model's sizes and the run's settings
  --out <folder>     receives vocabulary, checkpoint, and at the end the weights
  --init <folder>    start from these weights and this vocabulary
  --cache <folder>   where the tokenised corpus is kept (default: <out>/cache)
  --minutes <n>      stop after n minutes, with a checkpoint and the weights so far
  --threads <n>      threads of the runtime (default: all processors)
  --export <folder>  only write the weights of the last checkpoint there
  --progress         print a line every 30 seconds even where there is no terminal
`;

/** Runs the command; returns the exit code, 130 or 143 after a signal, with a checkpoint. @throws BackboneError; BenchError `BAD_OPTION`; TypeError for an option that is not known. */
export async function pretrainCommand(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      corpus: { type: "string", multiple: true },
      config: { type: "string" },
      out: { type: "string" },
      init: { type: "string" },
      cache: { type: "string" },
      minutes: { type: "string" },
      threads: { type: "string" },
      export: { type: "string" },
      progress: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    process.stdout.write(PRETRAIN_USAGE);
    return 0;
  }
  // A shell expands --corpus a/*.txt into one value and positionals.
  const corpus = [...(values.corpus ?? []), ...positionals];
  const { config, out } = values;
  if (values.export !== undefined && config !== undefined && out !== undefined) {
    const { model } = parsePretrainSettings(JSON.parse(await readFile(config, "utf8")), config);
    const progress = await exportPretrained({ from: out, to: values.export, config: model });
    log(`weights after ${progress.step} steps: ${values.export}`);
    return 0;
  }
  if (corpus.length === 0 || config === undefined || out === undefined) {
    throw new BenchError(
      "BAD_OPTION",
      "pretrain",
      `--corpus, --config and --out are needed, got ${argv.join(" ") || "nothing"}. See cee pretrain --help.`,
    );
  }
  const minutes = positive("minutes", values.minutes);
  const threads = positive("threads", values.threads);
  const stop = listenForStop(log);
  const engine = await createEngine({ log, ...(threads ? { threads } : {}) });
  try {
    const result = await pretrain({
      engine,
      corpus,
      config,
      out,
      init: values.init,
      cache: values.cache,
      minutes,
      signal: stop.signal,
      log,
      onProgress: createPrinter(values.progress === true),
      onEvaluation: (evaluation) => log(describe(evaluation)),
    });
    log(
      result.done
        ? `finished after ${result.progress.step} steps: ${out}`
        : `stopped after ${result.progress.step} steps; run again to go on: ${out}`,
    );
    return stop.exitCode() ?? 0;
  } finally {
    stop.release();
    await engine.dispose();
  }
}

function log(line: string): void {
  process.stderr.write(`${line}\n`);
}

function positive(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (value > 0) return value;
  const message = `--${name} must be a number above 0, got "${text}". Leave it out for no limit.`;
  throw new BenchError("BAD_OPTION", "pretrain", message);
}

function createPrinter(always: boolean): (report: PretrainReport) => void {
  const isTerminal = process.stderr.isTTY;
  const every = isTerminal ? 500 : 30_000;
  let last = 0;
  return (report) => {
    const now = Date.now();
    if (!(isTerminal || always) || (now - last < every && report.step < report.steps)) return;
    last = now;
    const line =
      `step ${report.step}/${report.steps}  loss ${report.loss.toFixed(3)}  norm ${report.norm.toFixed(2)}  ` +
      `rate ${report.learningRate.toExponential(2)}  ${Math.round(report.tokensPerSecond)} tokens/s  ` +
      `${duration(report.secondsLeft)} left`;
    process.stderr.write(isTerminal ? `\r\u001b[K${line}` : `${line}\n`);
  };
}

function describe({ step, tokens, pairs }: Evaluation): string {
  const list = (losses: readonly number[]) => losses.map((loss) => loss.toFixed(3)).join(" ");
  const tail = pairs.length > 0 ? `; pairs ${list(pairs)}` : "";
  return `held-out loss at step ${step}, layers 1 to ${tokens.length}: ${list(tokens)}${tail}`;
}

function duration(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  return minutes >= 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes} min`;
}

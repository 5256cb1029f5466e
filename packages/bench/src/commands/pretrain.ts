/** @file `cee pretrain`: masked language modelling on text files, from scratch or from a pre-trained folder. */
import { readFile } from "node:fs/promises";
import {
  type Evaluation,
  exportPretrained,
  type PretrainReport,
  parsePretrainSettings,
  pretrain,
} from "@cee/backbone";
import { createEngine } from "@cee/engine";
import { operandsOf } from "../arguments.js";
import { BenchError } from "../errors.js";
import { type Args, createReader } from "../glue/options.js";
import { createProgressLine, duration, type ProgressLine } from "../glue/progress.js";
import { checkStop, untilStopped } from "../glue/stop.js";
import type { CeeCommand } from "./command.js";

const help = (
  cee: string,
) => `Usage: ${cee} pretrain --corpus <files> --config <file> --out <folder> [options]

Pre-trains an encoder on text. Run again with the same --out to go on where it was stopped.

  --corpus <path>    text file or folder, UTF-8; may be repeated, and followed by more files
  --config <file>    JSON: the model's sizes and the run's settings
  --out <folder>     receives vocabulary, checkpoint, and at the end the weights
  --init <folder>    start from these weights and this vocabulary
  --cache <folder>   where the tokenised corpus is kept (default: <out>/cache)
  --minutes <n>      stop after n minutes, with a checkpoint and the weights so far
  --threads <n>      threads of the runtime (default: all processors)
  --export <folder>  only write the weights of the last checkpoint there
  --progress         print a line every 30 seconds even where there is no terminal

Ctrl-C stops after the step in progress, with a checkpoint; the same command goes on from there.
Exit codes: 0 done, 1 something failed, 2 the command line was wrong, 130 stopped.

Examples:
  ${cee} pretrain --corpus books/*.txt --config small.json --out runs/small
  ${cee} pretrain --config small.json --out runs/small --export small
`;

export const pretrainCommand: CeeCommand = {
  help,
  flags: ["progress"],
  lists: ["corpus"],
  // A shell turns --corpus a/*.txt into one value and words that follow.
  operands: "many",
  async run(args: Args, cee: string): Promise<number> {
    const read = createReader(args, [
      ...["corpus", "config", "out", "init", "cache", "minutes", "threads", "export"],
      "progress",
    ]);
    const corpus = [args.corpus ?? [], operandsOf(args)].flat() as readonly string[];
    if (corpus.includes(""))
      throw new BenchError("BAD_OPTION", "--corpus", "expected a file or folder, got nothing.");
    const [config, out, exported] = [read.text("config"), read.text("out"), read.text("export")];
    const minutes = read.number("minutes", "a number above 0", (value) => value > 0);
    const threads = read.whole("threads", 1);
    const needed = { corpus: exported ?? corpus[0], config, out };
    for (const [name, value] of Object.entries(needed))
      if (value === undefined)
        throw new BenchError(
          "BAD_OPTION",
          `--${name}`,
          `is needed. Try: ${cee} pretrain --corpus texts --config sizes.json --out runs/own`,
        );
    const run = { corpus, config: config as string, out: out as string };
    const progress = createProgressLine();
    const log = (line: string) => progress.print(line);
    if (exported !== undefined) {
      const { model } = parsePretrainSettings(await readSettings(run.config), run.config);
      const { step } = await exportPretrained({ from: run.out, to: exported, config: model });
      log(`weights after ${step} steps: ${exported}`);
      return 0;
    }
    return untilStopped(async (signal) => {
      const engine = await createEngine({ log, ...(threads === undefined ? {} : { threads }) });
      try {
        const { done, progress: reached } = await pretrain({
          ...run,
          engine,
          init: read.text("init"),
          cache: read.text("cache"),
          minutes,
          signal,
          log,
          onProgress: showSteps(progress, args.progress === true),
          onEvaluation: (evaluation) => log(describe(evaluation)),
        });
        log(
          done
            ? `finished after ${reached.step} steps: ${out}`
            : `stopped after ${reached.step} steps; run again to go on: ${out}`,
        );
        // It returns when it is told to stop; who runs this command learns it from the exit code.
        checkStop(signal);
        return 0;
      } finally {
        progress.stop();
        await engine.dispose();
      }
    });
  },
};

/** @throws BenchError `MISSING_FILE` or `BAD_FILE` */
async function readSettings(file: string): Promise<unknown> {
  const text = await readFile(file, "utf8").catch((cause: Error) => {
    throw new BenchError("MISSING_FILE", "--config", `can't read ${file}: ${cause.message}.`, {
      cause,
    });
  });
  try {
    return JSON.parse(text);
  } catch (cause) {
    const found = (cause as Error).message;
    throw new BenchError("BAD_FILE", file, `is not JSON: ${found}. Mend the file.`, { cause });
  }
}

const QUIET_MS = 30_000;

/** The progress line; where there is no terminal, a line now and then if that is wanted. */
function showSteps(progress: ProgressLine, always: boolean): (report: PretrainReport) => void {
  const isTerminal = process.stderr.isTTY === true;
  let before: number | undefined;
  let printed = 0;
  return ({ step, steps, loss, norm, learningRate, tokensPerSecond, secondsLeft }) => {
    const speed = `loss ${loss.toFixed(3)}  norm ${norm.toFixed(2)}  rate ${learningRate.toExponential(2)}  ${Math.round(tokensPerSecond)} tokens/s`;
    const line = `step ${step}/${steps}  ${speed}`;
    if (before === undefined) {
      progress.plan(steps);
      progress.settle(step - 1);
    }
    progress.update(line, step - (before ?? step - 1));
    before = step;
    if (isTerminal || !always) return;
    const now = Date.now();
    if (now - printed < QUIET_MS && step < steps) return;
    printed = now;
    progress.print(`${line}  ${duration(secondsLeft)} left`);
  };
}

function describe({ step, tokens, pairs }: Evaluation): string {
  const list = (losses: readonly number[]) => losses.map((loss) => loss.toFixed(3)).join(" ");
  const tail = pairs.length > 0 ? `; pairs ${list(pairs)}` : "";
  return `held-out loss at step ${step}, layers 1 to ${tokens.length}: ${list(tokens)}${tail}`;
}

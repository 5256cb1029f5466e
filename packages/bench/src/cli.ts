/** @file The benchmark's command line: `pnpm bench <command> [options]`. What a command needs is loaded when it runs. */
import { type Grammar, operandsOf, parseArgs, quote } from "./arguments.js";
import {
  decodeHelp,
  engineHelp,
  generationHelp,
  glueHelp,
  overview,
  paperHelp,
  pretrainingHelp,
  replayHelp,
  reportHelp,
  speedHelp,
} from "./cli-help.js";
import { BenchError, suggestNames } from "./errors.js";
import {
  type Args,
  createReader,
  type GlueOptions,
  glueFlags,
  glueLists,
  maskDataFolder,
  parseGlueOptions,
} from "./glue/options.js";
import type { BenchOutcome } from "./glue/output.js";
import type { RunHooks } from "./glue/progress.js";
import { untilStopped } from "./glue/stop.js";
import type { PaperOutcome } from "./paper/run-paper.js";

interface Command extends Grammar {
  readonly help: string;
  /** @param program what this command line is called with, for what a reader may copy */
  run(args: Args, words: readonly string[], program: string): Promise<number>;
}

const commands: Readonly<Record<string, Command>> = {
  glue: { help: glueHelp, flags: glueFlags, lists: glueLists, run: glue },
  paper: { help: paperHelp, flags: glueFlags, lists: glueLists, run: paper },
  decode: { help: decodeHelp, flags: ["check", "no-transformers", "json"], lists: [], run: decode },
  generation: {
    help: generationHelp,
    flags: ["resume", "dry-run", "lora", "json"],
    lists: [],
    run: generation,
  },
  engine: { help: engineHelp, flags: ["no-torch", "check", "json"], lists: [], run: engine },
  pretraining: {
    help: pretrainingHelp,
    flags: ["no-torch", "check", "json"],
    lists: [],
    run: pretraining,
  },
  speed: {
    help: speedHelp,
    flags: ["no-torch", "no-transformers", "check", "resume", "json"],
    lists: [],
    run: speed,
  },
  replay: { help: replayHelp, flags: ["check", "json"], lists: [], run: replay },
  report: { help: reportHelp, flags: ["json"], lists: [], operands: "one", run: report },
};

/** What this command line is called with in a clone of the repository, and in the texts of `cli-help.ts`. */
const PROGRAM = "pnpm bench";

/** Runs one command; returns the exit code. @throws what the command throws */
export async function main(words: readonly string[], program = PROGRAM): Promise<number> {
  const named = (text: string) => text.replaceAll(PROGRAM, program);
  const wantsHelp = words.some((word) => word === "--help" || word === "-h");
  const [first, ...rest] = words.filter((word) => word !== "--help" && word !== "-h");
  const name = first === "help" ? rest[0] : first;
  if (name === undefined) {
    (wantsHelp || first === "help" ? process.stdout : process.stderr).write(named(overview));
    return wantsHelp || first === "help" ? 0 : 2;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) {
    const isOption = name.startsWith("-");
    throw new BenchError(
      "UNKNOWN_OPTION",
      name,
      isOption
        ? `expected a command before the options. Try: ${program} glue --help`
        : `there is no such command. ${suggestNames(name, Object.keys(commands))}`,
    );
  }
  if (wantsHelp || first === "help") {
    process.stdout.write(named(command.help));
    return 0;
  }
  return command.run(parseArgs(rest, command), words, program);
}

async function glue(args: Args, words: readonly string[], program: string): Promise<number> {
  const command = commandLine(words, undefined, program);
  return benchmark(args, parseGlueOptions(args, command), async (options, hooks) => {
    const { runGlue } = await import("./glue/run.js");
    return runGlue(options, hooks);
  });
}

async function paper(args: Args, words: readonly string[], program: string): Promise<number> {
  const command = commandLine(words, undefined, program);
  const options = parseGlueOptions(args, command, {
    name: "paper",
    allTasks: true,
    allMethods: true,
  });
  return benchmark(args, options, async (given, hooks) => {
    const { runPaper } = await import("./paper/run-paper.js");
    return runPaper(given, hooks);
  });
}

async function generation(args: Args, words: readonly string[], program: string): Promise<number> {
  const { parseGenerationOptions } = await import("./generation/options.js");
  const options = parseGenerationOptions(args, commandLine(words, undefined, program));
  return benchmark(args, options, async (given, hooks) => {
    const { runGeneration } = await import("./generation/run.js");
    return runGeneration(given, hooks);
  });
}

/** Runs until the end or Ctrl-C, and says what happened. */
async function benchmark<TOptions extends Pick<GlueOptions, "command" | "dryRun" | "out">>(
  args: Args,
  options: TOptions,
  run: (
    options: TOptions,
    hooks: { signal: AbortSignal },
  ) => Promise<BenchOutcome & Pick<PaperOutcome, "paper">>,
): Promise<number> {
  const { command, dryRun } = options;
  const isJson = args.json === true;
  if (isJson && dryRun)
    throw new BenchError("BAD_OPTION", "--json", "a dry run has no results. Drop one of the two.");
  const stopped = dryRun ? "Stopped.\n" : `Stopped. To go on:\n  ${command} --resume\n`;
  return untilStopped(async (signal) => {
    const { table, failures, files, paper: extra } = await run(options, { signal });
    process.stdout.write(`${isJson ? await jsonOf(options.out, extra !== undefined) : table}\n`);
    if (files.length > 0) process.stderr.write(`Written: ${files.join(", ")}\n`);
    const failed = [
      ...failures.map(({ task, method, seed }) => `${task}/${method}/${seed}`),
      ...(extra?.failures ?? []).map(({ part }) => part),
    ];
    if (failed.length > 0)
      process.stderr.write(
        `${failed.length} of the cells failed: ${failed.join(", ")}. After mending the cause, go on with:\n  ${command} --resume\n`,
      );
    return failed.length > 0 ? 1 : 0;
  }, stopped);
}

/** What a run has left, on one line: its files are checked and ordered, what is in memory is not. */
async function jsonOf(out: string, hasPaper: boolean): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  const held = async (name: string) =>
    JSON.parse(await readFile(`${out}/${name}`, "utf8")) as unknown;
  const results = await held("results.json");
  return JSON.stringify(hasPaper ? { results, paper: await held("paper.json") } : results);
}

const engineOptions = [
  "widths",
  "depth",
  "heads",
  "vocabulary",
  "batch",
  "length",
  "dropout",
  "threads",
  "rounds",
  "wasm-rounds",
  "no-torch",
  "check",
  "json",
] as const;

async function engine(args: Args): Promise<number> {
  const read = createReader(args, engineOptions);
  const widths = read.list("widths").map((width) => {
    const value = Number(width);
    if (Number.isInteger(value) && value >= 8) return value;
    throw new BenchError("BAD_OPTION", "--widths", `expected whole numbers >= 8, got "${width}".`);
  });
  const dropout = read.number("dropout", "a number from 0 to below 1", (p) => p >= 0 && p < 1);
  const given = {
    depth: read.whole("depth", 1),
    heads: read.whole("heads", 1),
    vocabulary: read.whole("vocabulary", 8),
    batch: read.whole("batch", 1),
    length: read.whole("length", 2),
    dropout,
    threads: read.whole("threads", 1),
    rounds: read.whole("rounds", 1),
    wasmRounds: read.whole("wasm-rounds", 0),
  };
  const { runEngineBench, describeEngineBench } = await import("./engine/index.js");
  const options = {
    ...onlyGiven(given),
    ...(widths.length > 0 ? { widths } : {}),
    torch: args["no-torch"] !== true,
  };
  return measure(args, (hooks) => runEngineBench(options, hooks), describeEngineBench);
}

type Given<T> = { [Name in keyof T]?: Exclude<T[Name], undefined> };

function onlyGiven<T extends object>(options: T): Given<T> {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Given<T>;
}

/** Runs a benchmark that leaves no files, until its end or Ctrl-C, and prints what it found. */
async function measure<T extends { readonly bars: readonly { readonly isMet: boolean }[] }>(
  args: Args,
  run: (hooks: RunHooks) => Promise<T>,
  describe: (result: T) => string,
): Promise<number> {
  const { createProgressLine } = await import("./glue/progress.js");
  const progress = createProgressLine();
  return untilStopped(async (signal) => {
    const result = await run({ progress, signal }).finally(() => progress.stop());
    process.stdout.write(args.json === true ? `${JSON.stringify(result)}\n` : describe(result));
    return args.check === true && result.bars.some(({ isMet }) => !isMet) ? 1 : 0;
  }, "Stopped.\n");
}

async function pretraining(args: Args): Promise<number> {
  const names = ["depth", "width", "heads", "vocabulary", "batch", "length", "exits", "threads"];
  const read = createReader(args, [...names, "rounds", "no-torch", "check", "json"]);
  const given = {
    depth: read.whole("depth", 1),
    width: read.whole("width", 8),
    heads: read.whole("heads", 1),
    vocabulary: read.whole("vocabulary", 8),
    batch: read.whole("batch", 1),
    length: read.whole("length", 8),
    exits: read.whole("exits", 0),
    threads: read.whole("threads", 1),
    rounds: read.whole("rounds", 1),
  };
  const { runPretrainingBench, describePretrainingBench } = await import("./engine/pretraining.js");
  const options = { ...onlyGiven(given), torch: args["no-torch"] !== true };
  return measure(args, (hooks) => runPretrainingBench(options, hooks), describePretrainingBench);
}

async function decode(args: Args): Promise<number> {
  const names = ["width", "depth", "vocabulary", "prompt", "tokens", "rounds", "threads"];
  const read = createReader(args, [...names, "no-transformers", "check", "json"]);
  const width = read.number(
    "width",
    "a number divisible by 64",
    (value) => value >= 64 && value % 64 === 0,
  );
  const given = {
    width,
    depth: read.whole("depth", 2),
    vocabulary: read.whole("vocabulary", 8),
    prompt: read.whole("prompt", 1),
    tokens: read.whole("tokens", 2),
    rounds: read.whole("rounds", 1),
    threads: read.whole("threads", 1),
  };
  const [{ runDecodeBench }, { describeDecodeBench }] = await Promise.all([
    import("./decode/decode-bench.js"),
    import("./decode/decode-text.js"),
  ]);
  const options = { ...onlyGiven(given), transformers: args["no-transformers"] !== true };
  return measure(args, (hooks) => runDecodeBench(options, hooks), describeDecodeBench);
}

async function replay(args: Args): Promise<number> {
  const names = ["rows", "layers", "values", "rounds", "milliseconds", "seed", "check", "json"];
  const read = createReader(args, names);
  const given = {
    rows: read.whole("rows", 2),
    layers: read.whole("layers", 3),
    values: read.whole("values", 1),
    rounds: read.whole("rounds", 1),
    milliseconds: read.whole("milliseconds", 1),
    seed: read.whole("seed", 0),
  };
  const { runReplayBench, describeReplayBench } = await import("./replay/replay-bench.js");
  return measure(args, (hooks) => runReplayBench(onlyGiven(given), hooks), describeReplayBench);
}

async function speed(args: Args, words: readonly string[], program: string): Promise<number> {
  const { parseSpeedOptions } = await import("./speed/options.js");
  const options = parseSpeedOptions(args, commandLine(words, undefined, program));
  return untilStopped(async (signal) => {
    const { runSpeed } = await import("./speed/index.js");
    const { speedTables } = await import("./speed/tables.js");
    const { toText } = await import("./table/table.js");
    const { createProgressLine } = await import("./glue/progress.js");
    const { results, files } = await runSpeed(options, { signal, progress: createProgressLine() });
    const tables = () => speedTables(results).map(toText).join("\n\n");
    process.stdout.write(`${args.json === true ? JSON.stringify(results) : tables()}\n`);
    process.stderr.write([...results.notes, `Written: ${files.join(", ")}`, ""].join("\n"));
    return args.check === true && results.bars.some(({ isMet }) => !isMet) ? 1 : 0;
  }, `Stopped. To go on:\n  ${options.command} --resume\n`);
}

/** Makes the readable files of an earlier run again. */
async function report(args: Args, _words: readonly string[], program: string): Promise<number> {
  createReader(args, ["json"]);
  const [folder] = operandsOf(args);
  if (!folder)
    throw new BenchError(
      "BAD_OPTION",
      "report",
      `expected the folder of a run, got nothing. Try: ${program} report runs/embedded`,
    );
  const { remakePresentation } = await import("./export/presentation.js");
  const { table, files, notes } = await remakePresentation(folder);
  const isJson = args.json === true;
  process.stdout.write(`${isJson ? JSON.stringify({ folder, files, notes }) : table}\n`);
  process.stderr.write([...notes, `Written: ${files.join(", ")}`, ""].join("\n"));
  return 0;
}

/** The command as a shell takes it, without `--resume`, which changes nothing about the results. */
export function commandLine(
  words: readonly string[],
  folder: string | undefined = process.env.CEE_DATA_DIR,
  program = PROGRAM,
): string {
  const shown = words.filter((word) => word !== "--resume");
  return [program, ...shown.map((word) => quote(maskDataFolder(word, folder)))].join(" ");
}

const usageCodes: readonly unknown[] = [
  "UNKNOWN_OPTION",
  "BAD_OPTION",
  "UNKNOWN_TASK",
  "UNKNOWN_METHOD",
  "UNKNOWN_STRATEGY",
];

/** 2 for a command line that can't be meant, 1 for everything else that goes wrong. */
export function exitCodeOf(cause: unknown): 1 | 2 {
  const { code, who } = (cause ?? {}) as { code?: unknown; who?: unknown };
  const isUsage = usageCodes.includes(code) || (typeof who === "string" && who.startsWith("--"));
  return isUsage ? 2 : 1;
}

/** Ends this process as a command line ends, which gives an exit code or throws. */
export async function runMain(run: () => Promise<number>): Promise<void> {
  // A reader such as `head` may be gone before everything is printed.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
  try {
    process.exitCode = await run();
  } catch (cause) {
    const isError = cause instanceof Error;
    const text = isError ? (process.env.CEE_DEBUG ? cause.stack : cause.message) : String(cause);
    process.stderr.write(`${text}\n`);
    process.exitCode = exitCodeOf(cause);
  }
}

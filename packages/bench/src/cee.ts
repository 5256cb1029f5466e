/** @file The program `cee`: its commands. What a command needs is loaded when it runs. */
import { createRequire } from "node:module";
import { main } from "./cli.js";
import { type CeeCommand, runCommand } from "./commands/command.js";
import { BenchError, suggestNames } from "./errors.js";

export { runMain } from "./cli.js";

/** What to call the program and its benchmarks in what a reader may copy. */
export interface ProgramNames {
  readonly cee: string;
  readonly bench: string;
}

interface Entry {
  /** For the overview. */
  readonly summary: string;
  run(words: readonly string[], names: ProgramNames): Promise<number>;
}

/** A command that is a {@link CeeCommand}. */
const entry = (summary: string, load: () => Promise<CeeCommand>): Entry => ({
  summary,
  run: async (words, { cee }) => runCommand(await load(), words, cee),
});

/** In the order of the overview. */
const commands: Readonly<Record<string, Entry>> = {
  train: entry(
    "train a text classifier with exits on your own data",
    async () => (await import("./commands/train.js")).trainCommand,
  ),
  evaluate: entry(
    "score a trained model on labelled rows, with exits and without",
    async () => (await import("./commands/evaluate.js")).evaluateCommand,
  ),
  predict: entry(
    "answer texts from arguments, a file or standard input",
    async () => (await import("./commands/predict.js")).predictCommand,
  ),
  new: entry(
    "write a package for an exit strategy of your own",
    async () => (await import("./commands/new.js")).newCommand,
  ),
  bench: {
    summary: "compare methods: bench glue, bench paper, bench engine and others",
    run: (words, names) => main(words, names.bench),
  },
  pretrain: entry(
    "pre-train an encoder on text files",
    async () => (await import("./commands/pretrain.js")).pretrainCommand,
  ),
  export: entry(
    "write a model with exits as one ONNX file, its exits inside",
    async () => (await import("./commands/export.js")).exportCommand,
  ),
  doctor: entry(
    "say what this machine computes with, and what would make it faster",
    async () => (await import("./commands/doctor.js")).doctorCommand,
  ),
};

const overview = ({ cee }: ProgramNames) => `Usage: ${cee} <command> [options]

Early exit for language models.

Commands:
${Object.entries(commands)
  .map(([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`)
  .join("\n")}

Start here:
  ${cee} train --data reviews.csv --out model     a model of your own
  ${cee} predict ./model "a text"                 what it answers, and after how many layers
  ${cee} new strategy margin                      a strategy of your own, with its test
  ${cee} bench glue                               methods compared on small generated tasks, in minutes
  ${cee} <command> --help                         a command's options, with examples
  ${cee} --version                                the version of this program

Results go to standard output, everything else to standard error: on a terminal a line that shows progress, in a pipe only
what is said at the start and of each finished part. CEE_DEBUG=1 prints where an error comes from. Exit codes: 0 done, 1
something failed, 2 the command line was wrong, 130 stopped by Ctrl-C.
`;

const isHelp = (word: string | undefined) => word === "--help" || word === "-h" || word === "help";

/** Runs one command; returns the exit code. @throws what the command throws */
export async function cee(
  words: readonly string[],
  names: ProgramNames = { cee: "cee", bench: "cee bench" },
): Promise<number> {
  const [first, ...rest] = words;
  if (first === undefined) {
    process.stderr.write(overview(names));
    return 2;
  }
  if (isHelp(first)) {
    const [command, ...more] = rest.filter((word) => !isHelp(word));
    if (command !== undefined) return cee([command, ...more, "--help"], names);
    process.stdout.write(overview(names));
    return 0;
  }
  if (first === "--version") {
    // One folder up from here, and from what is built.
    const { version } = createRequire(import.meta.url)("../package.json") as { version: string };
    process.stdout.write(`${version}\n`);
    return 0;
  }
  const command = Object.hasOwn(commands, first) ? commands[first] : undefined;
  if (command) return command.run(rest, names);
  const problem = first.startsWith("-")
    ? `expected a command before the options. Try: ${names.cee} --help`
    : `there is no such command. ${suggestNames(first, Object.keys(commands))}`;
  throw new BenchError("UNKNOWN_OPTION", first, problem);
}

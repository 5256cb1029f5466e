/** @file The program `cee`: the benchmarks, pre-training and export. What a command needs is loaded when it runs. */
import { main } from "./cli.js";
import { BenchError, suggestNames } from "./errors.js";

export { runMain } from "./cli.js";

/** What to call the program and its benchmarks in what a reader may copy. */
export interface ProgramNames {
  readonly cee: string;
  readonly bench: string;
}

const overview = ({ cee }: ProgramNames) => `Usage: ${cee} <command> [options]

Early exit for language models.

Commands:
  bench glue       train and compare methods on GLUE-like tasks; ends with a table, a report and results.json
  bench paper      Table 3 with the paper's other tables and figures, in one run
  bench replay     count how many operating points a second are replayed from one record
  bench engine     time compiled training and inference against TensorFlow.js and PyTorch
  bench report     make the report of an earlier run again
  pretrain         pre-train an encoder on text files
  export           write a model with exits as one ONNX file, its exits inside

${cee} <command> --help shows a command's options. CEE_DEBUG=1 prints where an error comes from.
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
  if (first === "bench") return main(rest, names.bench);
  if (first === "pretrain") {
    const { pretrainCommand } = await import("./commands/pretrain.js");
    return pretrainCommand(rest);
  }
  if (first === "export") {
    const { exportCommand } = await import("./commands/export.js");
    return exportCommand(rest);
  }
  const problem = first.startsWith("-")
    ? `expected a command before the options. Try: ${names.cee} --help`
    : `there is no such command. ${suggestNames(first, ["bench", "pretrain", "export"])}`;
  throw new BenchError("UNKNOWN_OPTION", first, problem);
}

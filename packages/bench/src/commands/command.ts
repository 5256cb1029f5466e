/** @file What a command of `cee` is, and how one is run. */
import { type Grammar, parseArgs } from "../arguments.js";
import type { Args } from "../glue/options.js";

export interface CeeCommand extends Grammar {
  /** @param cee what the program is called, for what a reader may copy */
  help(cee: string): string;
  /** Returns the exit code. @throws BenchError and what the packages throw */
  run(args: Args, cee: string): Promise<number>;
}

/** Runs a command on the words that follow its name. @throws what the command throws */
export async function runCommand(
  command: CeeCommand,
  words: readonly string[],
  cee: string,
): Promise<number> {
  // After `--` everything is an operand.
  const end = words.indexOf("--");
  const options = end < 0 ? words : words.slice(0, end);
  if (options.some((word) => word === "--help" || word === "-h")) {
    process.stdout.write(command.help(cee));
    return 0;
  }
  return command.run(parseArgs(words, command), cee);
}

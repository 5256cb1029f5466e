/** @file Splits the words of a command line; what the values mean is each command's business. */
import { BenchError } from "./errors.js";
import type { Args } from "./glue/options.js";

/** What the words of a command may be. */
export interface Grammar {
  /** Options without a value. */
  readonly flags: readonly string[];
  /** Options that may be repeated. */
  readonly lists: readonly string[];
  /** Words without dashes that are taken; with `many`, everything after `--` too. @default none */
  readonly operands?: "one" | "many";
}

/** Where operands are kept among options. No option is called that: a name ends at the sign. */
export const OPERANDS = "=";

/** The words without dashes, in their order. */
export function operandsOf(args: Args): readonly string[] {
  return (args[OPERANDS] ?? []) as readonly string[];
}

/** Splits `--name value`, `--name=value`, flags and operands. @throws BenchError `BAD_OPTION` or `UNKNOWN_OPTION` */
export function parseArgs(words: readonly string[], { flags, lists, operands }: Grammar): Args {
  const args: Record<string, string | true | readonly string[]> = {};
  const append = (name: string, value: string) => {
    const before = args[name];
    args[name] = [...(Array.isArray(before) ? before : []), value];
  };
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] as string;
    if (operands === "many") {
      if (word === "--") {
        for (const rest of words.slice(index + 1)) append(OPERANDS, rest);
        break;
      }
      if (!word.startsWith("-") || word === "-") {
        append(OPERANDS, word);
        continue;
      }
    }
    if (!word.startsWith("-") && operands === "one" && args[OPERANDS] === undefined) {
      append(OPERANDS, word);
      continue;
    }
    if (!word.startsWith("--"))
      throw new BenchError(
        "UNKNOWN_OPTION",
        word,
        operands !== "many"
          ? "is not expected here. Options start with --, and lists are written with commas, without spaces."
          : "is not expected here. Options start with --; words that start with a dash are given after --.",
      );
    const at = word.indexOf("=");
    const name = word.slice(2, at < 0 ? undefined : at);
    const given = at < 0 ? undefined : word.slice(at + 1);
    if (flags.includes(name)) {
      if (given !== undefined)
        throw new BenchError("BAD_OPTION", `--${name}`, `takes no value, got "${given}".`);
      args[name] = true;
      continue;
    }
    const next = words[index + 1];
    const value = given ?? (next === undefined || next.startsWith("--") ? undefined : next);
    if (given === undefined && value !== undefined) index += 1;
    if (lists.includes(name)) append(name, value ?? "");
    else if (args[name] !== undefined)
      throw new BenchError("BAD_OPTION", `--${name}`, "is given twice. Give it once, with commas.");
    else args[name] = value ?? true;
  }
  return args;
}

/** A word as a shell takes it. */
export function quote(word: string): string {
  return /^[\w@%+=:,./$-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

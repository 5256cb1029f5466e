/** @file The benchmark's command line: `pnpm bench <what> [options]`. */
import { realpathSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { BenchError, suggestNames } from "./errors.js";
import { parseGlueOptions } from "./glue/options.js";
import { runGlue } from "./glue/run.js";

const help = `Usage: pnpm bench <command> [options]

Commands:
  glue      train and compare early-exit methods; ends with a table, a report and results.json
  engine    time compiled training and inference against TensorFlow.js and PyTorch

pnpm bench glue [options]
  --data <folder|hub>     official GLUE files, or the Hugging Face hub   (default: small generated tasks)
  --tasks <a,b>           such as rte,sst-2                              (default: all there are)
  --methods <a,b>         full, entropy, patience, consistentee, consistentee-vanilla
  --backbone <spec>       fresh:<layers>x<width>, a folder or a hub id   (default: fresh:12x64; real data fresh:12x128)
  --preset <small|paper>  hyper-parameters                               (default: small)
  --seeds <a,b>           one run of everything per seed                 (default: 42)
  --epochs <n>            instead of the preset's
  --limit <n>             training rows per task   --dev-limit <n>  dev rows   --max-length <n>  tokens
  --out <folder>          where everything goes                          (default: runs/<name>)
  --name <name>           runs/<name>
  --resume                go on with an unfinished run in that folder
  --dry-run               list every training with its predicted time, and stop
  --threads <n>   --runtime <onnxruntime-node|onnxruntime-web|eager>   --hub-url <url>

Examples:
  pnpm bench glue
  pnpm bench glue --data ../glue --tasks sst-2,rte --limit 10000
  pnpm bench glue --tasks sentiment --methods full,entropy --seeds 1,2,3
`;

type Args = Record<string, string | boolean | string[]>;

/** Splits `--name value`, `--name=value` and flags. */
export function parseArgs(words: readonly string[]): {
  readonly rest: string[];
  readonly args: Args;
} {
  const flags = new Set(["resume", "dry-run", "help"]);
  const rest: string[] = [];
  const args: Args = {};
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] as string;
    if (word === "-h") args.help = true;
    else if (!word.startsWith("--")) rest.push(word);
    else {
      const [name, given] = splitOnce(word.slice(2), "=");
      if (flags.has(name)) {
        if (given !== undefined)
          throw new BenchError("BAD_OPTION", `--${name}`, "takes no value. Leave it out.");
        args[name] = true;
        continue;
      }
      const next = words[index + 1];
      const value = given ?? (next === undefined || next.startsWith("--") ? undefined : next);
      if (given === undefined && value !== undefined) index += 1;
      if (name in args && name !== "strategy")
        throw new BenchError(
          "BAD_OPTION",
          `--${name}`,
          "is given twice. Give it once, with commas.",
        );
      const before = args[name];
      args[name] =
        name === "strategy" && Array.isArray(before)
          ? [...before, String(value)]
          : name === "strategy"
            ? [String(value)]
            : (value ?? true);
    }
  }
  return { rest, args };
}

function splitOnce(text: string, by: string): readonly [string, string | undefined] {
  const at = text.indexOf(by);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

/** Runs one command; returns the exit code. */
export async function main(words: readonly string[]): Promise<number> {
  const { rest, args } = parseArgs(words);
  const [command, ...extra] = rest;
  if (command === undefined || args.help) {
    process.stdout.write(help);
    return command === undefined && !args.help ? 2 : 0;
  }
  if (extra.length > 0)
    throw new BenchError(
      "UNKNOWN_OPTION",
      extra[0] as string,
      `is not expected after "${command}". Options start with --.`,
    );
  if (command === "glue") {
    const typed = `pnpm bench ${words.join(" ")}`;
    const { table, failures } = await runGlue(parseGlueOptions(args, typed));
    process.stdout.write(`${table}\n`);
    return failures.length > 0 ? 1 : 0;
  }
  throw new BenchError(
    "UNKNOWN_OPTION",
    command,
    `there is no such command. ${suggestNames(command, ["glue", "engine"])}`,
  );
}

const invoked = process.argv[1];
if (invoked !== undefined && import.meta.url === pathToFileURL(realpathSync(invoked)).href)
  main(process.argv.slice(2)).then(
    (code) => {
      process.exitCode = code;
    },
    (cause: unknown) => {
      process.stderr.write(`${cause instanceof Error ? cause.message : String(cause)}\n`);
      process.exitCode = 1;
    },
  );

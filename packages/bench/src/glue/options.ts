/** @file The options of `bench glue`, checked. */
import { existsSync } from "node:fs";
import { BenchError, suggestNames } from "../errors.js";

export interface GlueOptions {
  /** `embedded`, `hub`, or a folder of official GLUE files. */
  readonly data: string;
  /** Empty: every task of the data. */
  readonly tasks: readonly string[];
  /** Empty: every method. */
  readonly methods: readonly string[];
  /** Third-party strategies: names, files or packages. */
  readonly strategies: readonly string[];
  /** `fresh:<layers>x<width>`, a folder, or a hub id. */
  readonly backbone: string | undefined;
  readonly preset: "small" | "paper";
  readonly seeds: readonly number[];
  /** Overrides the preset's epochs of every phase that trains the encoder. */
  readonly epochs: number | undefined;
  /** Row limits, `undefined` for all rows. */
  readonly limit: number | undefined;
  readonly devLimit: number | undefined;
  readonly maxLength: number | undefined;
  readonly out: string;
  readonly resume: boolean;
  readonly dryRun: boolean;
  readonly threads: number | undefined;
  readonly runtime: string | undefined;
  readonly hubUrl: string | undefined;
  /** As typed, for the report. */
  readonly command: string;
}

const known = new Set([
  "data",
  "tasks",
  "methods",
  "strategy",
  "backbone",
  "preset",
  "seeds",
  "seed",
  "epochs",
  "limit",
  "dev-limit",
  "max-length",
  "out",
  "name",
  "resume",
  "dry-run",
  "threads",
  "runtime",
  "hub-url",
  "help",
]);

/**
 * Checks what the command line gave.
 * @throws BenchError `UNKNOWN_OPTION` or `BAD_OPTION`, naming the option
 */
export function parseGlueOptions(
  args: Readonly<Record<string, string | boolean | readonly string[] | undefined>>,
  command: string,
): GlueOptions {
  for (const name of Object.keys(args))
    if (!known.has(name))
      throw new BenchError(
        "UNKNOWN_OPTION",
        `--${name}`,
        `there is no such option. ${suggestNames(name, [...known])}`,
      );
  const text = (name: string): string | undefined => {
    const value = args[name];
    if (value === undefined) return undefined;
    if (typeof value !== "string" || value === "")
      throw new BenchError(
        "BAD_OPTION",
        `--${name}`,
        `expected a value, got ${JSON.stringify(value)}.`,
      );
    return value;
  };
  const whole = (name: string, least: number): number | undefined => {
    const value = text(name);
    if (value === undefined) return undefined;
    const number = Number(value);
    if (!Number.isInteger(number) || number < least)
      throw new BenchError(
        "BAD_OPTION",
        `--${name}`,
        `expected a whole number >= ${least}, got "${value}".`,
      );
    return number;
  };
  const list = (name: string): string[] =>
    (text(name) ?? "")
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "");
  const preset = text("preset") ?? "small";
  if (preset !== "small" && preset !== "paper")
    throw new BenchError("BAD_OPTION", "--preset", `expected small or paper, got "${preset}".`);
  const seeds = [...list("seeds"), ...list("seed")].map((seed) => {
    const number = Number(seed);
    if (!Number.isInteger(number) || number < 0)
      throw new BenchError("BAD_OPTION", "--seeds", `expected whole numbers >= 0, got "${seed}".`);
    return number;
  });
  const data = text("data") ?? "embedded";
  if (data !== "embedded" && data !== "hub" && !existsSync(data))
    throw new BenchError(
      "MISSING_FILE",
      "--data",
      `there is no folder "${data}". Give a folder of GLUE files, "hub", or leave --data out for the embedded tasks.`,
    );
  return {
    data,
    tasks: list("tasks"),
    methods: list("methods"),
    strategies: strategyList(args.strategy),
    backbone: text("backbone"),
    preset,
    seeds: seeds.length > 0 ? [...new Set(seeds)] : [42],
    epochs: whole("epochs", 1),
    limit: whole("limit", 8),
    devLimit: whole("dev-limit", 8),
    maxLength: whole("max-length", 8),
    out: text("out") ?? `runs/${text("name") ?? defaultName(data)}`,
    resume: args.resume === true,
    dryRun: args["dry-run"] === true,
    threads: whole("threads", 1),
    runtime: text("runtime"),
    hubUrl: text("hub-url"),
    command,
  };
}

function strategyList(value: string | boolean | readonly string[] | undefined): string[] {
  if (value === undefined) return [];
  if (typeof value === "boolean")
    throw new BenchError("BAD_OPTION", "--strategy", "expected a name, a file or a package.");
  return (typeof value === "string" ? [value] : [...value]).flatMap((part) => part.split(","));
}

function defaultName(data: string): string {
  return data === "embedded" ? "embedded" : data === "hub" ? "glue-hub" : "glue";
}

/** The names of `wanted` that `available` has, in the order of `available`; all of them when none is wanted. */
export function chooseNames(
  wanted: readonly string[],
  available: readonly string[],
  code: "UNKNOWN_TASK" | "UNKNOWN_METHOD",
  option: string,
): string[] {
  const fold = (name: string) => name.toLowerCase().replaceAll(/[-_\s]/g, "");
  for (const name of wanted)
    if (!available.some((candidate) => fold(candidate) === fold(name)))
      throw new BenchError(code, option, `there is no "${name}". ${suggestNames(name, available)}`);
  return wanted.length === 0
    ? [...available]
    : available.filter((candidate) => wanted.some((name) => fold(name) === fold(candidate)));
}

/** @file The options of `bench glue`, checked before anything is loaded. */
import { existsSync, statSync } from "node:fs";
import { OPERANDS } from "../arguments.js";
import { BenchError, suggestNames } from "../errors.js";

export interface GlueOptions {
  /** `embedded`, `hub`, or a folder of official GLUE files. */
  readonly data: string;
  /** Empty: every task of the data. */
  readonly tasks: readonly string[];
  /** Without names, all embedded tasks instead of the default few. @default false */
  readonly allTasks?: boolean;
  /** Empty: those of the default table, or every method. */
  readonly methods: readonly string[];
  readonly allMethods?: boolean;
  /** Third-party strategies: names, files or packages. */
  readonly strategies: readonly string[];
  /** Their options by name. */
  readonly strategyOptions: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** The exit head of methods that bring none of their own: a name, a file or a package. */
  readonly head: string | undefined;
  /** `fresh:<layers>x<width>`, a folder, or a hub id. */
  readonly backbone: string | undefined;
  readonly preset: "small" | "paper";
  readonly seeds: readonly number[];
  /** Epochs of the training on all exits that methods share, instead of the preset's. */
  readonly epochs: number | undefined;
  /** Factor on the small preset's learning rates. @default by backbone */
  readonly rate?: number | undefined;
  /** Row limits, `undefined` for all rows. */
  readonly limit: number | undefined;
  readonly devLimit: number | undefined;
  readonly maxLength: number | undefined;
  readonly out: string;
  /** Folder of finished cells that outlive the run. */
  readonly cells: string | undefined;
  /** `test` answers the unlabelled test rows as well, into files that the GLUE server takes. */
  readonly split: "dev" | "test";
  readonly resume: boolean;
  readonly dryRun: boolean;
  /** Keep the texts of the rows that the report shows one by one, also of data that is not generated. */
  readonly texts: boolean;
  readonly threads: number | undefined;
  /** Processes that share the tasks and seeds. */
  readonly workers: number | undefined;
  readonly runtime: RuntimeName | undefined;
  readonly hubUrl: string | undefined;
  /** What gives these results again, for the report: as typed, without `--resume`. */
  readonly command: string;
}

/** What the command line was split into. */
export type Args = Readonly<Record<string, string | true | readonly string[] | undefined>>;

const runtimes = ["auto", "onnxruntime-node", "onnxruntime-web", "eager"] as const;
export type RuntimeName = (typeof runtimes)[number];
const presets = ["small", "paper"] as const;

/** Options without a value. */
export const glueFlags: readonly string[] = ["resume", "dry-run", "texts", "json"];
/** Options that may be given several times. */
export const glueLists: readonly string[] = ["strategy"];

const known: readonly string[] = [
  "data",
  "tasks",
  "methods",
  "strategy",
  "strategy-options",
  "head",
  "backbone",
  "preset",
  "seeds",
  "seed",
  "epochs",
  "rate",
  "limit",
  "dev-limit",
  "max-length",
  "out",
  "name",
  "cells",
  "split",
  "threads",
  "workers",
  "runtime",
  "hub-url",
  ...glueFlags,
];

/** Where commands that share these options differ. */
export interface CommandDefaults {
  /** Of the run. @default by data */
  readonly name?: string;
  /** All embedded tasks instead of a few. @default false */
  readonly allTasks?: boolean;
  /** Every method instead of the default table's. @default false */
  readonly allMethods?: boolean;
}

/**
 * Checks what the command line gave.
 * @throws BenchError `UNKNOWN_OPTION`, `BAD_OPTION`, `MISSING_FILE` or `WRITE_FAILED`, naming the option
 */
export function parseGlueOptions(
  args: Args,
  command: string,
  { name, allTasks = false, allMethods = false }: CommandDefaults = {},
): GlueOptions {
  const read = createReader(args, known);
  const data = read.text("data") ?? "embedded";
  if (data !== "embedded" && data !== "hub") checkDataFolder(data);
  const backbone = read.text("backbone");
  if (backbone !== undefined) checkBackbone(backbone);
  const methods = read.list("methods");
  const preset = read.choice("preset", presets) ?? "small";
  const wantsAll = methods.length === 1 && fold(methods[0] as string) === "all";
  return {
    data,
    tasks: read.list("tasks"),
    allTasks,
    methods: wantsAll ? [] : methods,
    // The paper's preset is there to make its whole table again.
    allMethods: allMethods || wantsAll || preset === "paper",
    strategies: read.list("strategy"),
    strategyOptions: strategyOptionsOf(read.text("strategy-options")),
    head: read.text("head"),
    backbone,
    preset,
    seeds: seedsOf(read),
    epochs: read.whole("epochs", 1),
    rate: rateOf(read, preset),
    limit: read.whole("limit", 8),
    devLimit: read.whole("dev-limit", 8),
    maxLength: read.whole("max-length", 8),
    out: outOf(read, name ?? defaultName(data)),
    cells: cellsOf(read),
    split: read.choice("split", ["dev", "test"] as const) ?? "dev",
    resume: args.resume === true,
    dryRun: args["dry-run"] === true,
    texts: args.texts === true,
    threads: read.whole("threads", 1),
    workers: read.whole("workers", 1),
    runtime: read.choice("runtime", runtimes),
    hubUrl: hubUrlOf(read),
    command,
  };
}

export type OptionReader = ReturnType<typeof createReader>;

/** Typed access to options. @throws BenchError `UNKNOWN_OPTION` for one that is not among `names` */
export function createReader(args: Args, names: readonly string[]) {
  for (const name of Object.keys(args))
    if (name !== OPERANDS && !names.includes(name))
      throw new BenchError(
        "UNKNOWN_OPTION",
        `--${name}`,
        `there is no such option. ${suggestNames(name, names, (known) => `--${known}`)}`,
      );
  const bad = (name: string, expected: string, found: unknown) =>
    new BenchError(
      "BAD_OPTION",
      `--${name}`,
      `expected ${expected}, got ${found === true ? "nothing" : JSON.stringify(found)}.`,
    );
  const text = (name: string): string | undefined => {
    const value = args[name];
    if (value === undefined) return undefined;
    if (typeof value !== "string" || value === "") throw bad(name, "a value", value);
    return value;
  };
  const number = (name: string, expected: string, fits: (value: number) => boolean) => {
    const value = text(name);
    if (value === undefined) return undefined;
    const parsed = value.trim() === "" ? Number.NaN : Number(value);
    if (!fits(parsed)) throw bad(name, expected, value);
    return parsed;
  };
  return {
    text,
    number,
    whole: (name: string, least: number) =>
      number(
        name,
        `a whole number >= ${least}`,
        (value) => Number.isSafeInteger(value) && value >= least,
      ),
    choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
      const value = text(name);
      if (value === undefined) return undefined;
      const found = choices.find((choice) => choice === value);
      if (found !== undefined) return found;
      throw new BenchError(
        "BAD_OPTION",
        `--${name}`,
        `got "${value}". ${suggestNames(value, choices)}`,
      );
    },
    /** Values separated by commas; empty when the option is not given. */
    list(name: string): string[] {
      const value = args[name];
      if (value === undefined) return [];
      const given: unknown[] = Array.isArray(value) ? value : [value];
      return given.flatMap((part) => {
        const words = typeof part === "string" ? part.split(",").map((word) => word.trim()) : [""];
        if (words.includes("")) throw bad(name, "values separated by commas", part);
        return words;
      });
    },
  };
}

function rateOf(read: OptionReader, preset: GlueOptions["preset"]): number | undefined {
  const rate = read.number("rate", "a number above 0, at most 100", (x) => x > 0 && x <= 100);
  if (rate === undefined || preset === "small") return rate;
  throw new BenchError(
    "BAD_OPTION",
    "--rate",
    "is a factor on the small preset's learning rates; those of --preset paper are the published ones. Leave one of the two out.",
  );
}

function seedsOf(read: OptionReader): readonly number[] {
  const seeds = [...read.list("seeds"), ...read.list("seed")].map((seed) => {
    if (!/^\d{1,9}$/.test(seed))
      throw new BenchError(
        "BAD_OPTION",
        "--seeds",
        `expected whole numbers from 0 to 999999999, got "${seed}".`,
      );
    return Number(seed);
  });
  return seeds.length > 0 ? [...new Set(seeds)] : [42];
}

function outOf(read: OptionReader, otherwise: string): string {
  const [out, name] = [read.text("out"), read.text("name")];
  if (out !== undefined && name !== undefined)
    throw new BenchError(
      "BAD_OPTION",
      "--name",
      `--out ${out} already says where the run goes. Leave one of them out.`,
    );
  if (name !== undefined && !/^[\w-][\w.-]*$/.test(name))
    throw new BenchError(
      "BAD_OPTION",
      "--name",
      `expected letters, digits, ".", "-" or "_", got "${name}". A folder elsewhere is given with --out.`,
    );
  const folder = out ?? `runs/${name ?? otherwise}`;
  refuseFile("WRITE_FAILED", out === undefined ? "--name" : "--out", folder);
  return folder;
}

function cellsOf(read: OptionReader): string | undefined {
  const folder = read.text("cells");
  if (folder !== undefined) refuseFile("BAD_OPTION", "--cells", folder);
  return folder;
}

/** @throws BenchError with that code where a folder that is to be written to is a file */
function refuseFile(code: "BAD_OPTION" | "WRITE_FAILED", option: string, folder: string): void {
  // Not `throwIfNoEntry`, which still throws for a path below a file.
  if (existsSync(folder) && statSync(folder).isFile())
    throw new BenchError(code, option, `${folder} is a file. Name a folder.`);
}

function defaultName(data: string): string {
  return data === "embedded" ? "embedded" : data === "hub" ? "glue-hub" : "glue";
}

/** `{ "name": { option: value } }` as JSON. @throws BenchError `BAD_OPTION` */
export function strategyOptionsOf(text: string | undefined): GlueOptions["strategyOptions"] {
  if (text === undefined) return {};
  const isObject = (value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // Refused below, with what was given.
  }
  if (isObject(json) && Object.values(json as object).every(isObject))
    return json as GlueOptions["strategyOptions"];
  throw new BenchError(
    "BAD_OPTION",
    "--strategy-options",
    `expected JSON with an object per strategy, such as '{"my-rule": {"margin": 0.4}}', got "${text.slice(0, 200)}".`,
  );
}

/** @throws BenchError `BAD_OPTION` where there are options of a strategy that is not among `names` */
export function checkStrategyOptions(
  options: GlueOptions["strategyOptions"],
  names: readonly string[],
  advise: (name: string) => string = (name) => suggestNames(name, names),
): void {
  for (const name of Object.keys(options))
    if (!names.includes(name))
      throw new BenchError(
        "BAD_OPTION",
        "--strategy-options",
        `no strategy of this run that takes options is called "${name}". ${advise(name)}`,
      );
}

function hubUrlOf(read: OptionReader): string | undefined {
  const url = read.text("hub-url");
  if (url !== undefined && !/^https?:\/\/[^/]/.test(url))
    throw new BenchError("BAD_OPTION", "--hub-url", `expected an http(s) address, got "${url}".`);
  return url;
}

function checkDataFolder(data: string): void {
  const found = existsSync(data) ? statSync(data) : undefined;
  if (found?.isDirectory()) return;
  const what = found ? `"${data}" is a file` : `there is no folder "${data}"`;
  throw new BenchError(
    "MISSING_FILE",
    "--data",
    `${what}. Give a folder of GLUE files, "hub", or leave --data out for the embedded tasks.`,
  );
}

/** What `--backbone` calls the encoder of `@cee/model-mini`. */
export const MINI = "mini";

/** A fresh encoder's sizes, or the folder whose configuration and tokenizer it takes. */
export type FreshBackbone =
  | { readonly depth: number; readonly hidden: number }
  /** A folder, or {@link MINI}. */
  | { readonly like: string };

/** @throws BenchError `BAD_OPTION` */
export function parseFresh(spec: string): FreshBackbone {
  const like = spec.slice("fresh:".length);
  if (spec.startsWith("fresh:") && (like === MINI || existsSync(like))) return { like };
  const match = /^fresh:(\d{1,3})x(\d{1,5})$/.exec(spec);
  const [depth, hidden] = [Number(match?.[1]), Number(match?.[2])];
  if (match && depth >= 2 && hidden >= 8 && hidden % 8 === 0) return { depth, hidden };
  throw new BenchError(
    "BAD_OPTION",
    "--backbone",
    `expected fresh:<layers>x<width> with at least 2 layers and a width divisible by 8, such as fresh:12x128, or fresh:mini, or fresh:<folder> with the folder of a model, got "${spec}".`,
  );
}

/** @throws BenchError `BAD_OPTION` for what can be neither sizes, nor a folder, nor a model's name */
export function checkBackbone(spec: string): void {
  if (spec.startsWith("fresh")) parseFresh(spec);
  else if (spec !== MINI && !existsSync(spec) && !/^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/.test(spec))
    throw new BenchError(
      "BAD_OPTION",
      "--backbone",
      `there is no folder "${spec}", and it is no model name either. Give mini, fresh:<layers>x<width>, a folder, or a name such as "owner/model".`,
    );
}

/** The names of `wanted` that `available` has, in the order of `available`; all of them when none is wanted. */
export function chooseNames(
  wanted: readonly string[],
  available: readonly string[],
  code: "UNKNOWN_TASK" | "UNKNOWN_METHOD",
  option: string,
  advise: (name: string) => string = () => "",
): string[] {
  for (const name of wanted)
    if (!available.some((candidate) => fold(candidate) === fold(name)))
      throw new BenchError(
        code,
        option,
        `there is no "${name}". ${advise(name) || suggestNames(name, available)}`,
      );
  return wanted.length === 0
    ? [...available]
    : available.filter((candidate) => wanted.some((name) => fold(name) === fold(candidate)));
}

/** Names that differ in case, dashes and underscores only are the same. */
export function fold(name: string): string {
  return name.toLowerCase().replaceAll(/[-_\s]/g, "");
}

/** A path below `$CEE_DATA_DIR` is written with that name, so that a command holds on other machines too. */
export function maskDataFolder(word: string, folder: string | undefined): string {
  const root = folder?.replace(/\/+$/, "");
  if (!root) return word;
  const [option = "", value = word] = word.startsWith("--data=") ? ["--data=", word.slice(7)] : [];
  return value === root || value.startsWith(`${root}/`)
    ? `${option}$CEE_DATA_DIR${value.slice(root.length)}`
    : word;
}

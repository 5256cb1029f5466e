/** @file The options of `bench generation`, checked before anything is loaded. */
import { existsSync, statSync } from "node:fs";
import { BenchError } from "../errors.js";
import { type Args, chooseNames, createReader } from "../glue/options.js";

export interface GenerationOptions {
  /** `embedded`, or a folder with Alpaca, Dolly and CNN/DailyMail files. */
  readonly data: string;
  /** Empty: every task. */
  readonly tasks: readonly string[];
  readonly methods: readonly GenerationMethod[];
  /** `fresh:<layers>x<width>`, a model's folder, a llama2.c file, or a preset of sizes for `--dry-run`. */
  readonly backbone: string | undefined;
  readonly preset: "small" | "paper";
  readonly seed: number;
  readonly epochs: number | undefined;
  /** Rows to train on. */
  readonly limit: number | undefined;
  /** Prompts to decode, of each task. */
  readonly prompts: number | undefined;
  /** Tokens per training text. */
  readonly maxLength: number | undefined;
  readonly maxNewTokens: number | undefined;
  readonly lossOn: "response" | "all" | undefined;
  readonly lora: boolean;
  readonly heads: "per-layer" | "shared";
  readonly keyValues: "copy" | "recompute" | "verify";
  /** Encoder for BERTScore: a folder. */
  readonly encoder: string | undefined;
  readonly out: string;
  readonly resume: boolean;
  readonly dryRun: boolean;
  readonly threads: number | undefined;
  readonly command: string;
}

export const generationMethods = [
  "full",
  "calm",
  "calm-state",
  "calm-meta",
  "consistentee",
  "free",
  "self-speculative",
] as const;
export type GenerationMethod = (typeof generationMethods)[number];
const DEFAULT_METHODS: readonly GenerationMethod[] = ["full", "calm", "calm-state", "consistentee"];

/** Options without a value. */
export const generationFlags: readonly string[] = ["resume", "dry-run", "lora", "json"];

const known: readonly string[] = [
  "data",
  "tasks",
  "methods",
  "backbone",
  "preset",
  "seed",
  "epochs",
  "limit",
  "prompts",
  "max-length",
  "max-new-tokens",
  "loss-on",
  "heads",
  "key-values",
  "encoder",
  "out",
  "threads",
  ...generationFlags,
];

/** @throws BenchError `UNKNOWN_OPTION`, `BAD_OPTION`, `UNKNOWN_METHOD`, `MISSING_FILE`, naming the option */
export function parseGenerationOptions(args: Args, command: string): GenerationOptions {
  const read = createReader(args, known);
  const data = read.text("data") ?? "embedded";
  if (data !== "embedded" && !(existsSync(data) && statSync(data).isDirectory()))
    throw new BenchError(
      "MISSING_FILE",
      "--data",
      `there is no folder "${data}". Give the folder of the files, or leave --data out for the generated texts.`,
    );
  const encoder = read.text("encoder");
  if (encoder !== undefined && !existsSync(encoder))
    throw new BenchError("MISSING_FILE", "--encoder", `there is no folder "${encoder}".`);
  const wanted = read.list("methods");
  const isAll = wanted.length === 1 && wanted[0] === "all";
  const methods = (
    wanted.length === 0
      ? DEFAULT_METHODS
      : chooseNames(isAll ? [] : wanted, generationMethods, "UNKNOWN_METHOD", "--methods")
  ) as readonly GenerationMethod[];
  const dryRun = args["dry-run"] === true;
  const backbone = read.text("backbone");
  if (backbone !== undefined) checkBackbone(backbone, dryRun);
  const out = read.text("out") ?? `runs/generation${data === "embedded" ? "" : "-files"}`;
  if (existsSync(out) && !statSync(out).isDirectory())
    throw new BenchError("WRITE_FAILED", "--out", `${out} is a file. Name a folder.`);
  return {
    data,
    tasks: read.list("tasks"),
    methods: methods.includes("full") ? methods : ["full", ...methods],
    backbone,
    preset: read.choice("preset", ["small", "paper"] as const) ?? "small",
    seed: read.whole("seed", 0) ?? 42,
    epochs: read.whole("epochs", 1),
    limit: read.whole("limit", 8),
    prompts: read.whole("prompts", 2),
    maxLength: read.whole("max-length", 8),
    maxNewTokens: read.whole("max-new-tokens", 2),
    lossOn: read.choice("loss-on", ["response", "all"] as const),
    lora: args.lora === true,
    heads: read.choice("heads", ["per-layer", "shared"] as const) ?? "per-layer",
    keyValues: read.choice("key-values", ["copy", "recompute", "verify"] as const) ?? "copy",
    encoder,
    out,
    resume: args.resume === true,
    dryRun,
    threads: read.whole("threads", 1),
    command,
  };
}

/** Sizes of published models, for `--dry-run`. */
export const modelSizes = {
  "llama-7b": { hidden: 4096, depth: 32, heads: 32, intermediate: 11_008 },
  "llama-13b": { hidden: 5120, depth: 40, heads: 40, intermediate: 13_824 },
} as const;

export function isModelSize(spec: string): spec is keyof typeof modelSizes {
  return Object.hasOwn(modelSizes, spec);
}

/** @throws BenchError `BAD_OPTION` */
export function parseFreshDecoder(
  spec: string,
): { readonly depth: number; readonly hidden: number } | undefined {
  const match = /^fresh:(\d{1,3})x(\d{1,5})$/.exec(spec);
  const [depth, hidden] = [Number(match?.[1]), Number(match?.[2])];
  return match && depth >= 2 && hidden >= 16 && hidden % 16 === 0 ? { depth, hidden } : undefined;
}

function checkBackbone(spec: string, dryRun: boolean): void {
  if (isModelSize(spec)) {
    if (dryRun) return;
    throw new BenchError(
      "BAD_OPTION",
      "--backbone",
      `${spec} names sizes only. Add --dry-run, or give the folder of a model of that size.`,
    );
  }
  if (parseFreshDecoder(spec) || existsSync(spec)) return;
  throw new BenchError(
    "BAD_OPTION",
    "--backbone",
    `expected fresh:<layers>x<width> with at least 2 layers and a width divisible by 16, a model's folder, a llama2.c file, or ${Object.keys(modelSizes).join(" or ")} with --dry-run, got "${spec}".`,
  );
}

/** @file The options of `bench speed`, checked before anything is loaded. */
import { BenchError, suggestNames } from "../errors.js";
import { type Args, createReader, type RuntimeName } from "../glue/options.js";

export const speedParts = [
  "depths",
  "mixed",
  "decide",
  "full",
  "throughput",
  "trained",
  "memory",
] as const;
export type SpeedPartName = (typeof speedParts)[number];

export interface SpeedOptions {
  readonly widths: readonly number[];
  readonly depth: number;
  readonly length: number;
  readonly vocabulary: number;
  readonly threads: number | undefined;
  readonly runtime: RuntimeName | undefined;
  readonly rounds: number;
  readonly batches: readonly number[];
  readonly parts: readonly SpeedPartName[];
  /** Folder of official GLUE files; `undefined` for generated sentences. */
  readonly data: string | undefined;
  /** Training rows of the trained strategy. */
  readonly limit: number | undefined;
  /** Of the trained strategy. */
  readonly backbone: string;
  readonly requests: number;
  /** Memory is looked at after the first and after the last of them. */
  readonly calls: readonly [number, number];
  readonly seed: number;
  readonly torch: boolean;
  readonly transformers: boolean;
  readonly out: string;
  readonly resume: boolean;
  readonly command: string;
}

export const speedFlags: readonly string[] = [
  "no-torch",
  "no-transformers",
  "check",
  "resume",
  "json",
];
const known = [
  "widths",
  "depth",
  "length",
  "vocabulary",
  "threads",
  "runtime",
  "rounds",
  "batches",
  "parts",
  "data",
  "limit",
  "backbone",
  "requests",
  "calls",
  "seed",
  "out",
  ...speedFlags,
];

/** @throws BenchError `UNKNOWN_OPTION`, `BAD_OPTION` */
export function parseSpeedOptions(args: Args, command: string): SpeedOptions {
  const read = createReader(args, known);
  const numbers = (name: string, otherwise: readonly number[], least: number) => {
    const given = read.list(name).map((text) => {
      const value = Number(text);
      if (Number.isSafeInteger(value) && value >= least) return value;
      throw new BenchError(
        "BAD_OPTION",
        `--${name}`,
        `expected whole numbers >= ${least}, got "${text}".`,
      );
    });
    return given.length > 0 ? given : otherwise;
  };
  const parts = read.list("parts").map((part) => {
    const found = speedParts.find((name) => name === part);
    if (found) return found;
    throw new BenchError(
      "BAD_OPTION",
      "--parts",
      `got "${part}". ${suggestNames(part, speedParts)}`,
    );
  });
  const depth = read.whole("depth", 2) ?? 12;
  const length = read.whole("length", 4) ?? 64;
  if (length <= depth)
    throw new BenchError(
      "BAD_OPTION",
      "--length",
      `must be more than the ${depth} layers, whose exits are forced by the number of tokens, got ${length}.`,
    );
  const [from, to] = numbers("calls", [10_000, 100_000], 1) as [number, number | undefined];
  if (to === undefined || to <= from)
    throw new BenchError(
      "BAD_OPTION",
      "--calls",
      "expected two numbers of calls, the larger last.",
    );
  return {
    widths: numbers("widths", [128, 384, 768], 16),
    depth,
    length,
    vocabulary: read.whole("vocabulary", 256) ?? 30_522,
    threads: read.whole("threads", 1),
    runtime: read.choice("runtime", ["onnxruntime-node", "onnxruntime-web"] as const),
    rounds: read.whole("rounds", 3) ?? 30,
    batches: numbers("batches", [1, 4, 16, 32], 1),
    parts: parts.length > 0 ? parts : speedParts,
    data: read.text("data"),
    limit: read.whole("limit", 64),
    backbone: read.text("backbone") ?? "fresh:12x128",
    requests: read.whole("requests", 20) ?? 400,
    calls: [from, to],
    seed: read.whole("seed", 0) ?? 42,
    torch: args["no-torch"] !== true,
    transformers: args["no-transformers"] !== true,
    out: read.text("out") ?? "runs/speed",
    resume: args.resume === true,
    command,
  };
}

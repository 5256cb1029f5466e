/** @file What threshold selection chose, on which rows and with which guarantee; stored with the model. T = layers. */
import { createHash } from "node:crypto";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ExitStrategy, LatencySelection, RiskSelection } from "@cee/exit-policies";
import { ConsistentEEError } from "./errors.js";

export const OPERATING_POINT_FILE = "operating-point.json";
const FORMAT = 1;

export interface OperatingPoint {
  /** The strategy as it was configured by the choice. */
  readonly strategy: { readonly name: string; readonly options: Readonly<Record<string, unknown>> };
  /** `null` for a strategy without a knob, and at full depth. */
  readonly knob: { readonly name: string; readonly value: number } | null;
  /** Nothing may leave early. */
  readonly isFullDepth: boolean;
  /** The choice and its reason in words. */
  readonly note: string;
  readonly guarantee: RiskGuarantee | LatencyPrediction;
  /** The held-out rows. */
  readonly data: { readonly rows: number; readonly sha256: string };
  /** Held-out rows that left at layer 1, …, L, shape `[T]`: what drift is measured against. */
  readonly exits: readonly number[];
}

/** Distribution-free: holds for rows drawn like the held-out ones. */
export interface RiskGuarantee
  extends Pick<RiskSelection, "maxLoss" | "confidence" | "loss" | "rowsNeeded" | "tested"> {
  readonly kind: "risk";
}

/** A prediction for single requests on the machine that measured it, not a guarantee. */
export interface LatencyPrediction
  extends Pick<LatencySelection, "p95Ms" | "predictedP95Ms" | "isMet" | "candidates"> {
  readonly kind: "latency";
  readonly machine: { readonly processor: string; readonly threads: number };
}

/** Reads the file. @throws ConsistentEEError `BAD_FILE`, `MODEL_MISMATCH` when it belongs to another save */
export async function readOperatingPoint(
  folder: string,
  boundTo: readonly string[],
): Promise<OperatingPoint | undefined> {
  const path = join(folder, OPERATING_POINT_FILE);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw badFile(path, `could not be read: ${(cause as Error).message}.`, cause);
  }
  let stored: Partial<OperatingPoint> & { readonly format?: unknown; readonly boundTo?: unknown };
  try {
    stored = Object(JSON.parse(text));
  } catch (cause) {
    throw badFile(path, `must be JSON, got ${(cause as Error).message}.`, cause);
  }
  if (stored.format !== FORMAT)
    throw badFile(path, `format must be ${FORMAT}, got ${JSON.stringify(stored.format)}.`);
  if (stored.boundTo !== (await bindingOf(folder, boundTo)))
    throw new ConsistentEEError(
      "MODEL_MISMATCH",
      path,
      "was chosen for another model or strategy than this folder holds, so its guarantee means nothing here. Delete it, or select and save again.",
    );
  const { strategy, knob, isFullDepth, note, guarantee, data, exits } = stored;
  const checks: Readonly<Record<string, boolean>> = {
    strategy: typeof strategy?.name === "string" && isRecord(strategy.options),
    knob:
      knob === null || (typeof knob?.name === "string" && Number.isFinite(knob.value as number)),
    isFullDepth: typeof isFullDepth === "boolean",
    note: typeof note === "string",
    guarantee: guarantee?.kind === "risk" || guarantee?.kind === "latency",
    data: Number.isInteger(data?.rows) && typeof data?.sha256 === "string",
    exits: Array.isArray(exits) && exits.every((count) => Number.isInteger(count) && count >= 0),
  };
  for (const [name, isGood] of Object.entries(checks))
    if (!isGood)
      throw badFile(
        path,
        `${name} is missing or wrong, got ${JSON.stringify(stored[name as keyof OperatingPoint])}.`,
      );
  return { strategy, knob, isFullDepth, note, guarantee, data, exits } as OperatingPoint;
}

/** Writes the file last: it names what the others held when they were written. */
export async function writeOperatingPoint(
  folder: string,
  point: OperatingPoint,
  boundTo: readonly string[],
): Promise<void> {
  const content = { format: FORMAT, ...point, boundTo: await bindingOf(folder, boundTo) };
  const path = join(folder, OPERATING_POINT_FILE);
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, `${JSON.stringify(content, undefined, 2)}\n`);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw badFile(path, `could not be written: ${(cause as Error).message}.`, cause);
  }
}

/** Whether a point was chosen for a strategy configured like this one. */
export function isFor(point: OperatingPoint, { name, options }: ExitStrategy): boolean {
  return (
    point.strategy.name === name &&
    JSON.stringify(sorted(point.strategy.options)) === JSON.stringify(sorted(options))
  );
}

/** Digest of the held-out rows, in their order. */
export function digestOf(rows: readonly unknown[]): string {
  const hash = createHash("sha256");
  for (const row of rows) hash.update(`${JSON.stringify(row)}\n`);
  return hash.digest("hex");
}

async function bindingOf(folder: string, files: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const file of files) hash.update(await readFile(join(folder, file)));
  return hash.digest("hex");
}

function sorted(options: Readonly<Record<string, unknown>>): unknown {
  return Object.entries(options).sort(([a], [b]) => (a < b ? -1 : 1));
}

function isRecord(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function badFile(path: string, message: string, cause?: unknown): ConsistentEEError {
  return new ConsistentEEError(
    "BAD_FILE",
    path,
    `${message} Select and save again.`,
    cause === undefined ? undefined : { cause },
  );
}

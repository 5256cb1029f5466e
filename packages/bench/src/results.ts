/** @file `results.json`: what a run leaves behind. Names are fixed; later versions only add fields. */
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { BenchError } from "./errors.js";

export type OperatingPoint = "full" | "no-loss" | "one-percent" | "curve";
export const operatingPoints: readonly OperatingPoint[] = [
  "full",
  "no-loss",
  "one-percent",
  "curve",
];

export interface Knob {
  readonly name: string;
  readonly value: number;
}

export interface ResultRow {
  readonly task: string;
  readonly method: string;
  readonly seed: number;
  readonly split: string;
  readonly metric: string;
  /** A fraction, also for percentages. */
  readonly score: number;
  /** The same model's score at full depth. */
  readonly fullScore: number;
  readonly operatingPoint: OperatingPoint;
  readonly knob: Knob | null;
  readonly options: Readonly<Record<string, unknown>>;
  /** This and the next three are null where a method has no exit layer. */
  readonly layers: number | null;
  readonly meanExitLayer: number | null;
  /** 1 - meanExitLayer / layers */
  readonly savedLayers: number | null;
  /** layers / meanExitLayer */
  readonly speedup: number | null;
  /** 1 - time / full-depth time; null on curve rows. */
  readonly savedRuntime: number | null;
  /** Rows that left at layer 1, …, at layer L. */
  readonly exitHistogram: readonly number[] | null;
  readonly n: number;
  /** Further scores by metric name. */
  readonly scores?: Readonly<Record<string, number>>;
  /** Rows that left at each layer, by the hardness of generated rows or by class name. */
  readonly exitHistogramBy?: Readonly<Record<string, readonly number[]>>;
  /** The same rule, chosen on one half of the rows and reported on the other. */
  readonly heldOut?: HeldOutFields;
}

/** What the point chosen on one half of the rows gave on the other half. */
export interface HeldOutFields {
  readonly knob: Knob | null;
  /** Rows that are reported. */
  readonly n: number;
  readonly score: number;
  readonly fullScore: number;
  readonly balancedAccuracy: number | null;
  readonly meanExitLayer: number | null;
  readonly savedLayers: number | null;
  /** 1 - score / fullScore */
  readonly relativeLoss: number;
  /** Of score - fullScore, by paired bootstrap. */
  readonly standardError: number;
}

export interface Results {
  readonly schema: 1;
  /** The exact command line. */
  readonly command: string;
  readonly preset: string;
  readonly backbone: unknown;
  readonly data: {
    readonly source: "embedded" | "folder" | "hub";
    readonly [key: string]: unknown;
  };
  readonly rows: readonly ResultRow[];
  /** Package, Node and runtime versions. */
  readonly versions?: Readonly<Record<string, string>>;
  /** Processor, threads. */
  readonly machine?: Readonly<Record<string, string | number>>;
  /** Cells that have no rows because something went wrong. */
  readonly failures?: readonly Failure[];
  /** Cells that have no rows because the method is not made for the task. */
  readonly leftOut?: readonly LeftOut[];
}

/** A method on a task with a seed that ended with an error. */
export interface Failure {
  readonly task: string;
  readonly method: string;
  readonly seed: number;
  readonly message: string;
}

/** A method that cannot do a task, and why. */
export interface LeftOut {
  readonly task: string;
  readonly method: string;
  readonly seed: number;
  readonly reason: string;
}

export interface LayerFields {
  readonly layers: number | null;
  readonly meanExitLayer: number | null;
  readonly savedLayers: number | null;
  readonly speedup: number | null;
  readonly exitHistogram: readonly number[] | null;
}

/** The layer fields of a row from the exit layer of every instance; all null where there are none. */
export function layerFields(exitLayers: ArrayLike<number> | null, layers: number): LayerFields {
  if (exitLayers === null) {
    return {
      layers: null,
      meanExitLayer: null,
      savedLayers: null,
      speedup: null,
      exitHistogram: null,
    };
  }
  const exitHistogram = countExits(exitLayers, layers);
  const n = exitLayers.length;
  const meanExitLayer =
    exitHistogram.reduce((sum, count, index) => sum + count * (index + 1), 0) / n;
  return {
    layers,
    meanExitLayer,
    savedLayers: 1 - meanExitLayer / layers,
    speedup: layers / meanExitLayer,
    exitHistogram,
  };
}

/** Counts exits per layer, from layer 1. @throws BenchError `BAD_INPUT` for a layer outside 1..layers */
export function countExits(exitLayers: ArrayLike<number>, layers: number): number[] {
  const counts = new Array<number>(layers).fill(0);
  if (exitLayers.length === 0) {
    throw new BenchError("BAD_INPUT", "exits", "expected at least one row, got none.");
  }
  for (let row = 0; row < exitLayers.length; row++) {
    const layer = exitLayers[row]!;
    if (!Number.isInteger(layer) || layer < 1 || layer > layers) {
      const message = `expected exit layers from 1 to ${layers}, got ${layer} at row ${row}.`;
      throw new BenchError("BAD_INPUT", "exits", message);
    }
    counts[layer - 1]!++;
  }
  return counts;
}

/** Exits per layer of each group of rows; groups in order of first appearance. */
export function countExitsBy(
  exitLayers: ArrayLike<number>,
  layers: number,
  groups: readonly string[],
): Record<string, number[]> {
  const rowsByGroup = new Map<string, number[]>();
  for (const [row, group] of groups.entries()) {
    const exits = rowsByGroup.get(group) ?? [];
    exits.push(exitLayers[row]!);
    rowsByGroup.set(group, exits);
  }
  return Object.fromEntries(
    [...rowsByGroup].map(([group, exits]) => [group, countExits(exits, layers)]),
  );
}

/** A measured share of time to three digits: more would be noise. */
export function roundTime(value: number | null): number | null {
  return value === null ? null : Math.round(value * 1000) / 1000;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Rows in an order that does not depend on when they were finished. */
export function sortRows(rows: readonly ResultRow[]): ResultRow[] {
  return [...rows].sort(
    (a, b) =>
      compareText(a.task, b.task) ||
      compareText(a.method, b.method) ||
      a.seed - b.seed ||
      compareText(a.split, b.split) ||
      compareText(a.metric, b.metric) ||
      operatingPoints.indexOf(a.operatingPoint) - operatingPoints.indexOf(b.operatingPoint) ||
      compareText(a.knob?.name ?? "", b.knob?.name ?? "") ||
      (a.knob?.value ?? 0) - (b.knob?.value ?? 0) ||
      compareText(JSON.stringify(a.options), JSON.stringify(b.options)),
  );
}

/** Writes the file whole or not at all; rows are sorted and times rounded. */
export async function writeResults(file: string, results: Results): Promise<void> {
  const rows = sortRows(results.rows).map((row) => ({
    ...row,
    savedRuntime: roundTime(row.savedRuntime),
  }));
  const checked = validateResults({ ...results, rows }, file);
  await writeFileWhole(file, `${JSON.stringify(checked, null, 2)}\n`);
}

/** @throws BenchError `MISSING_FILE` or `BAD_RESULTS` */
export async function readResults(file: string): Promise<Results> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new BenchError("MISSING_FILE", file, `can't be read: ${(cause as Error).message}.`, {
      cause,
    });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    const message = `expected JSON, got ${text.length} characters that don't parse. The file is damaged: run again.`;
    throw new BenchError("BAD_RESULTS", file, message, { cause });
  }
  return validateResults(json, file);
}

/** Writes under a temporary name beside the file, then renames. @throws BenchError `WRITE_FAILED` */
export async function writeFileWhole(file: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${file}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`;
  try {
    await mkdir(path.dirname(file), { recursive: true });
    const handle = await open(temporary, "w");
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    const message = `can't be written: ${(cause as Error).message}. Free some space or choose another folder.`;
    throw new BenchError("WRITE_FAILED", file, message, { cause });
  }
}

type Check = (value: unknown) => boolean;
const isText: Check = (value) => typeof value === "string";
const isNumber: Check = (value) => typeof value === "number" && Number.isFinite(value);
const isRecord: Check = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isCount: Check = (value) => Number.isInteger(value) && (value as number) >= 0;
const isCounts: Check = (value) => Array.isArray(value) && value.every(isCount);
const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
const orMissing =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);

/** A list of cells by name, each with a text. */
function isCells(field: string): Check {
  return (value) =>
    Array.isArray(value) &&
    value.every(
      (cell) =>
        isRecord(cell) &&
        isText(cell.task) &&
        isText(cell.method) &&
        isNumber(cell.seed) &&
        isText(cell[field]),
    );
}

/** Field, check, and what the check expects. */
type Field = readonly [name: string, check: Check, expected: string];

const rowFields: readonly Field[] = [
  ["task", isText, "text"],
  ["method", isText, "text"],
  ["seed", isNumber, "a number"],
  ["split", isText, "text"],
  ["metric", isText, "text"],
  ["score", isNumber, "a finite number"],
  ["fullScore", isNumber, "a finite number"],
  [
    "operatingPoint",
    (value) => operatingPoints.includes(value as OperatingPoint),
    `one of ${operatingPoints.join(", ")}`,
  ],
  [
    "knob",
    orNull(
      (value) => isRecord(value) && isText((value as Knob).name) && isNumber((value as Knob).value),
    ),
    "null or { name, value }",
  ],
  ["options", isRecord, "an object"],
  ["layers", orNull((value) => isCount(value) && value !== 0), "null or a whole number >= 1"],
  ["meanExitLayer", orNull(isNumber), "null or a number"],
  ["savedLayers", orNull(isNumber), "null or a number"],
  ["speedup", orNull(isNumber), "null or a number"],
  ["savedRuntime", orNull(isNumber), "null or a number"],
  ["exitHistogram", orNull(isCounts), "null or a list of counts"],
  ["n", isCount, "a whole number"],
  [
    "scores",
    orMissing((value) => isRecord(value) && Object.values(value as object).every(isNumber)),
    "numbers by name",
  ],
  [
    "exitHistogramBy",
    orMissing((value) => isRecord(value) && Object.values(value as object).every(isCounts)),
    "lists of counts by name",
  ],
  ["heldOut", orMissing(isRecord), "an object"],
];

const resultFields: readonly Field[] = [
  ["schema", (value) => value === 1, "1"],
  ["command", isText, "text"],
  ["preset", isText, "text"],
  [
    "data",
    (value) =>
      isRecord(value) &&
      ["embedded", "folder", "hub"].includes((value as { source: string }).source),
    "an object whose source is embedded, folder or hub",
  ],
  ["rows", Array.isArray, "a list"],
  ["failures", orMissing(isCells("message")), "a list of { task, method, seed, message }"],
  ["leftOut", orMissing(isCells("reason")), "a list of { task, method, seed, reason }"],
];

/** Checks everything that reading code relies on; unknown fields pass. @throws BenchError `BAD_RESULTS` */
export function validateResults(json: unknown, who = "results"): Results {
  const fail = (where: string, expected: string, found: unknown): never => {
    const shown = JSON.stringify(found) ?? String(found);
    const message = `${where}: expected ${expected}, got ${shown.slice(0, 80)}. Is it a results.json of this project?`;
    throw new BenchError("BAD_RESULTS", who, message);
  };
  const checkFields = (value: unknown, fields: readonly Field[], where: string) => {
    if (!isRecord(value)) fail(where || "the file", "an object", value);
    const record = value as Record<string, unknown>;
    for (const [name, check, expected] of fields) {
      if (!check(record[name])) fail(`${where}${name}`, expected, record[name]);
    }
  };
  checkFields(json, resultFields, "");
  if (!("backbone" in (json as object))) fail("backbone", "a value", undefined);
  for (const [index, row] of (json as Results).rows.entries()) {
    const where = `rows[${index}].`;
    checkFields(row, rowFields, where);
    checkRow(row, (name, expected, found) => fail(where + name, expected, found));
  }
  return json as Results;
}

/** What the fields of one row must agree on. */
function checkRow(
  row: ResultRow,
  fail: (name: string, expected: string, found: unknown) => never,
): void {
  const { layers, meanExitLayer, savedLayers, speedup, exitHistogram, savedRuntime } = row;
  if (row.operatingPoint === "curve" && savedRuntime !== null) {
    fail("savedRuntime", "null on a curve row", savedRuntime);
  }
  const layerValues = { meanExitLayer, savedLayers, speedup, exitHistogram };
  for (const [name, value] of Object.entries(layerValues)) {
    if ((value === null) !== (layers === null)) {
      fail(name, layers === null ? "null, as layers is" : "a value, as layers has one", value);
    }
  }
  if (layers === null || meanExitLayer === null || exitHistogram === null) return;
  if (exitHistogram.length !== layers) {
    fail("exitHistogram", `${layers} counts`, exitHistogram);
  }
  const total = exitHistogram.reduce((sum, count) => sum + count, 0);
  if (total !== row.n) fail("exitHistogram", `counts that add up to n = ${row.n}`, total);
  if (!(meanExitLayer >= 1 && meanExitLayer <= layers)) {
    fail("meanExitLayer", `a number from 1 to ${layers}`, meanExitLayer);
  }
  if (Math.abs(savedLayers! - (1 - meanExitLayer / layers)) > 1e-9) {
    fail("savedLayers", "1 - meanExitLayer / layers", savedLayers);
  }
  if (Math.abs(speedup! - layers / meanExitLayer) > 1e-9) {
    fail("speedup", "layers / meanExitLayer", speedup);
  }
}

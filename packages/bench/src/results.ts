/** @file `results.json`: what a run leaves behind. Names are fixed; later versions only add fields. */
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { BenchError } from "./errors.js";
import { formatJson } from "./format-json.js";
import { listMismatch } from "./results-shapes.js";

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
  /** The least and the most that single rounds of the measurement saved. */
  readonly savedRuntimeRange?: readonly [least: number, most: number];
  /** Rows that left at layer 1, …, at layer L. */
  readonly exitHistogram: readonly number[] | null;
  /** Mean operations per row as a share of full depth's, by the method's cost model; where a method has no exit layer. */
  readonly cost?: number;
  /** Rows; of generated texts, the tokens that exit layers are counted over. */
  readonly n: number;
  /** Texts that scores are means over, where rows are tokens. */
  readonly texts?: number;
  /** Blocks run per generated token, drafts that were dropped included. */
  readonly layersPerToken?: number;
  /** Measured at batch 1, behind each text's first token. */
  readonly tokensPerSecond?: number;
  /** Further scores by metric name. */
  readonly scores?: Readonly<Record<string, number>>;
  /** Rows that left at each layer, by the hardness of generated rows or by class name. */
  readonly exitHistogramBy?: Readonly<Record<string, readonly number[]>>;
  /** Rows of each class that left at each layer, where `exitHistogramBy` is by hardness. */
  readonly exitHistogramByClass?: Readonly<Record<string, readonly number[]>>;
  /** The same rule, chosen on one half of the rows and reported on the other. */
  readonly heldOut?: HeldOutFields;
  /** By paired bootstrap over rows; on full, no-loss and one-percent rows. */
  readonly intervals?: RowIntervals;
  /** Per class, in class order; on full, no-loss and one-percent rows of a classification. */
  readonly perClass?: readonly ClassFields[];
  /** What the rows that left early were answered; on no-loss and one-percent rows of a classification with exit layers. */
  readonly earlyExits?: EarlyExitFields;
}

/** Percentile intervals; every method of a split resamples the same rows. */
export interface RowIntervals {
  /** 0.95 */
  readonly level: number;
  readonly resamples: number;
  readonly score: readonly [low: number, high: number];
  /** Null where the method has no exit layer. */
  readonly meanExitLayer: readonly [low: number, high: number] | null;
  /** Of score - fullScore, with the two-sided bootstrap p-value that it is zero. */
  readonly scoreDifference: { readonly low: number; readonly high: number; readonly p: number };
}

export interface ClassFields {
  readonly label: string;
  /** Rows of this class. */
  readonly n: number;
  /** Share of them that was answered right (recall). */
  readonly accuracy: number;
  /** Rows that were answered with this class. */
  readonly predicted: number;
  /** Of the rows of this class; null where the method has no exit layer. */
  readonly meanExitLayer: number | null;
}

export interface EarlyExitFields {
  /** Rows that left at this layer or before count as early: half the depth, or one below the depth where none did. */
  readonly upTo: number;
  /** Early rows. */
  readonly n: number;
  /** The class that early rows were answered with most often, and its share of them; `""` and 0 without early rows. */
  readonly answer: string;
  readonly share: number;
  /** That class is the most frequent of the data set. */
  readonly isMajority: boolean;
  /** The flag: at least ten rows left early, and (nearly) all of them, 99 %, were answered with the majority class. */
  readonly majorityOnly: boolean;
}

/** Two methods at the same operating point on the same rows. */
export interface Comparison {
  readonly task: string;
  readonly split: string;
  readonly seed: number;
  readonly operatingPoint: "no-loss" | "one-percent";
  readonly first: string;
  readonly second: string;
  /** Score of `first` less that of `second`, by paired bootstrap. */
  readonly scoreDifference: DifferenceFields;
  /** The same of the mean exit layer; null where one of them has none. */
  readonly exitDifference: DifferenceFields | null;
  /** On right and wrong answers, exact; null for a regression. */
  readonly mcNemar: {
    /** Rows that only the first method got right. */
    readonly onlyFirst: number;
    readonly onlySecond: number;
    readonly p: number;
    /** After Holm's correction over all pairs of the same task, split, seed and operating point. */
    readonly holmP: number;
  } | null;
}

export interface DifferenceFields {
  readonly estimate: number;
  readonly low: number;
  readonly high: number;
  readonly p: number;
  /** After Holm's correction over all pairs of the same task, split, seed and operating point. */
  readonly holmP: number;
}

/** A method's curve read where it can be compared with others: linear between neighbouring points, full depth included. */
export interface MatchedFields {
  readonly task: string;
  readonly split: string;
  readonly method: string;
  /** Seeds that the means are over. */
  readonly seeds: number;
  /** Score at a share of saved layers; null where the curve does not reach. */
  readonly atSpeed: readonly {
    readonly savedLayers: number;
    readonly score: MeanFields | null;
  }[];
  /** Most saved layers at which the curve still has this share of full depth's score; null where it never has. */
  readonly atScore: readonly {
    readonly relativeScore: number;
    readonly savedLayers: MeanFields | null;
  }[];
  /** Mean score over the savings that every method of the task reaches; null where there are none. */
  readonly area: {
    readonly from: number;
    readonly to: number;
    readonly score: MeanFields;
  } | null;
}

export interface MeanFields {
  readonly mean: number;
  /** Over seeds; 0 for one. */
  readonly standardError: number;
}

/** One row of the development set with what every layer answers: for looking at single inputs. */
export interface InputStrip {
  readonly task: string;
  readonly split: string;
  readonly method: string;
  readonly seed: number;
  readonly id: string;
  /** Empty for data that is not generated, unless `--texts` asked for it: a report may be passed on, a data set often may not. */
  readonly text: string;
  readonly pair?: string;
  /** Class name, or the number of a regression. */
  readonly label: string | number;
  readonly hardness?: string;
  /** What each layer answers, first layer first: class names, or numbers. */
  readonly answers: readonly (string | number)[];
  /** The one number per layer that the strategy compares with its knob; null where it is not one number. */
  readonly observed: readonly (number | null)[] | null;
  /** The knob and its direction, for a what-if threshold; null where a strategy has no such knob. */
  readonly knob: {
    readonly name: string;
    readonly direction: "higher-is-faster" | "lower-is-faster";
    /** At the one-percent point, or the no-loss point without one, or null. */
    readonly value: number | null;
    /** Where this row leaves, by knob value in ascending order: exact, whatever the rule. */
    readonly exits: readonly (readonly [value: number, exit: number])[];
  } | null;
  /** Where the row left at that value, counted from 1. */
  readonly exit: number;
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
  /** The exit head that `--head` chose; absent for the usual one. */
  readonly head?: string;
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
  /** What tasks and methods are called, in the order of the table. */
  readonly titles?: {
    readonly tasks: Readonly<Record<string, string>>;
    readonly methods: Readonly<Record<string, string>>;
  };
  /** Methods against each other, pair by pair; only cells of this run folder, which keeps their answers row by row. */
  readonly comparisons?: readonly Comparison[];
  /** Methods at equal speed and at equal score. */
  readonly matched?: readonly MatchedFields[];
  /** Some rows of each task, first seed, for every strategy. */
  readonly inputs?: readonly InputStrip[];
  /** Some prompts of each task with what they are answered at several speeds. */
  readonly responses?: readonly ResponseSample[];
  /** Cells that another run had finished and `--cells` kept; their times were measured then. */
  readonly taken?: readonly Pick<Failure, "task" | "method" | "seed">[];
}

/** One prompt and its answers at several speeds. */
export interface ResponseSample {
  readonly task: string;
  readonly id: string;
  readonly prompt: string;
  readonly reference: string;
  readonly answers: readonly {
    readonly method: string;
    readonly knob: Knob | null;
    /** Of the whole point, not of this text. */
    readonly speedup: number;
    readonly score: number;
    readonly text: string;
  }[];
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
    ...(row.savedRuntimeRange
      ? { savedRuntimeRange: row.savedRuntimeRange.map(roundTime) as [number, number] }
      : {}),
  }));
  const checked = validateResults({ ...results, rows }, file);
  await writeFileWhole(file, `${formatJson(checked)}\n`);
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
const isRecord = (value: unknown): value is Record<string, unknown> =>
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

const isPair: Check = (value) =>
  Array.isArray(value) && value.length === 2 && value.every(isNumber);

function isIntervals(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { level, resamples, score, meanExitLayer, scoreDifference } = value;
  return (
    isNumber(level) &&
    isCount(resamples) &&
    isPair(score) &&
    orNull(isPair)(meanExitLayer) &&
    isRecord(scoreDifference) &&
    [scoreDifference.low, scoreDifference.high, scoreDifference.p].every(isNumber)
  );
}

function isClasses(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.every(
      (entry) =>
        isRecord(entry) &&
        isText(entry.label) &&
        isCount(entry.n) &&
        isNumber(entry.accuracy) &&
        isCount(entry.predicted) &&
        orNull(isNumber)(entry.meanExitLayer),
    )
  );
}

function isEarlyExits(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { upTo, n, answer, share, isMajority, majorityOnly } = value;
  const isFlag: Check = (flag) => typeof flag === "boolean";
  return (
    isCount(upTo) &&
    isCount(n) &&
    isText(answer) &&
    isNumber(share) &&
    isFlag(isMajority) &&
    isFlag(majorityOnly)
  );
}

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
    orNull((value) => isRecord(value) && isText(value.name) && isNumber(value.value)),
    "null or { name, value }",
  ],
  ["options", isRecord, "an object"],
  ["layers", orNull((value) => isCount(value) && value !== 0), "null or a whole number >= 1"],
  ["meanExitLayer", orNull(isNumber), "null or a number"],
  ["savedLayers", orNull(isNumber), "null or a number"],
  ["speedup", orNull(isNumber), "null or a number"],
  ["savedRuntime", orNull(isNumber), "null or a number"],
  ["savedRuntimeRange", orMissing(isPair), "two numbers"],
  ["exitHistogram", orNull(isCounts), "null or a list of counts"],
  ["cost", orMissing((value) => isNumber(value) && (value as number) >= 0), "a number from 0"],
  ["n", isCount, "a whole number"],
  ["texts", orMissing(isCount), "a whole number"],
  ["layersPerToken", orMissing(isNumber), "a number"],
  ["tokensPerSecond", orMissing(isNumber), "a number"],
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
  [
    "exitHistogramByClass",
    orMissing((value) => isRecord(value) && Object.values(value as object).every(isCounts)),
    "lists of counts by name",
  ],
  ["heldOut", orMissing(isRecord), "an object"],
  [
    "intervals",
    orMissing(isIntervals),
    "{ level, resamples, score, meanExitLayer, scoreDifference }",
  ],
  ["perClass", orMissing(isClasses), "a list of { label, n, accuracy, predicted, meanExitLayer }"],
  ["earlyExits", orMissing(isEarlyExits), "{ upTo, n, answer, share, isMajority, majorityOnly }"],
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
  [
    "titles",
    orMissing(
      (value) =>
        isRecord(value) &&
        [value.tasks, value.methods].every(
          (names) => isRecord(names) && Object.values(names).every(isText),
        ),
    ),
    "{ tasks, methods }, titles by name",
  ],
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
  for (const name of ["comparisons", "matched", "inputs", "taken", "responses"] as const) {
    const list = (json as Results)[name];
    const problem = list === undefined ? undefined : listMismatch(name, list);
    if (problem !== undefined) {
      const message = `${name}${problem}. Is it a results.json of this project?`;
      throw new BenchError("BAD_RESULTS", who, message);
    }
  }
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

/**
 * @file Finished cells as files: one method on one task with one seed, its rows and what they were made from. In the run
 * folder `--resume` takes them as done; in a folder of their own (`--cells`), small enough to be committed, any later run.
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { BenchError } from "../errors.js";
import { type ResultRow, type Results, validateResults, writeFileWhole } from "../results.js";

/** A cell of the table. */
export interface CellName {
  readonly task: string;
  readonly method: string;
  readonly seed: number;
}

/** Raised when the same data and options give other numbers than before, or rows mean something else. */
export const CELL_VERSION = 2;

/** What a cell was made from: digests and options by name. A cell is done again when one of them changes. */
export type CellIdentity = Readonly<Record<string, string | number | null>>;

/** Where and how a cell was made; for people. */
export type Provenance = Readonly<Record<string, unknown>>;

/** A folder of cells. */
export interface CellFolder {
  readonly folder: string;
  /**
   * The rows of a finished cell; `undefined` when there is none.
   * @throws BenchError `RUN_MISMATCH` for one that was made from something else, `BAD_RESULTS` for a damaged one
   */
  read(name: CellName, identity: CellIdentity): readonly ResultRow[] | undefined;
  write(
    name: CellName,
    identity: CellIdentity,
    rows: readonly ResultRow[],
    provenance?: Provenance,
  ): Promise<void>;
}

export function openCells(folder: string): CellFolder {
  const fileOf = (name: CellName) => path.join(folder, `${cellFile(name)}.json`);
  return {
    folder,
    read(name, identity) {
      const file = fileOf(name);
      if (!existsSync(file)) return undefined;
      const cell = readJson(file, "Delete it; its cell will run again.");
      checkIdentity(file, cell, identity);
      const { rows } = validateRows(cell.rows, file);
      const other = rows.find(
        (row) => row.task !== name.task || row.method !== name.method || row.seed !== name.seed,
      );
      if (rows.length > 0 && !other) return rows;
      const found = other ? `rows of ${other.task}, ${other.method}, seed ${other.seed}` : "no row";
      throw new BenchError(
        "BAD_RESULTS",
        file,
        `expected rows of ${name.task}, ${name.method}, seed ${name.seed}, got ${found}. Delete it; its cell will run again.`,
      );
    },
    // A row a line, so that a committed cell has readable differences.
    write: (name, identity, rows, provenance) =>
      writeFileWhole(
        fileOf(name),
        `{"version":${CELL_VERSION},"identity":${JSON.stringify(identity)},\n${
          provenance ? `"made":${JSON.stringify(provenance)},\n` : ""
        }"rows":[\n${rows.map((row) => JSON.stringify(row)).join(",\n")}\n]}\n`,
      ),
  };
}

/** The name of a cell's files, without extension. */
export function cellFile({ task, method, seed }: CellName): string {
  return `${task}.${method}.${seed}`;
}

function checkIdentity(
  file: string,
  cell: Readonly<Record<string, unknown>>,
  identity: CellIdentity,
): void {
  const refuse = (difference: string): never => {
    throw new BenchError(
      "RUN_MISMATCH",
      file,
      `the cell was made with ${difference}. Run with the same data and options, name another folder, or delete the file to make the cell again.`,
    );
  };
  if (cell.version !== CELL_VERSION)
    refuse(`version ${show(cell.version)} of the benchmark's cells, now ${CELL_VERSION}`);
  const found = (
    typeof cell.identity === "object" && cell.identity !== null ? cell.identity : {}
  ) as CellIdentity;
  const differ = [...new Set([...Object.keys(identity), ...Object.keys(found)])].filter(
    (name) => found[name] !== identity[name],
  );
  if (differ.length > 0)
    refuse(
      differ.map((name) => `${name} ${show(found[name])}, now ${show(identity[name])}`).join("; "),
    );
}

/** @throws BenchError `BAD_RESULTS` when rows are not what `results.json` may hold */
export function validateRows(rows: unknown, who: string): Results {
  const results = { schema: 1, command: "", preset: "", backbone: null, rows };
  return validateResults({ ...results, data: { source: "embedded" } }, who);
}

/** A value of an option in a message. */
export function show(value: unknown): string {
  return value === null || value === undefined ? "unset" : String(value);
}

/** @throws BenchError `BAD_RESULTS` when the file holds no JSON object */
export function readJson(file: string, advice: string): Readonly<Record<string, unknown>> {
  try {
    const json: unknown = JSON.parse(readFileSync(file, "utf8"));
    if (typeof json === "object" && json !== null) return json as Record<string, unknown>;
    throw new Error("expected an object");
  } catch (cause) {
    throw new BenchError(
      "BAD_RESULTS",
      file,
      `is damaged (${(cause as Error).message}). ${advice}`,
      { cause },
    );
  }
}

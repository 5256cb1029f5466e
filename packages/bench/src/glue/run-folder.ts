/** @file Where a run leaves its work: a description of the run, trainings, finished cells. */
import { existsSync, readdirSync, readFileSync, renameSync, statSync } from "node:fs";
import path from "node:path";
import { BenchError } from "../errors.js";
import { type ResultRow, type Results, validateResults, writeFileWhole } from "../results.js";

/** What must be equal for a run to be gone on with; tasks, methods and seeds may be added. */
export type RunSettings = Readonly<Record<string, string | number | null>>;

/** A cell of the table: one method on one task with one seed. */
export interface CellName {
  readonly task: string;
  readonly method: string;
  readonly seed: number;
}

export interface RunFolder {
  /** The rows of a finished cell; one that was made from other data or options is refused. */
  readCell(name: CellName, identity: string): readonly ResultRow[] | undefined;
  writeCell(name: CellName, identity: string, rows: readonly ResultRow[]): Promise<void>;
}

const RUN_FILE = "run.json";

/**
 * Prepares the folder: goes on with what is there, or moves it aside, and never deletes anything.
 * @throws BenchError `RUN_MISMATCH`, `BAD_RESULTS` or `WRITE_FAILED`
 */
export async function openRunFolder(
  out: string,
  settings: RunSettings,
  { resume, log }: { readonly resume: boolean; readonly log: (line: string) => void },
): Promise<RunFolder> {
  const file = path.join(out, RUN_FILE);
  const isThere = existsSync(out);
  if (isThere && !statSync(out).isDirectory())
    throw new BenchError("WRITE_FAILED", "--out", `${out} is a file. Name a folder.`);
  const names = isThere ? readdirSync(out) : [];
  if (names.length > 0 && ![RUN_FILE, "cells", "trainings"].some((name) => names.includes(name)))
    throw new BenchError(
      "RUN_MISMATCH",
      "--out",
      `${out} holds something else than a run of this benchmark. Name another folder.`,
    );
  if (names.length > 0 && resume) assertSameSettings(file, settings);
  else if (names.length > 0) {
    const kept = freeName(`${out.replace(/[\\/]+$/, "")}.previous`);
    renameSync(out, kept);
    log(
      names.includes("results.json")
        ? `The results that were in ${out} are kept in ${kept}.`
        : `An unfinished run is kept in ${kept}; --resume would have gone on with it.`,
    );
  } else if (resume) log(`There is no run in ${out} yet; starting one.`);
  // Says early when the folder can't be written to.
  await writeFileWhole(file, `${JSON.stringify({ schema: 1, settings }, null, 2)}\n`);
  return cellsIn(path.join(out, "cells"));
}

function cellsIn(folder: string): RunFolder {
  const fileOf = ({ task, method, seed }: CellName) =>
    path.join(folder, `${task}.${method}.${seed}.json`);
  return {
    readCell(name, identity) {
      const file = fileOf(name);
      if (!existsSync(file)) return undefined;
      const cell = readJson(file, "Delete it; its cell will run again.");
      if (cell.identity !== identity)
        throw new BenchError(
          "RUN_MISMATCH",
          file,
          "belongs to a run with other data, backbone or options. Resume with the same command, or choose another --out.",
        );
      const results = { schema: 1, command: "", preset: "", backbone: null, rows: cell.rows };
      return validateResults({ ...results, data: { source: "embedded" } }, file).rows;
    },
    writeCell: (name, identity, rows) =>
      writeFileWhole(fileOf(name), `${JSON.stringify({ identity, rows })}\n`),
  };
}

/** @throws BenchError `BAD_RESULTS` when rows are not what `results.json` may hold */
export function checkRows(rows: readonly ResultRow[], who: string): void {
  const results: Results = {
    schema: 1,
    command: "",
    preset: "",
    backbone: null,
    data: { source: "embedded" },
    rows,
  };
  validateResults(results, who);
}

function assertSameSettings(file: string, settings: RunSettings): void {
  // A run that was killed before it wrote its description left cells and trainings that identify themselves.
  if (!existsSync(file)) return;
  const found = (readJson(file, "Choose another --out.").settings ?? {}) as RunSettings;
  const differ = Object.keys(settings).filter((name) => found[name] !== settings[name]);
  if (differ.length === 0) return;
  const shown = differ.map((name) => `${name} ${show(found[name])}, now ${show(settings[name])}`);
  throw new BenchError(
    "RUN_MISMATCH",
    file,
    `the run in this folder was made with ${shown.join("; ")}. Resume with the same options, or choose another --out.`,
  );
}

function show(value: string | number | null | undefined): string {
  return value === null || value === undefined ? "unset" : String(value);
}

function readJson(file: string, advice: string): Readonly<Record<string, unknown>> {
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

function freeName(wanted: string): string {
  for (let count = 1; ; count += 1) {
    const name = count === 1 ? wanted : `${wanted}-${count}`;
    if (!existsSync(name)) return name;
  }
}

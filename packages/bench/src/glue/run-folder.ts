/** @file Where a run leaves its work: a description of the run, trainings, finished cells, answers row by row. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, statSync } from "node:fs";
import path from "node:path";
import { BenchError } from "../errors.js";
import { writeFileWhole } from "../results.js";
import { type CellAnswers, formatAnswers, parseAnswers } from "./answers.js";
import {
  type CellFolder,
  type CellIdentity,
  type CellName,
  cellFile,
  openCells,
  readJson,
  show,
} from "./cells.js";

/** What must be equal for a run to be gone on with; tasks, methods and seeds may be added. */
export type RunSettings = Readonly<Record<string, string | number | null>>;

/** What cells answered row by row. */
export interface AnswersFolder {
  /** `undefined` when there are none, or when they belong to another cell of that name. */
  read(name: CellName, identity: CellIdentity): CellAnswers | undefined;
  write(name: CellName, identity: CellIdentity, answers: CellAnswers): Promise<void>;
}

export interface RunFolder {
  readonly cells: CellFolder;
  readonly answers: AnswersFolder;
}

const RUN_FILE = "run.json";

/**
 * Prepares the folder: goes on with what is there, or moves it aside, and never deletes anything.
 * @throws BenchError `RUN_MISMATCH`, `BAD_RESULTS` or `WRITE_FAILED`
 */
export async function openRunFolder(
  out: string,
  settings: RunSettings,
  {
    resume,
    log,
    results = "results.json",
  }: {
    readonly resume: boolean;
    readonly log: (line: string) => void;
    /** The file that a finished run has. */
    readonly results?: string;
  },
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
      names.includes(results)
        ? `The results that were in ${out} are kept in ${kept}.`
        : `An unfinished run is kept in ${kept}; --resume would have gone on with it.`,
    );
  } else if (resume) log(`There is no run in ${out} yet; starting one.`);
  // Says early when the folder can't be written to.
  await writeFileWhole(file, `${JSON.stringify({ schema: 1, settings }, null, 2)}\n`);
  return {
    cells: openCells(path.join(out, "cells")),
    answers: answersIn(path.join(out, "answers")),
  };
}

function answersIn(folder: string): AnswersFolder {
  const fileOf = (name: CellName) => path.join(folder, `${cellFile(name)}.json`);
  return {
    read(name, identity) {
      const file = fileOf(name);
      if (!existsSync(file)) return undefined;
      return parseAnswers(readFileSync(file, "utf8"), file, digestOf(identity));
    },
    write: (name, identity, answers) =>
      writeFileWhole(fileOf(name), formatAnswers(digestOf(identity), answers)),
  };
}

function digestOf(identity: CellIdentity): string {
  return createHash("sha256").update(JSON.stringify(identity)).digest("hex").slice(0, 16);
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

function freeName(wanted: string): string {
  for (let count = 1; ; count += 1) {
    const name = count === 1 ? wanted : `${wanted}-${count}`;
    if (!existsSync(name)) return name;
  }
}

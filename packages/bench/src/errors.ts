/** @file The error of this package: `[who] what is wrong, got what. What to do.` */

import { existsSync, readdirSync } from "node:fs";

export type BenchErrorCode =
  | "MISSING_FILE"
  | "BAD_FILE"
  | "BAD_COLUMN"
  | "BAD_LABEL"
  | "UNKNOWN_TASK"
  | "UNKNOWN_METHOD"
  | "UNKNOWN_OPTION"
  | "BAD_OPTION"
  | "BAD_INPUT"
  | "BAD_RESULTS"
  | "DOWNLOAD_FAILED"
  | "WRITE_FAILED"
  | "TRAINING_FAILED"
  | "RUN_MISMATCH"
  | "WORKER_DIED"
  | "STOPPED";

export class BenchError extends Error {
  override readonly name = "BenchError";
  constructor(
    readonly code: BenchErrorCode,
    /** The file, task or option that is complained about. */
    readonly who: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`[${who}] ${message}`, options);
  }
}

/** Ends a message about an unknown name: the nearest known one, if any is near, and all of them, as they are typed. */
export function suggestNames(
  name: string,
  known: readonly string[],
  typed: (name: string) => string = (name) => name,
): string {
  const near = nearest(name, known);
  const hint = near === undefined ? "" : `Did you mean "${typed(near)}"? `;
  return `${hint}Known: ${known.map(typed).join(", ")}.`;
}

/**
 * The error of a model that is not there, with what may have been meant: one of `known`, or a folder of a similar name beside
 * it. Any other error is returned as it is.
 */
export function withModelHint(
  cause: unknown,
  model: string,
  known: readonly string[] = [],
): unknown {
  const { code, who, message } = (cause ?? {}) as {
    code?: unknown;
    who?: unknown;
    message: string;
  };
  const isMissing = (code === "BAD_OPTION" || code === "DOWNLOAD_FAILED") && who === model;
  if (!isMissing || existsSync(model)) return cause;
  const near = nearest(model, known) ?? folderLike(model);
  if (near === undefined) return cause;
  const text = `${message.slice(model.length + 3)} Did you mean "${near}"?`;
  return new BenchError(code, model, text, { cause });
}

/** A folder with a similar name in the same place, written as the given one. */
function folderLike(folder: string): string | undefined {
  const [, place = "", name = ""] = /^(.*?)([^/\\]*)[/\\]*$/s.exec(folder) ?? [];
  try {
    const entries = readdirSync(place || ".", { withFileTypes: true });
    const folders = entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
    const near = nearest(name, folders);
    return near === undefined ? undefined : `${place}${near}`;
  } catch {
    // Its place is not there either.
    return undefined;
  }
}

function nearest(name: string, known: readonly string[]): string | undefined {
  const folded = name.toLowerCase();
  const near = known
    .map((candidate) => ({ candidate, distance: editDistance(folded, candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  const isNear = near && near.distance <= Math.max(1, Math.floor(near.candidate.length / 2));
  return isNear ? near.candidate : undefined;
}

function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replace = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(replace, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[to.length]!;
}

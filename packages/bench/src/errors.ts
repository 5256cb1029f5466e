/** @file The error of this package: `[who] what is wrong, got what. What to do.` */

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
  const folded = name.toLowerCase();
  const near = known
    .map((candidate) => ({ candidate, distance: editDistance(folded, candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  const hint =
    near && near.distance <= Math.max(1, Math.floor(near.candidate.length / 2))
      ? `Did you mean "${typed(near.candidate)}"? `
      : "";
  return `${hint}Known: ${known.map(typed).join(", ")}.`;
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

/** @file Writes files so that a crash or a full disk leaves either the old content or the new, never a part. */
import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { BackboneError } from "../errors.js";

/**
 * Writes to a temporary name beside the file, flushes to the disk, and renames.
 * @throws BackboneError `WRITE_FAILED`; the file then has its former content.
 */
export async function writeFileAtomic(
  path: string,
  ...parts: readonly (string | Uint8Array)[]
): Promise<void> {
  const temporary = join(
    dirname(path),
    `.${basename(path)}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`,
  );
  try {
    const handle = await open(temporary, "wx");
    try {
      for (const part of parts) await handle.writeFile(part);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw toWriteError(path, cause);
  }
}

export function toWriteError(path: string, cause: unknown): BackboneError {
  if (cause instanceof BackboneError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new BackboneError(
    "WRITE_FAILED",
    path,
    `cannot write the file, got "${reason}". Free some space or choose another folder; what was there before is intact.`,
    { cause },
  );
}

/** @file Reading files that may be broken, and writing files that never are. */
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BackboneError } from "./errors.js";

/** A JSON file larger than this is not a configuration, a vocabulary or an index. */
const LARGEST_TEXT = 256 * 1024 * 1024;
const LONGEST_WRITE = 2 ** 30;

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
}

/** @throws BackboneError `MISSING_FILE`, `BAD_FILE` */
export async function readText(path: string): Promise<string> {
  const { size } = await stat(path).catch((cause: unknown) => {
    throw new BackboneError("MISSING_FILE", path, `cannot be read: ${reason(cause)}.`, { cause });
  });
  if (size > LARGEST_TEXT) {
    throw new BackboneError("BAD_FILE", path, `is too large to be a text file, got ${size} bytes.`);
  }
  return readFile(path, "utf8").catch((cause: unknown) => {
    throw new BackboneError("MISSING_FILE", path, `cannot be read: ${reason(cause)}.`, { cause });
  });
}

/** @throws BackboneError `MISSING_FILE`, `BAD_FILE` */
export async function readJson(path: string): Promise<unknown> {
  return parseJson(await readText(path), path);
}

export function parseJson(text: string, who: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new BackboneError(
      "BAD_FILE",
      who,
      `is not valid JSON: ${reason(cause)}. It may be truncated; get the file again.`,
      { cause },
    );
  }
}

/** Writes text to a temporary file beside `path`, flushes it to disk and renames it. @throws BackboneError `WRITE_FAILED` */
export async function writeAtomically(path: string, text: string): Promise<void> {
  const temporary = temporaryName(path);
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(temporary, "wx");
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw writeError(path, cause);
  }
}

/** The same for bytes too many to hold at once: each chunk is produced when the one before is on its way. */
export function writeFileSyncAtomically(path: string, chunks: () => Iterable<Uint8Array>): void {
  const temporary = temporaryName(path);
  try {
    mkdirSync(dirname(path), { recursive: true });
    const file = openSync(temporary, "wx");
    try {
      for (const chunk of chunks()) {
        let done = 0;
        while (done < chunk.byteLength)
          done += writeSync(file, chunk, done, Math.min(chunk.byteLength - done, LONGEST_WRITE));
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (cause) {
    removeQuietly(temporary);
    throw writeError(path, cause);
  }
}

/**
 * Writes several files that belong together: all are complete on disk before the first one takes its place in `folder`.
 * @throws BackboneError `WRITE_FAILED`; the folder then holds what it held.
 */
export async function replaceFiles(
  folder: string,
  write: (stage: string) => Promise<void>,
): Promise<void> {
  const stage = temporaryName(join(folder, ".save"));
  try {
    await mkdir(folder, { recursive: true });
    // What a killed save left behind; two saves into one folder at once would be a mistake in any case.
    for (const name of await readdir(folder)) {
      if (/^\.save\.[0-9a-f]{12}\.tmp$/.test(name))
        await rm(join(folder, name), { recursive: true });
    }
    await mkdir(stage);
    await write(stage);
    for (const name of await readdir(stage)) await rename(join(stage, name), join(folder, name));
  } catch (cause) {
    throw writeError(folder, cause);
  } finally {
    await rm(stage, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Beside the file, because a rename across file systems is not one step. */
export function temporaryName(path: string): string {
  return `${path}.${randomBytes(6).toString("hex")}.tmp`;
}

/** The failure that led here is the one to report. */
function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {}
}

function writeError(path: string, cause: unknown): unknown {
  if (cause instanceof BackboneError) return cause;
  return new BackboneError(
    "WRITE_FAILED",
    path,
    `could not be written: ${reason(cause)}. What stood under this name is unchanged.`,
    { cause },
  );
}

export function toJsonText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

export function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

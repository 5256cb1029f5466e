/** @file Reading files that may be broken, and writing files that never are. */
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { BackboneError } from "./errors.js";

/** A JSON file larger than this is not a configuration, a vocabulary or an index. */
const LARGEST_TEXT = 256 * 1024 * 1024;

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

/** Writes chunks to a temporary file beside `path`, flushes it to disk and renames it. @throws BackboneError `WRITE_FAILED` */
export async function writeAtomically(
  path: string,
  chunks: Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>,
): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  try {
    await mkdir(folder, { recursive: true });
    const file = await open(temporary, "wx");
    try {
      for await (const chunk of chunks) await file.writeFile(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (cause instanceof BackboneError) throw cause;
    throw new BackboneError(
      "WRITE_FAILED",
      path,
      `could not be written: ${reason(cause)}. Nothing was left under this name.`,
      { cause },
    );
  }
}

export function toJsonText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

export function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** @file Files of this package: written under a temporary name first, read with their sizes checked. */
import { ExitStrategyError } from "./errors.js";
import { messageOf } from "./observer.js";

/** Writes a file so that its final name never holds half of it. */
export async function writeWhole(path: string, chunks: readonly Uint8Array[]): Promise<void> {
  const [{ mkdir, open, rename, rm }, { dirname }] = await Promise.all([
    import("node:fs/promises"),
    import("node:path"),
  ]);
  const temporary = `${path}.${process.pid}.${Date.now().toString(36)}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(temporary, "wx");
    try {
      for (const chunk of chunks) await file.writeFile(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw new ExitStrategyError(
      "BAD_FILE",
      path,
      `could not be written: ${messageOf(cause)}. Check the folder and the space on its disk.`,
      { cause },
    );
  }
}

export async function readWhole(path: string): Promise<Uint8Array> {
  const { readFile } = await import("node:fs/promises");
  try {
    return await readFile(path);
  } catch (cause) {
    throw new ExitStrategyError(
      "BAD_FILE",
      path,
      `could not be read: ${messageOf(cause)}. Check the path.`,
      { cause },
    );
  }
}

/** A complaint about the contents of a file. */
export function badFile(path: string, message: string, cause?: unknown): ExitStrategyError {
  return new ExitStrategyError(
    "BAD_FILE",
    path,
    message,
    cause === undefined ? undefined : { cause },
  );
}

export function parseJson(path: string, bytes: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw badFile(path, `is not JSON where it should be: ${messageOf(cause)}.`, cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw badFile(path, "must hold a JSON object.");
  return value as Record<string, unknown>;
}

/** Whether a value from a file may be used as a size. */
export function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** The bytes of numbers as files hold them: little-endian. */
export function toBytes(numbers: Float32Array | Int32Array): Uint8Array {
  if (!isLittleEndian()) throw new Error("internal: big-endian machines are not supported");
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}

/** The bytes in a buffer of their own, at any alignment; `slice` of a Node Buffer would not copy. */
export function ownBuffer(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

function isLittleEndian(): boolean {
  return new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
}

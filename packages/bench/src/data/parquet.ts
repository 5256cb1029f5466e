/** @file Opens parquet files. */
import { stat } from "node:fs/promises";
import {
  type AsyncBuffer,
  asyncBufferFromFile,
  parquetMetadataAsync,
  parquetSchema,
} from "hyparquet";
import { BenchError } from "../errors.js";

export interface ParquetFile {
  readonly buffer: AsyncBuffer;
  readonly columns: readonly string[];
  /** What to throw where reading fails later. */
  damaged(cause: unknown): BenchError;
}

/** Reads a file's columns. @throws BenchError `MISSING_FILE`, `BAD_FILE` */
export async function openParquet(file: string): Promise<ParquetFile> {
  const damaged = (cause: unknown) =>
    new BenchError(
      "BAD_FILE",
      file,
      `expected a parquet file, but it can't be read: ${(cause as Error).message}. Delete it and fetch it again.`,
      { cause },
    );
  if (!(await stat(file).catch(() => undefined)))
    throw new BenchError("MISSING_FILE", file, "there is no such file. Check the path.");
  try {
    const buffer = await asyncBufferFromFile(file);
    const metadata = await parquetMetadataAsync(buffer);
    const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
    return { buffer, columns, damaged };
  } catch (cause) {
    throw damaged(cause);
  }
}

/**
 * @file Recorded signals of a data set: in memory while they are small, in sharded files beyond that.
 *
 * W = values per row (all layers of one signal).
 */
import {
  closeSync,
  mkdirSync,
  openSync,
  readSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { BackboneError } from "../errors.js";
import { reason } from "../files.js";

export interface StateStore {
  readonly rows: number;
  readonly width: number;
  readonly bytes: number;
  readonly where: "memory" | "files";
  put(row: number, values: Float32Array): void;
  /** Copies the rows into one array `[rows, W]`. */
  gather(rows: readonly number[]): Float32Array;
  /** Frees the memory, or deletes the files; safe to call twice. */
  dispose(): void;
}

export interface StateStoreOptions {
  readonly rows: number;
  readonly width: number;
  /** Where shards go when the states do not fit. */
  readonly folder: string | undefined;
  /** States up to this size in bytes stay in memory. @default 512 MiB */
  readonly memoryLimit?: number | undefined;
  /** @default 256 MiB */
  readonly shardBytes?: number | undefined;
  /** Told the size before anything is written. */
  readonly log?: ((line: string) => void) | undefined;
}

/** Creates room for `rows` rows of `width` floats. @throws BackboneError `NO_SPACE`, `WRITE_FAILED` */
export function createStateStore({
  rows,
  width,
  folder,
  memoryLimit = 512 * 2 ** 20,
  shardBytes = 256 * 2 ** 20,
  log,
}: StateStoreOptions): StateStore {
  const bytes = rows * width * 4;
  if (bytes <= memoryLimit) return inMemory(rows, width, bytes);
  if (folder === undefined)
    throw new BackboneError(
      "NO_SPACE",
      "record",
      `recorded states take ${mebibytes(bytes)} MiB, more than the ${mebibytes(memoryLimit)} MiB kept in memory. Give an output folder.`,
    );
  log?.(`recorded states take ${mebibytes(bytes)} MiB in ${folder}`);
  return inFiles(rows, width, bytes, folder, shardBytes);
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}

function inMemory(rows: number, width: number, bytes: number): StateStore {
  let data = new Float32Array(rows * width);
  return {
    rows,
    width,
    bytes,
    where: "memory",
    put(row, values) {
      checkPut(row, rows, values, width);
      data.set(values, row * width);
    },
    gather(wanted) {
      const result = new Float32Array(wanted.length * width);
      wanted.forEach((row, index) => {
        result.set(data.subarray(row * width, (row + 1) * width), index * width);
      });
      return result;
    },
    dispose() {
      data = new Float32Array(0);
    },
  };
}

function inFiles(
  rows: number,
  width: number,
  bytes: number,
  folder: string,
  shardBytes: number,
): StateStore {
  const rowBytes = width * 4;
  const rowsPerShard = Math.max(1, Math.floor(shardBytes / rowBytes));
  const shards: { readonly path: string; readonly file: number }[] = [];
  const dispose = () => {
    for (const { path, file } of shards.splice(0)) {
      closeSync(file);
      rmSync(path, { force: true });
    }
    try {
      rmdirSync(folder);
    } catch {
      // Somebody else's files are in it.
    }
  };
  const trying = <T>(action: () => T): T => {
    try {
      return action();
    } catch (cause) {
      if (cause instanceof BackboneError) throw cause;
      throw new BackboneError(
        "WRITE_FAILED",
        folder,
        `${mebibytes(bytes)} MiB of recorded states could not be written: ${reason(cause)}. Make room, or choose another output folder.`,
        { cause },
      );
    }
  };
  try {
    trying(() => {
      mkdirSync(folder, { recursive: true });
      const { bavail, bsize } = statfsSync(folder);
      if (bavail * bsize < bytes)
        throw new BackboneError(
          "NO_SPACE",
          folder,
          `recorded states take ${mebibytes(bytes)} MiB, the disk has ${mebibytes(bavail * bsize)} MiB left. Make room, or choose another output folder.`,
        );
      for (let index = 0; index * rowsPerShard < rows; index += 1) {
        const path = join(folder, `states-${String(index).padStart(4, "0")}.f32`);
        shards.push({ path, file: openSync(path, "w+") });
      }
    });
  } catch (error) {
    dispose();
    throw error;
  }
  const locate = (row: number) => ({
    file: (shards[Math.floor(row / rowsPerShard)] as { file: number }).file,
    offset: (row % rowsPerShard) * rowBytes,
  });
  return {
    rows,
    width,
    bytes,
    where: "files",
    put(row, values) {
      checkPut(row, rows, values, width);
      const { file, offset } = locate(row);
      const view = new Uint8Array(values.buffer, values.byteOffset, rowBytes);
      trying(() => {
        // A disk that is nearly full takes a part without complaint.
        for (let done = 0; done < rowBytes; )
          done += writeSync(file, view, done, rowBytes - done, offset + done);
      });
    },
    gather(wanted) {
      const result = new Float32Array(wanted.length * width);
      const view = new Uint8Array(result.buffer);
      wanted.forEach((row, index) => {
        const { file, offset } = locate(row);
        const read = readSync(file, view, index * rowBytes, rowBytes, offset);
        if (read !== rowBytes)
          throw new BackboneError(
            "BAD_FILE",
            folder,
            `row ${row} of the recorded states has ${read} bytes, expected ${rowBytes}. Record again.`,
          );
      });
      return result;
    },
    dispose,
  };
}

function checkPut(row: number, rows: number, values: Float32Array, width: number): void {
  if (row >= 0 && row < rows && values.length === width) return;
  throw new BackboneError(
    "BAD_INPUT",
    "record",
    `a recorded row must be one of ${rows} and hold ${width} values, got row ${row} with ${values.length}.`,
  );
}

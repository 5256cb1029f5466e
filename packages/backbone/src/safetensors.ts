/** @file Reads and writes `safetensors` files; the header of a file from outside is believed only after every check. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { endianness } from "node:os";
import type { HostTensor } from "@cee/engine";
import { BackboneError } from "./errors.js";
import { reason, writeFileSyncAtomically } from "./files.js";
import { halfFromFloat, halfToFloat } from "./half.js";

const BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const;
export type SafetensorsDType = keyof typeof BYTES;

/** The format's own limit; a longer header is not one. */
const LONGEST_HEADER = 100_000_000;
/** Node refuses to read more at once. */
const LONGEST_READ = 2 ** 30;

export interface SafetensorsEntry {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  /** Byte range in the file. */
  readonly start: number;
  readonly end: number;
}

/** An open file; tensors are read when asked for. */
export interface SafetensorsFile {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  /** @throws BackboneError `MISSING_TENSOR`, `BAD_FILE` */
  read(name: string): HostTensor;
  close(): void;
}

export interface SafetensorsContent {
  readonly tensors: Readonly<Record<string, HostTensor>>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Checks the header and keeps the file open. @throws BackboneError `MISSING_FILE`, `BAD_FILE` */
export function openSafetensors(path: string): SafetensorsFile {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (cause) {
    throw new BackboneError("MISSING_FILE", path, `cannot be opened: ${reason(cause)}.`, { cause });
  }
  try {
    const { metadata, entries } = readHeader(file, path);
    return {
      path,
      metadata,
      entries,
      read(name) {
        const entry = entries.get(name);
        if (entry) return decode(readRange(file, entry.start, entry.end, path), entry, name, path);
        throw new BackboneError(
          "MISSING_TENSOR",
          path,
          `has no tensor ${JSON.stringify(name)}, got ${entries.size} others.`,
        );
      },
      close: () => closeSync(file),
    };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

/** Reads every tensor of a file. @throws BackboneError `MISSING_FILE`, `BAD_FILE` */
export function readSafetensors(path: string): SafetensorsContent {
  const file = openSafetensors(path);
  try {
    const tensors = Object.fromEntries([...file.entries.keys()].map((n) => [n, file.read(n)]));
    return { tensors, metadata: file.metadata };
  } finally {
    file.close();
  }
}

export interface WriteSafetensorsOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  /** How float32 is stored. @default "F32" */
  readonly floats?: "F32" | "F16";
}

/**
 * Writes a file in one step: under `path` there is the old content or the new, never a part. Equal content gives equal bytes.
 * @throws BackboneError `WRITE_FAILED`, `BAD_INPUT`
 */
export function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, HostTensor>>,
  { metadata = {}, floats = "F32" }: WriteSafetensorsOptions = {},
): void {
  const rows = Object.entries(tensors).map(([name, tensor]) => {
    const dtype = { float32: floats, int32: "I32", bool: "BOOL" }[tensor.dtype] as SafetensorsDType;
    return { name, tensor, dtype, bytes: sizeOf(tensor.shape) * BYTES[dtype] };
  });
  for (const { name, tensor } of rows) checkTensor(name, tensor, path);
  // Wider types first, so that every tensor starts at a multiple of its own width.
  rows.sort((a, b) => BYTES[b.dtype] - BYTES[a.dtype] || (a.name < b.name ? -1 : 1));
  const header = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) header.set("__metadata__", metadata);
  let offset = 0;
  for (const { name, tensor, dtype, bytes } of rows) {
    header.set(name, { dtype, shape: tensor.shape, data_offsets: [offset, offset + bytes] });
    offset += bytes;
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)), "utf8");
  const padding = Buffer.alloc((8 - (json.length % 8)) % 8, " ");
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length + padding.length));
  writeFileSyncAtomically(path, function* () {
    yield length;
    yield json;
    yield padding;
    for (const { tensor, dtype } of rows) yield encode(tensor, dtype);
  });
}

function readHeader(file: number, path: string): Pick<SafetensorsFile, "metadata" | "entries"> {
  const fail = (message: string): never => {
    throw new BackboneError("BAD_FILE", path, `${message} Get the file again.`);
  };
  const size = fstatSync(file).size;
  if (size < 8) fail(`must start with 8 bytes of header length, got a file of ${size} bytes.`);
  const length = Number(readRange(file, 0, 8, path).readBigUInt64LE());
  if (length > size - 8 || length > LONGEST_HEADER) {
    fail(`says that its header has ${length} bytes, got a file of ${size} bytes.`);
  }
  const text = readRange(file, 8, 8 + length, path).toString("utf8");
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    fail(`has a header that is not JSON: ${reason(cause)}.`);
  }
  if (!isRecord(header)) return fail("has a header that is not a JSON object.");
  const named = Object.entries(header);
  if (countTopLevelKeys(text) !== named.length) fail("has a header that names a tensor twice.");

  const data = 8 + length;
  const entries = new Map<string, SafetensorsEntry>();
  let metadata: Readonly<Record<string, string>> = {};
  for (const [name, value] of named) {
    if (name === "__metadata__") {
      if (!isRecord(value) || Object.values(value).some((text) => typeof text !== "string")) {
        fail("has __metadata__ that is not an object of strings.");
      }
      metadata = value as Record<string, string>;
    } else entries.set(name, checkEntry(name, value, data, size - data, fail));
  }
  let end = data;
  for (const [name, entry] of [...entries].sort(
    ([, a], [, b]) => a.start - b.start || a.end - b.end,
  )) {
    if (entry.start !== end) {
      const what = entry.start < end ? "overlaps another tensor" : "leaves a hole before it";
      fail(`${JSON.stringify(name)} ${what}: starts at byte ${entry.start}, expected ${end}.`);
    }
    end = entry.end;
  }
  if (end !== size) fail(`must end at byte ${end} by its header, got a file of ${size} bytes.`);
  return { metadata, entries };
}

function checkEntry(
  name: string,
  value: unknown,
  data: number,
  room: number,
  fail: (message: string) => never,
): SafetensorsEntry {
  const quoted = JSON.stringify(name);
  if (!isRecord(value)) return fail(`${quoted} has no description.`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(BYTES, dtype)) {
    return fail(
      `${quoted} must have a dtype among ${Object.keys(BYTES).join(", ")}, got ${JSON.stringify(dtype)}.`,
    );
  }
  if (!isCounts(shape)) {
    return fail(`${quoted} must have a shape of counts, got ${JSON.stringify(shape)}.`);
  }
  if (!isCounts(offsets) || offsets.length !== 2) {
    return fail(`${quoted} must have two data_offsets, got ${JSON.stringify(offsets)}.`);
  }
  const [start, end] = offsets as [number, number];
  if (start > end || end > room) {
    fail(`${quoted} has data_offsets [${start}, ${end}], expected a range within 0 to ${room}.`);
  }
  const bytes = sizeOf(shape) * BYTES[dtype as SafetensorsDType];
  if (bytes !== end - start) {
    fail(`${quoted} is ${dtype} [${shape.join(", ")}], ${bytes} bytes, got ${end - start} bytes.`);
  }
  return { dtype: dtype as SafetensorsDType, shape, start: data + start, end: data + end };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((count) => Number.isSafeInteger(count) && count >= 0);
}

/** Keys of the outermost object of a valid JSON text; `JSON.parse` keeps only the last of two equal ones. */
function countTopLevelKeys(text: string): number {
  let depth = 0;
  let keys = 0;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === "{" || character === "[") depth += 1;
    else if (character === "}" || character === "]") depth -= 1;
    else if (character === ":" && depth === 1) keys += 1;
    else if (character === '"') {
      for (at += 1; text[at] !== '"'; at += 1) if (text[at] === "\\") at += 1;
    }
  }
  return keys;
}

function readRange(file: number, start: number, end: number, path: string): Buffer {
  let bytes: Buffer;
  try {
    bytes = Buffer.from(new ArrayBuffer(end - start));
  } catch (cause) {
    throw new BackboneError(
      "BAD_FILE",
      path,
      `holds a tensor of ${end - start} bytes, too many for memory.`,
      { cause },
    );
  }
  let done = 0;
  while (done < bytes.length) {
    const wanted = Math.min(bytes.length - done, LONGEST_READ);
    const got = readSync(file, bytes, done, wanted, start + done);
    if (got === 0) {
      throw new BackboneError(
        "BAD_FILE",
        path,
        `ends at byte ${start + done}, expected ${end}. It was cut while being read.`,
      );
    }
    done += got;
  }
  return bytes;
}

function decode(bytes: Buffer, entry: SafetensorsEntry, name: string, path: string): HostTensor {
  const { dtype, shape } = entry;
  fromLittleEndian(bytes, BYTES[dtype]);
  const { buffer } = bytes as Buffer<ArrayBuffer>;
  switch (dtype) {
    case "F32":
      return { dtype: "float32", shape, data: new Float32Array(buffer) };
    case "F64":
      return { dtype: "float32", shape, data: Float32Array.from(new Float64Array(buffer)) };
    case "F16":
      return { dtype: "float32", shape, data: halfToFloat(new Uint16Array(buffer)) };
    case "BF16":
      return { dtype: "float32", shape, data: brainToFloat(new Uint16Array(buffer)) };
    case "I32":
      return { dtype: "int32", shape, data: new Int32Array(buffer) };
    case "I16":
      return { dtype: "int32", shape, data: Int32Array.from(new Int16Array(buffer)) };
    case "I8":
      return { dtype: "int32", shape, data: Int32Array.from(new Int8Array(buffer)) };
    case "U16":
      return { dtype: "int32", shape, data: Int32Array.from(new Uint16Array(buffer)) };
    case "U8":
      return { dtype: "int32", shape, data: Int32Array.from(new Uint8Array(buffer)) };
    case "BOOL":
      return { dtype: "bool", shape, data: new Uint8Array(buffer).map((b) => (b === 0 ? 0 : 1)) };
    case "I64":
      return { dtype: "int32", shape, data: narrow(new BigInt64Array(buffer), name, path) };
    default:
      throw new BackboneError(
        "BAD_FILE",
        path,
        `${JSON.stringify(name)} has dtype ${dtype}, which is not supported. Convert it to F32.`,
      );
  }
}

function narrow(values: BigInt64Array, name: string, path: string): Int32Array {
  return Int32Array.from(values, (value) => {
    if (value === BigInt.asIntN(32, value)) return Number(value);
    throw new BackboneError(
      "BAD_FILE",
      path,
      `${JSON.stringify(name)} holds ${value}, which does not fit 32 bits.`,
    );
  });
}

/** BF16 is the upper half of a float32. */
function brainToFloat(values: Uint16Array): Float32Array {
  const bits = new Uint32Array(values.length);
  for (let index = 0; index < values.length; index += 1)
    bits[index] = (values[index] as number) << 16;
  return new Float32Array(bits.buffer);
}

function encode(tensor: HostTensor, dtype: SafetensorsDType): Uint8Array {
  const { data } = tensor;
  const values = dtype === "F16" ? halfFromFloat(data as Float32Array) : data;
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  if (endianness() === "LE") return bytes;
  const copy = Buffer.from(bytes);
  fromLittleEndian(copy, BYTES[dtype]);
  return copy;
}

/** Swaps in place on the few machines that are not little-endian. */
function fromLittleEndian(bytes: Buffer, width: number): void {
  if (endianness() === "LE") return;
  if (width === 2) bytes.swap16();
  if (width === 4) bytes.swap32();
  if (width === 8) bytes.swap64();
}

function checkTensor(name: string, { dtype, shape, data }: HostTensor, path: string): void {
  const kind = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }[dtype];
  if (name === "__metadata__" || !(data instanceof kind) || data.length !== sizeOf(shape)) {
    throw new BackboneError(
      "BAD_INPUT",
      path,
      `${JSON.stringify(name)} cannot be written: ${dtype} [${shape.join(", ")}] needs ${sizeOf(shape)} values, got ${data.length} in ${data.constructor.name}.`,
    );
  }
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @file Safetensors for a strategy's own parameters: F32 and I32, every claim of the header checked before use. */
import { badFile, isSize, ownBuffer, parseJson, toBytes } from "./files.js";
import type { HostParams, HostTensor } from "./host-tensor.js";

const TYPES = { float32: "F32", int32: "I32" } as const;

/** @throws ExitStrategyError `BAD_FILE` for tensors of another type or whose data do not fit their shape */
export function encodeTensors(path: string, tensors: HostParams): Uint8Array {
  const header: Record<string, unknown> = {};
  const chunks: Uint8Array[] = [];
  let offset = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors).sort(byName)) {
    const isFitting = data.length === sizeOf(shape);
    if (!(dtype in TYPES) || data instanceof Uint8Array || !isFitting || name === "__metadata__")
      throw badFile(
        path,
        `the tensor "${name}" must be float32 or int32 with as many numbers as its shape says, got ${dtype} [${shape.join(", ")}] with ${data.length}.`,
      );
    header[name] = {
      dtype: TYPES[dtype as keyof typeof TYPES],
      shape,
      data_offsets: [offset, offset + data.byteLength],
    };
    chunks.push(toBytes(data));
    offset += data.byteLength;
  }
  const json = JSON.stringify(header);
  const text = new TextEncoder().encode(json);
  // Padded with spaces so that the data start at a multiple of 8.
  const length = Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(8 + length + offset).fill(0x20, 8, 8 + length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(text, 8);
  let position = 8 + length;
  for (const chunk of chunks) {
    bytes.set(chunk, position);
    position += chunk.length;
  }
  return bytes;
}

/** @throws ExitStrategyError `BAD_FILE` */
export function decodeTensors(path: string, bytes: Uint8Array): HostParams {
  if (bytes.length < 8) throw badFile(path, `is too short for safetensors: ${bytes.length} bytes.`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  if (length > bytes.length - 8)
    throw badFile(
      path,
      `its header should take ${length} bytes, got ${bytes.length - 8}. The file is cut off or damaged.`,
    );
  const header = parseJson(path, bytes.subarray(8, 8 + length));
  const data = bytes.subarray(8 + length);
  const entries = Object.entries(header)
    .filter(([name]) => name !== "__metadata__")
    .map(([name, entry]) => checkEntry(path, name, entry, data.length))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  let offset = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== offset)
      throw badFile(
        path,
        `the tensor "${name}" must begin at byte ${offset} of the data, got ${begin}. Tensors may neither overlap nor leave gaps.`,
      );
    offset = end;
  }
  if (offset !== data.length)
    throw badFile(path, `its tensors take ${offset} bytes, got ${data.length} bytes of data.`);
  return Object.fromEntries(
    entries.map(({ name, type, shape, begin, end }) => {
      const buffer = ownBuffer(data.subarray(begin, end));
      const tensor: HostTensor =
        type === "F32"
          ? { dtype: "float32", shape, data: new Float32Array(buffer) }
          : { dtype: "int32", shape, data: new Int32Array(buffer) };
      return [name, tensor];
    }),
  );
}

interface Entry {
  readonly name: string;
  readonly type: "F32" | "I32";
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

function checkEntry(path: string, name: string, value: unknown, available: number): Entry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  if (dtype !== "F32" && dtype !== "I32")
    throw badFile(path, `the tensor "${name}" must be F32 or I32, got ${String(dtype)}.`);
  if (!Array.isArray(shape) || !shape.every(isSize) || !isSize(sizeOf(shape)))
    throw badFile(path, `the tensor "${name}" has no usable shape: ${JSON.stringify(shape)}.`);
  const [begin, end] = Array.isArray(offsets) && offsets.length === 2 ? offsets : [];
  if (!isSize(begin) || !isSize(end) || end > available || end - begin !== sizeOf(shape) * 4)
    throw badFile(
      path,
      `the tensor "${name}" [${shape.join(", ")}] must take ${sizeOf(shape) * 4} of the ${available} bytes of data, got offsets ${JSON.stringify(offsets)}.`,
    );
  return { name, type: dtype, shape, begin, end };
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * @file Records on disk: `CEEREC01`, the length of a JSON header, the header, then labels, logits and observed values as
 * little-endian float32.
 *
 * N = rows, T = exits, C = classes, K = values observed per row.
 */
import { TASKS } from "./define.js";
import { badFile, isSize, ownBuffer, parseJson, readWhole, toBytes, writeWhole } from "./files.js";
import type { ExitRecord } from "./record.js";
import { checkRecord } from "./record-view.js";
import type { ModelShape, Task } from "./strategy.js";

const MAGIC = "CEEREC01";
const PREFIX = MAGIC.length + 8;

/** @throws ExitStrategyError `BAD_RECORD`, `BAD_FILE` */
export async function writeRecord(path: string, record: ExitRecord): Promise<void> {
  checkRecord(record, path);
  const { shape, ids, observedWidth, labels, logits, observed } = record;
  const header = new TextEncoder().encode(JSON.stringify({ shape, ids, observedWidth }));
  const prefix = new Uint8Array(PREFIX);
  prefix.set(new TextEncoder().encode(MAGIC));
  new DataView(prefix.buffer).setBigUint64(MAGIC.length, BigInt(header.length), true);
  await writeWhole(path, [prefix, header, toBytes(labels), toBytes(logits), toBytes(observed)]);
}

/** @throws ExitStrategyError `BAD_FILE` when the file is not what {@link writeRecord} wrote */
export async function readRecord(path: string): Promise<ExitRecord> {
  const bytes = await readWhole(path);
  if (bytes.length < PREFIX || new TextDecoder().decode(bytes.subarray(0, MAGIC.length)) !== MAGIC)
    throw badFile(path, `is no record: it must start with ${MAGIC}. Record again.`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = Number(view.getBigUint64(MAGIC.length, true));
  if (headerLength > bytes.length - PREFIX)
    throw badFile(
      path,
      `its header should take ${headerLength} bytes, got ${bytes.length - PREFIX}. The file is cut off or damaged; record again.`,
    );
  const header = parseJson(path, bytes.subarray(PREFIX, PREFIX + headerLength));
  const { ids, observedWidth } = header;
  const shape = shapeFrom(path, header.shape);
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === "string"))
    throw badFile(path, "its header must list ids as strings. Record again.");
  if (!isSize(observedWidth) || observedWidth < 1)
    throw badFile(path, `its header must give observedWidth, got ${String(observedWidth)}.`);
  const cells = ids.length * shape.depth;
  const sizes = [ids.length, cells * shape.classes, cells * observedWidth];
  const wanted = sizes.reduce((sum, size) => sum + size * 4, PREFIX + headerLength);
  if (wanted !== bytes.length)
    throw badFile(
      path,
      `should have ${wanted} bytes by its header, got ${bytes.length}. The file is cut off or damaged; record again.`,
    );
  let offset = PREFIX + headerLength;
  const [labels, logits, observed] = sizes.map((size) => {
    const floats = new Float32Array(ownBuffer(bytes.subarray(offset, offset + size * 4)));
    offset += size * 4;
    return floats;
  }) as [Float32Array, Float32Array, Float32Array];
  return { shape, ids, labels, logits, observed, observedWidth };
}

/** A model shape from an untrusted file. */
export function shapeFrom(path: string, value: unknown): ModelShape {
  const { task, depth, hidden, classes } = (value ?? {}) as Record<string, unknown>;
  if (
    !TASKS.includes(task as Task) ||
    !isSize(depth) ||
    !isSize(hidden) ||
    !isSize(classes) ||
    depth < 1 ||
    classes < 1
  )
    throw badFile(
      path,
      `must give the model's task, depth, hidden and classes, got ${JSON.stringify(value)}.`,
    );
  return { task: task as Task, depth, hidden, classes };
}

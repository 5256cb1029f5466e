/** @file Recorded states give back what was put, in memory and in shards, and leave nothing behind. */
import { existsSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRng } from "@cee/engine";
import { describe, expect, it } from "vitest";
import { createStateStore, type StateStoreOptions } from "../src/train/state-store.js";
import { scratchFolder } from "./helpers/scratch.js";

const rows = 11;
const width = 6;
const valueAt = (row: number) =>
  Float32Array.from({ length: width }, (_, index) => row + index / 10);
const filled = (options: Partial<StateStoreOptions>) => {
  const store = createStateStore({ rows, width, folder: undefined, ...options });
  // In the order in which batches of similar length come: not the order of the rows.
  for (const row of createRng("order").shuffle(Array.from({ length: rows }, (_, row) => row)))
    store.put(row, valueAt(row));
  return store;
};

describe("a state store", () => {
  it("gives rows back in any order, repeated too, wherever they are kept", () => {
    const folder = join(scratchFolder(), "states");
    const stores = [
      filled({}),
      filled({ folder, memoryLimit: 0, shardBytes: 3 * width * 4 }),
      filled({ folder: `${folder}-one`, memoryLimit: 0 }),
      // A shard that is smaller than a row holds one.
      filled({ folder: `${folder}-tiny`, memoryLimit: 0, shardBytes: 1 }),
    ];
    expect(stores.map(({ where }) => where)).toEqual(["memory", "files", "files", "files"]);
    expect(readdirSync(folder)).toHaveLength(4);
    expect(readdirSync(`${folder}-tiny`)).toHaveLength(rows);
    const wanted = [10, 0, 3, 3, 7];
    const expected = wanted.flatMap((row) => [...valueAt(row)]);
    for (const store of stores) {
      expect([...store.gather(wanted)]).toEqual(expected);
      expect(store.gather([])).toHaveLength(0);
      expect(store.bytes).toBe(rows * width * 4);
      store.dispose();
      store.dispose();
    }
    expect(existsSync(folder)).toBe(false);
  });

  it("announces the size of what it writes, and stays in memory up to the limit", () => {
    const lines: string[] = [];
    const log = (line: string) => lines.push(line);
    const bytes = rows * width * 4;
    expect(filled({ memoryLimit: bytes, log }).where).toBe("memory");
    expect(lines).toEqual([]);
    const folder = join(scratchFolder(), "states");
    filled({ memoryLimit: bytes - 1, folder, log }).dispose();
    expect(lines).toEqual([`recorded states take 1 MiB in ${folder}`]);
  });

  it("says where it lacks room before it writes", () => {
    const huge = { rows: 2 ** 30, width: 2 ** 20, memoryLimit: 0 };
    expect(() => createStateStore({ ...huge, folder: undefined })).toThrow(/output folder/);
    const folder = join(scratchFolder(), "states");
    expect(() => createStateStore({ ...huge, folder })).toThrow(
      expect.objectContaining({ code: "NO_SPACE", who: folder }),
    );
    expect(existsSync(folder)).toBe(false);
    const file = join(scratchFolder(), "file");
    writeFileSync(file, "");
    expect(() => filled({ memoryLimit: 0, folder: join(file, "states") })).toThrow(
      expect.objectContaining({ code: "WRITE_FAILED" }),
    );
  });

  it("refuses rows that do not fit, and shards that were cut", () => {
    const folder = join(scratchFolder(), "states");
    const inMemory = filled({});
    const inFiles = filled({ memoryLimit: 0, folder });
    for (const store of [inMemory, inFiles]) {
      expect(() => store.put(rows, valueAt(0))).toThrow(/one of 11/);
      expect(() => store.put(0, new Float32Array(width - 1))).toThrow(/hold 6 values/);
    }
    truncateSync(join(folder, "states-0000.f32"), width * 4 * 5 + 4);
    expect([...inFiles.gather([4])]).toEqual([...valueAt(4)]);
    expect(() => inFiles.gather([5])).toThrow(expect.objectContaining({ code: "BAD_FILE" }));
    inFiles.dispose();
  });

  it("leaves files alone that are not its own", () => {
    const folder = scratchFolder();
    writeFileSync(join(folder, "notes.txt"), "mine");
    filled({ memoryLimit: 0, folder }).dispose();
    expect(readdirSync(folder)).toEqual(["notes.txt"]);
  });
});

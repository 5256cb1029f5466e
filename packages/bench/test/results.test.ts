/** @file `results.json`: fields, checks, order, atomic writing. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import {
  countExits,
  countExitsBy,
  layerFields,
  type ResultRow,
  type Results,
  readResults,
  sortRows,
  validateResults,
  writeResults,
} from "../src/results.js";
import { temporaryFolder } from "./helpers.js";

const row = (changes: Partial<ResultRow> = {}): ResultRow => ({
  task: "rte",
  method: "entropy",
  seed: 42,
  split: "dev",
  metric: "accuracy",
  score: 0.66,
  fullScore: 0.67,
  operatingPoint: "one-percent",
  knob: { name: "threshold", value: 0.1 },
  options: {},
  ...layerFields([1, 2, 4, 4], 4),
  savedRuntime: 0.123456,
  n: 4,
  ...changes,
});
const results = (rows: readonly ResultRow[]): Results => ({
  schema: 1,
  command: "bench glue",
  preset: "small",
  backbone: "fresh:4x32",
  data: { source: "embedded" },
  rows,
});

describe("layer fields", () => {
  it("agree with the worked example: 10 exits at 1, 30 at 6, 60 at 12", () => {
    const exits = [
      ...new Array<number>(10).fill(1),
      ...new Array<number>(30).fill(6),
      ...new Array<number>(60).fill(12),
    ];
    const { meanExitLayer, savedLayers, speedup, exitHistogram } = layerFields(exits, 12);
    expect(meanExitLayer).toBeCloseTo(9.1, 12);
    expect(savedLayers).toBeCloseTo(0.24167, 5);
    expect(speedup).toBeCloseTo(1.31868, 5);
    expect(exitHistogram).toEqual([10, 0, 0, 0, 0, 30, 0, 0, 0, 0, 0, 60]);
  });

  it("are null without exit layers, and refuse layers that don't exist", () => {
    expect(layerFields(null, 12).meanExitLayer).toBeNull();
    expect(() => countExits([0], 12)).toThrow(/from 1 to 12, got 0/);
    expect(() => countExits([13], 12)).toThrow(/got 13/);
    expect(() => countExits([], 12)).toThrow(/at least one/);
  });

  it("count exits by group", () => {
    expect(countExitsBy([1, 2, 2, 3], 3, ["word", "whole", "word", "whole"])).toEqual({
      word: [1, 1, 0],
      whole: [0, 1, 1],
    });
  });
});

describe("writing", () => {
  it("sorts rows, rounds times and reads back what it wrote", async () => {
    const file = path.join(await temporaryFolder(), "runs", "a", "results.json");
    const rows = [
      row({ task: "sst-2" }),
      row({ operatingPoint: "curve", savedRuntime: null, knob: { name: "threshold", value: 0.3 } }),
      row({ operatingPoint: "curve", savedRuntime: null, knob: { name: "threshold", value: 0.2 } }),
      row({ operatingPoint: "full", knob: null }),
      row(),
    ];
    await writeResults(file, results(rows));
    const read = await readResults(file);
    expect(read.rows.map((r) => [r.task, r.operatingPoint, r.knob?.value, r.savedRuntime])).toEqual(
      [
        ["rte", "full", undefined, 0.123],
        ["rte", "one-percent", 0.1, 0.123],
        ["rte", "curve", 0.2, null],
        ["rte", "curve", 0.3, null],
        ["sst-2", "one-percent", 0.1, 0.123],
      ],
    );
    const once = await readFile(file, "utf8");
    await writeResults(file, results([...rows].reverse()));
    expect(await readFile(file, "utf8")).toBe(once);
    expect(await readdir(path.dirname(file))).toEqual(["results.json"]);
  });

  it("leaves the old file and no other when it can't write", async () => {
    const folder = await temporaryFolder();
    const file = path.join(folder, "results.json");
    // A folder under the final name lets the temporary file be written, and its renaming fail.
    await mkdir(path.join(file, "inside"), { recursive: true });
    await expect(writeResults(file, results([row()]))).rejects.toMatchObject({
      code: "WRITE_FAILED",
    });
    expect(await readdir(folder)).toEqual(["results.json"]);
  });

  it("refuses to write what it would not read", async () => {
    const folder = await temporaryFolder();
    const bad = results([row({ score: Number.NaN })]);
    await expect(writeResults(path.join(folder, "r.json"), bad)).rejects.toMatchObject({
      code: "BAD_RESULTS",
    });
    expect(await readdir(folder)).toEqual([]);
  });

  it("sorts a copy", () => {
    const rows = [row({ method: "b" }), row({ method: "a" })];
    expect(sortRows(rows).map(({ method }) => method)).toEqual(["a", "b"]);
    expect(rows[0]!.method).toBe("b");
  });
});

describe("validation", () => {
  const clone = (change: (json: Record<string, never>) => void) => {
    const json = JSON.parse(JSON.stringify(results([row()])));
    change(json);
    return json;
  };

  it("passes fields it doesn't know", () => {
    const json = clone((value: Record<string, unknown>) => {
      value.later = 1;
    });
    expect(validateResults(json)).toBe(json);
  });

  it("passes rows without exit layers", () => {
    const json = results([row({ ...layerFields(null, 4), method: "hash-ee" })]);
    expect(validateResults(json)).toBe(json);
  });

  it.each([
    ["schema", { schema: 2 }, /schema: expected 1, got 2/],
    ["source", { data: { source: "ftp" } }, /data: expected an object whose source/],
    ["rows", { rows: {} }, /rows: expected a list/],
    ["knob", { rows: [row({ knob: 3 as never })] }, /rows\[0\]\.knob: expected null or/],
    ["point", { rows: [row({ operatingPoint: "best" as never })] }, /one of full, no-loss/],
    [
      "curve time",
      { rows: [row({ operatingPoint: "curve" })] },
      /savedRuntime: expected null on a curve/,
    ],
    ["histogram", { rows: [row({ exitHistogram: [1, 1, 0, 1] })] }, /add up to n = 4/],
    ["histogram length", { rows: [row({ exitHistogram: [4] })] }, /expected 4 counts/],
    ["saved", { rows: [row({ savedLayers: 0.9 })] }, /savedLayers: expected 1 - meanExitLayer/],
    ["speedup", { rows: [row({ speedup: 9 })] }, /speedup: expected layers/],
    ["half null", { rows: [row({ meanExitLayer: null })] }, /a value, as layers has one/],
  ])("refuses a wrong %s", (_, change, message) => {
    const json = { ...results([row()]), ...change };
    expect(() => validateResults(json, "r.json")).toThrow(message);
    expect(() => validateResults(json, "r.json")).toThrow(/^\[r\.json\]/);
  });

  it("names a file that isn't JSON, or isn't there", async () => {
    const folder = await temporaryFolder({ "cut.json": '{"schema": 1' });
    await expect(readResults(path.join(folder, "cut.json"))).rejects.toThrow(
      /cut\.json\] expected JSON/,
    );
    await expect(readResults(path.join(folder, "none.json"))).rejects.toMatchObject({
      code: "MISSING_FILE",
    });
    await writeFile(path.join(folder, "list.json"), "[]");
    await expect(readResults(path.join(folder, "list.json"))).rejects.toThrow(/expected an object/);
  });
});

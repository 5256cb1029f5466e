/** @file GLUE files: layouts, quotes, byte order marks, malformed rows and errors. */
import { existsSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { describeProblems, listGlueTasks, loadGlueTask } from "../src/data/glue.js";
import { glueTask } from "../src/data/glue-tasks.js";
import { parseTsv } from "../src/data/tsv.js";
import { temporaryFolder } from "./helpers.js";

const tsv = (...rows: string[][]) => rows.map((row) => `${row.join("\t")}\n`).join("");

const rteHeader = ["index", "sentence1", "sentence2", "label"];
const rte = tsv(
  rteHeader,
  ["0", "A cat sat.", "A cat.", "entailment"],
  ["1", "A dog ran.", "A cat.", "not_entailment"],
);

describe("official layouts", () => {
  it("reads RTE, with ids made of the split, the index and the line", async () => {
    const folder = await temporaryFolder({ "RTE/train.tsv": rte, "RTE/dev.tsv": rte });
    const { task, splits, problems } = await loadGlueTask(folder, "rte");
    expect(task.name).toBe("rte");
    expect(splits.train).toEqual([
      { id: "train:0#2", text: "A cat sat.", pair: "A cat.", label: 0 },
      { id: "train:1#3", text: "A dog ran.", pair: "A cat.", label: 1 },
    ]);
    expect(splits.dev[0]!.id).toBe("dev:0#2");
    expect(splits.devMismatched).toBeUndefined();
    expect(problems).toEqual([]);
  });

  it("reads MRPC with a byte order mark, CRLF and literal quotes", async () => {
    const text = `\uFEFFQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t11\t12\tHe said " yes " .\t" Yes , " he said .\r\n0\t13\t14\t"Odd.\t""Odder"\r\n`;
    const folder = await temporaryFolder({ "MRPC/train.tsv": text, "MRPC/dev.tsv": text });
    const { splits } = await loadGlueTask(folder, "mrpc");
    expect(splits.train).toEqual([
      { id: "train#2", text: 'He said " yes " .', pair: '" Yes , " he said .', label: 1 },
      { id: "train#3", text: '"Odd.', pair: '""Odder"', label: 0 },
    ]);
  });

  it("reads SST-2 from a folder named sst2", async () => {
    const text = tsv(["sentence", "label"], ["charming ", "1"], ["bleak", "0"]);
    const folder = await temporaryFolder({ "sst2/train.tsv": text, "sst2/dev.tsv": text });
    const { splits } = await loadGlueTask(folder, "SST-2");
    expect(splits.train).toEqual([
      { id: "train#2", text: "charming", label: 1 },
      { id: "train#3", text: "bleak", label: 0 },
    ]);
    expect(await listGlueTasks(folder)).toEqual(["sst-2"]);
  });

  it("reads QNLI", async () => {
    const text = tsv(
      ["index", "question", "sentence", "label"],
      ["7", "Who?", "Ben.", "entailment"],
    );
    const folder = await temporaryFolder({ "QNLI/train.tsv": text, "QNLI/dev.tsv": text });
    const { splits } = await loadGlueTask(folder, "qnli");
    expect(splits.dev).toEqual([{ id: "dev:7#2", text: "Who?", pair: "Ben.", label: 0 }]);
  });

  it("reads QQP as GLUE ships it, and as the CSV-quoted copy with an index", async () => {
    const official = tsv(
      ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
      ["5", "1", "2", "Why?", "How come?", "1"],
      ["6", "3", "4", "Broken"],
      ...Array.from({ length: 12 }, (_, at) => [`${at + 20}`, "5", "6", "Who?", "What?", "0"]),
    );
    const quoted = tsv(
      ["index", "question1", "question2", "is_duplicate"],
      ["48", '"Is ""rightness"" just?"', "Does it?", "0"],
      ["49", '"What is a\ttab?"', '"plain"', "1"],
    );
    const folder = await temporaryFolder({ "QQP/train.tsv": official, "QQP/dev.tsv": quoted });
    const { splits, problems } = await loadGlueTask(folder, "qqp");
    expect(splits.train).toHaveLength(13);
    expect(splits.train[0]).toEqual({
      id: "train:5#2",
      text: "Why?",
      pair: "How come?",
      label: 1,
    });
    expect(splits.dev.map(({ text, pair }) => [text, pair])).toEqual([
      ['Is "rightness" just?', "Does it?"],
      ["What is a\ttab?", "plain"],
    ]);
    const file = path.join(folder, "QQP", "train.tsv");
    expect(problems).toEqual([
      { file, count: 1, examples: [{ line: 3, problem: "expected 6 fields, found 4" }] },
    ]);
    expect(describeProblems(problems[0]!)).toBe(
      `${file}: left out 1 malformed row (line 3: expected 6 fields, found 4)`,
    );
  });

  it("reads MNLI with many columns and with four, matched and mismatched", async () => {
    const many = tsv(
      ["index", "promptID", "pairID", "genre", "sentence1", "sentence2", "label1", "gold_label"],
      ["0", "1", "1e", "fiction", "It rains.", "It is wet.", "neutral", "entailment"],
      ["1", "2", "2n", "fiction", "It snows.", "It is late.", "neutral", "neutral"],
      ...Array.from({ length: 10 }, () => ["2", "3", "3c", "f", "A.", "B.", "-", "contradiction"]),
      ["3", "3", "3c", "f", "A.", "B.", "-", "-"],
    );
    const four = tsv(
      ["index", "sentence1", "sentence2", "gold_label"],
      ["9", "It rains.", "It is dry.", "contradiction"],
    );
    const folder = await temporaryFolder({
      "MNLI/train.tsv": four,
      "MNLI/dev_matched.tsv": many,
      "MNLI/dev_mismatched.tsv": four,
    });
    const { task, splits, problems } = await loadGlueTask(folder, "mnli");
    expect(task.labels).toEqual(["entailment", "neutral", "contradiction"]);
    expect(splits.train[0]!.label).toBe(2);
    expect(splits.dev.slice(0, 2).map(({ label }) => label)).toEqual([0, 1]);
    expect(splits.devMismatched).toEqual([
      { id: "devMismatched:9#2", text: "It rains.", pair: "It is dry.", label: 2 },
    ]);
    expect(problems[0]!.examples[0]).toEqual({
      line: 14,
      problem: "no label that annotators agreed on",
    });
  });

  it("reads STS-B scores as numbers", async () => {
    const text = tsv(
      ["index", "genre", "filename", "year", "sentence1", "sentence2", "score"],
      ["3", "news", "f", "2012", "A plane.", "A jet.", "4.250"],
    );
    const folder = await temporaryFolder({ "STS-B/train.tsv": text, "STS-B/dev.tsv": text });
    const { task, splits } = await loadGlueTask(folder, "stsb");
    expect(task).toMatchObject({ name: "sts-b", regression: true, metric: "spearman" });
    expect(splits.dev[0]!.label).toBe(4.25);
  });
});

describe("row limits", () => {
  const rows = Array.from({ length: 50 }, (_, at) => [`${at}`, `a ${at}`, "b", "entailment"]);
  const text = tsv(rteHeader, ...rows);

  it("take a seeded subset in file order, smaller ones out of larger ones", async () => {
    const folder = await temporaryFolder({ "RTE/train.tsv": text, "RTE/dev.tsv": text });
    const ids = async (train: number, seed: number) =>
      (await loadGlueTask(folder, "rte", { limit: { train }, seed })).splits.train.map(
        ({ id }) => id,
      );
    const ten = await ids(10, 1);
    const twenty = await ids(20, 1);
    expect(ten).toHaveLength(10);
    expect(twenty).toEqual(expect.arrayContaining(ten));
    expect(await ids(10, 1)).toEqual(ten);
    expect(await ids(10, 2)).not.toEqual(ten);
    const lines = ten.map((id) => Number(id.split("#")[1]));
    expect(lines).toEqual([...lines].sort((a, b) => a - b));
    expect(await ids(99, 1)).toHaveLength(50);
  });

  it("refuse a limit that isn't a count", async () => {
    const folder = await temporaryFolder({ "RTE/train.tsv": text, "RTE/dev.tsv": text });
    await expect(loadGlueTask(folder, "rte", { limit: { dev: 0 } })).rejects.toMatchObject({
      code: "BAD_OPTION",
    });
  });
});

describe("errors name the file, the line, what was found and what was expected", () => {
  const load = async (files: Record<string, string | Uint8Array>, name = "rte") =>
    loadGlueTask(await temporaryFolder(files), name);

  it("for an unknown task", () => {
    expect(() => glueTask("sst-3")).toThrow(
      /got "sst-3"\. Did you mean "sst-2"\? Known: rte, mrpc/,
    );
  });

  it("for a missing data folder, task folder or file", async () => {
    await expect(loadGlueTask("/no/such/folder", "rte")).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: expect.stringContaining("[/no/such/folder]"),
    });
    await expect(load({ "MRPC/train.tsv": rte })).rejects.toThrow(
      /expected a folder RTE for task rte, found MRPC/,
    );
    await expect(load({ "RTE/train.tsv": rte })).rejects.toThrow(/dev\.tsv\] the file is missing/);
  });

  it("for two folders that could hold the task", async () => {
    const files = { "RTE/train.tsv": rte, "rte/train.tsv": rte };
    await expect(load(files)).rejects.toThrow(/found (RTE and rte|rte and RTE)/);
  });

  it("for a file that was cut short within a line", async () => {
    const cut = rte.slice(0, rte.indexOf("not_entailment") - 1);
    await expect(load({ "RTE/train.tsv": cut })).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringMatching(/line 3: expected 4 fields, found 3, .*cut short/),
    });
  });

  it("for a file that was cut short within a label", async () => {
    await expect(load({ "RTE/train.tsv": rte.slice(0, -4) })).rejects.toThrow(
      /line 3, column label: expected one of entailment, not_entailment, found "not_entailm"/,
    );
  });

  it("for an empty file, a lone header, bytes that aren't UTF-8 and a wrong column", async () => {
    await expect(load({ "RTE/train.tsv": "" })).rejects.toThrow(/line 1: expected a header/);
    const header = tsv(rteHeader);
    await expect(load({ "RTE/train.tsv": header })).rejects.toThrow(/expected rows below/);
    const bytes = new Uint8Array([...Buffer.from(rte), 0xc3]);
    await expect(load({ "RTE/train.tsv": bytes })).rejects.toThrow(/expected UTF-8/);
    const renamed = rte.replace("sentence2", "second");
    await expect(load({ "RTE/train.tsv": renamed })).rejects.toMatchObject({
      code: "BAD_COLUMN",
      message: expect.stringMatching(/line 1: expected a column sentence2 .* "second"/),
    });
  });

  it("for an unknown label and a score out of range", async () => {
    const label = rte.replace("not_entailment", "contradiction");
    await expect(load({ "RTE/train.tsv": label })).rejects.toMatchObject({
      code: "BAD_LABEL",
      message: expect.stringContaining("line 3, column label: expected one of"),
    });
    const stsb = tsv(["index", "sentence1", "sentence2", "score"], ["0", "a", "b", "5.5"]);
    await expect(load({ "STS-B/train.tsv": stsb }, "sts-b")).rejects.toThrow(
      /expected a number from 0 to 5, found "5.5"/,
    );
  });

  it("for a file that is mostly malformed", () => {
    const text = tsv(rteHeader, ["0", "a", "b", "entailment"], ["1", "a"], ["2"]);
    expect(() => parseTsv(text, "x.tsv")).toThrow(/2 of 3 rows are malformed, the first at line 3/);
  });
});

const dataFolder = process.env.CEE_DATA_DIR;
const glueFolder = dataFolder ? path.join(dataFolder, "glue") : "";
describe.skipIf(!existsSync(glueFolder))("the real files (CEE_DATA_DIR)", () => {
  it.each([
    ["rte", 2490, 277],
    ["mrpc", 3668, 408],
    ["sst-2", 67349, 872],
    ["qnli", 10475, 5463],
    ["qqp", 10000, 20215],
    ["mnli", 10000, 9815],
  ])("%s has every row", async (name, train, dev) => {
    const { splits, problems } = await loadGlueTask(glueFolder, name);
    expect([splits.train.length, splits.dev.length]).toEqual([train, dev]);
    expect(problems).toEqual([]);
    expect(new Set(splits.train.map(({ id }) => id)).size).toBe(train);
  });
});

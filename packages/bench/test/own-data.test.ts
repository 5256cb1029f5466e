/** @file A user's own tables as tasks: every format gives the same rows, and what can't be used is named. */
import { parquetWriteBuffer } from "hyparquet-writer";
import { describe, expect, it } from "vitest";
import { loadOwnRows, loadOwnTask } from "../src/data/own-task.js";
import { temporaryFolder } from "./helpers.js";

const texts = Array.from({ length: 40 }, (_, row) => `film "number" ${row}, a story`);
const labels = texts.map((_, row) => (row % 3 === 0 ? "good" : "bad"));

function parquet(): Uint8Array {
  const buffer = parquetWriteBuffer({
    columnData: [
      { name: "text", data: texts, type: "STRING" },
      { name: "label", data: labels, type: "STRING" },
    ],
  });
  return new Uint8Array(buffer);
}

const rows = (line: (text: string, label: string) => string) =>
  texts.map((text, row) => line(text, labels[row] as string)).join("\n");

const formats: Readonly<Record<string, string | Uint8Array>> = {
  "rows.tsv": `text\tlabel\n${rows((text, label) => `${text}\t${label}`)}\n`,
  "rows.csv": `\uFEFFText,LABEL\r\n${rows((text, label) => `"${text.replaceAll('"', '""')}",${label}`)}\r\n`,
  "rows.jsonl": rows((text, label) => JSON.stringify({ text, label, more: 1 })),
  "rows.parquet": parquet(),
};

describe("a task of one's own", () => {
  it.each(Object.keys(formats))("is read from %s", async (name) => {
    const folder = await temporaryFolder(formats as Record<string, string>);
    const { task, splits, problems } = await loadOwnTask({ file: `${folder}/${name}`, seed: 1 });
    expect(problems).toEqual([]);
    expect(task).toMatchObject({ labels: ["bad", "good"], pair: false, metric: "accuracy" });
    expect(splits.dev).toHaveLength(4);
    const all = [...splits.train, ...splits.dev].map(({ text, label }) => `${text}=${label}`);
    expect(all.sort()).toEqual(
      texts.map((text, row) => `${text}=${labels[row] === "good" ? 1 : 0}`).sort(),
    );
    // The same tenth every time.
    const again = await loadOwnTask({ file: `${folder}/${name}`, seed: 1 });
    expect(again.splits.dev).toEqual(splits.dev);
  });

  it("takes columns, classes, pairs and numbers as they are named", async () => {
    const line = (row: number) => `a ${row}\tb ${row}\t${row}`;
    const folder = await temporaryFolder({
      "pairs.tsv": `one\ttwo\tworth\n${Array.from({ length: 30 }, (_, row) => line(row)).join("\n")}\n`,
      "dev.jsonl": '{"one": "x", "two": "y", "worth": 0.5}\n',
    });
    const { task, splits } = await loadOwnTask({
      file: `${folder}/pairs.tsv`,
      devFile: `${folder}/dev.jsonl`,
      columns: { text: "one", pair: "TWO", label: "worth" },
      regression: true,
      seed: 1,
    });
    expect(task).toMatchObject({ pair: true, regression: true, labels: [], metric: "spearman" });
    expect(splits.train).toHaveLength(30);
    expect(splits.dev).toEqual([{ id: "dev-1", text: "x", pair: "y", label: 0.5 }]);
    const ordered = await loadOwnTask({
      file: `${folder}/pairs.tsv`,
      columns: { text: "one", label: "two" },
      labels: Array.from({ length: 30 }, (_, row) => `b ${29 - row}`),
      seed: 1,
    });
    expect(ordered.task.labels[0]).toBe("b 29");
  });

  it("sorts classes that are numbers as numbers", async () => {
    const folder = await temporaryFolder({
      "stars.csv": `text,label\n${texts.map((_, row) => `t${row},${[10, 2, 1][row % 3]}`).join("\n")}\n`,
    });
    const { task } = await loadOwnTask({ file: `${folder}/stars.csv`, seed: 1 });
    expect(task.labels).toEqual(["1", "2", "10"]);
  });

  it("leaves out a few bad rows and says where they are", async () => {
    const good = rows((text, label) => JSON.stringify({ text, label }));
    const folder = await temporaryFolder({
      "rows.jsonl": `${good}\n{"text": "no label"}\nnot json\n`,
      "rows.csv": `text,label\n${rows((text, label) => `"${text.replaceAll('"', "'")}\nmore",${label}`)}\nshort\n`,
    });
    const { problems } = await loadOwnTask({ file: `${folder}/rows.jsonl`, seed: 1 });
    expect(problems[0]).toMatchObject({ count: 2, examples: [{ line: 41 }, { line: 42 }] });
    const csv = await loadOwnTask({ file: `${folder}/rows.csv`, seed: 1 });
    expect(csv.problems[0]).toMatchObject({
      examples: [{ line: 82, problem: "expected 2 fields, found 1" }],
    });
    const other = loadOwnRows(`${folder}/rows.jsonl`, {}, { labels: ["yes", "no"] });
    await expect(other).rejects.toThrow('the label "good" is none of yes, no');
  });

  it.each([
    ["rows.txt", "a\n", {}, "BAD_FILE", "ends in .tsv, .csv"],
    ["missing.csv", undefined, {}, "MISSING_FILE", "no such file"],
    ["missing.parquet", undefined, {}, "MISSING_FILE", "no such file"],
    ["bad.parquet", "PAR0", {}, "BAD_FILE", "can't be read"],
    ["empty.csv", "", {}, "BAD_FILE", "empty file"],
    ["head.csv", "text,label\n", {}, "BAD_FILE", "expected rows"],
    ["quote.csv", 'text,label\n"a,1\nb,2\n', {}, "BAD_FILE", "is not CSV"],
    ["words.jsonl", "hello\nyou\n", {}, "BAD_FILE", "line 1: not JSON"],
    ["columns.csv", "txet,lable\na,b\n", {}, "BAD_COLUMN", "Name it with --text"],
    ["asked.csv", "text,label\na,b\n", { text: "txt" }, "BAD_COLUMN", 'Did you mean "text"?'],
    ["one.csv", "text,label\na,b\nc,b\n", {}, "BAD_LABEL", 'only "b"'],
    ["few.csv", "text,label\na,b\nc,d\n", {}, "BAD_FILE", "at least 20 rows"],
  ] as const)("%s is refused", async (name, text, columns, code, message) => {
    const folder = await temporaryFolder(text === undefined ? {} : { [name]: text });
    const error = await loadOwnTask({ file: `${folder}/${name}`, columns, seed: 1 }).catch(
      (cause: unknown) => cause,
    );
    expect(error).toMatchObject({ code });
    expect((error as Error).message).toContain(message);
  });

  it("with as many labels as rows asks for a regression", async () => {
    const folder = await temporaryFolder({
      "numbers.csv": `text,label\n${texts.map((_, row) => `t,${row / 7}`).join("\n")}\n`,
    });
    await expect(loadOwnTask({ file: `${folder}/numbers.csv`, seed: 1 })).rejects.toThrow(
      "need --regression",
    );
  });
});

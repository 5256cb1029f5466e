/** @file Test rows answered into the files that the GLUE server takes. */
import { existsSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { loadEmbeddedTask } from "../src/data/embedded.js";
import { loadGlueTask } from "../src/data/glue.js";
import { glueTask } from "../src/data/glue-tasks.js";
import { formatSubmission } from "../src/glue/submission.js";
import { bench, sentenceFile } from "./glue-helpers.js";
import { temporaryFolder } from "./helpers.js";

/** The lines of a file below its header, as columns. */
async function linesOf(file: string): Promise<string[][]> {
  const [header, ...lines] = (await readFile(file, "utf8")).trimEnd().split("\n");
  expect(header).toBe("index\tprediction");
  return lines.map((line) => line.split("\t"));
}

describe("a submission", () => {
  const rows = [{ index: "0" }, { index: "1" }, { index: "2" }];

  it.each([
    ["rte", [1, 0, 1], ["not_entailment", "entailment", "not_entailment"]],
    ["qnli", [0, 0, 1], ["entailment", "entailment", "not_entailment"]],
    ["mnli", [0, 1, 2], ["entailment", "neutral", "contradiction"]],
    ["sst-2", [1, 0, 1], ["1", "0", "1"]],
    ["mrpc", [1, 0, 0], ["1", "0", "0"]],
    ["qqp", [0, 0, 1], ["0", "0", "1"]],
    ["sts-b", [-0.3, 2.34567, 7], ["0.000", "2.346", "5.000"]],
  ])("writes labels as the server wants them: %s", (name, predictions, expected) => {
    expect(formatSubmission(glueTask(name), rows, predictions)).toBe(
      `index\tprediction\n${expected.map((label, row) => `${row}\t${label}`).join("\n")}\n`,
    );
  });

  it("is refused when an answer is none", () => {
    expect(() => formatSubmission(glueTask("rte"), rows, [0, -1, 0])).toThrow(
      "row 1 was answered with -1",
    );
    expect(() => formatSubmission(glueTask("sts-b"), rows, [0, Number.NaN, 0])).toThrow("NaN");
  });
});

describe("test rows", () => {
  it("of generated tasks hide their labels, and change no other row", () => {
    const plain = loadEmbeddedTask("nli3", { devRows: 20, trainRows: 40 });
    const { splits } = loadEmbeddedTask("nli3", {
      devRows: 20,
      trainRows: 40,
      testRows: 30,
      test: true,
    });
    expect({ train: splits.train, dev: splits.dev }).toEqual(plain.splits);
    expect(splits.test).toHaveLength(30);
    expect(splits.test?.every(({ label }) => Number.isNaN(label))).toBe(true);
    expect(splits.test?.map(({ index }) => index)).toEqual(
      Array.from({ length: 30 }, (_, row) => String(row)),
    );
    expect(splits.test?.some((row) => "hardness" in row)).toBe(false);
  });

  it("of files are all kept, empty sentences too, under the index of the file", async () => {
    const folder = await temporaryFolder({
      "SST-2/train.tsv": sentenceFile(8),
      "SST-2/dev.tsv": sentenceFile(8),
      "SST-2/test.tsv": "index\tsentence\n0\ta film\n1\t\n2\tthe end\n",
    });
    const { splits } = await loadGlueTask(folder, "sst-2", { test: true });
    expect(splits.test?.map(({ index, text }) => [index, text])).toEqual([
      ["0", "a film"],
      ["1", ""],
      ["2", "the end"],
    ]);
    expect((await loadGlueTask(folder, "sst-2")).splits).not.toHaveProperty("test");
    await rm(path.join(folder, "SST-2", "test.tsv"));
    await expect(loadGlueTask(folder, "sst-2", { test: true })).rejects.toMatchObject({
      code: "MISSING_FILE",
    });
  });
});

describe("--split test", () => {
  it("answers as on dev, by early stopping for real, and answers lost files again", async () => {
    // The same sentences as test rows: what early stopping says of them has to be what dev's record says.
    const sentences = sentenceFile(12);
    const test = sentences
      .trimEnd()
      .split("\n")
      .map((line, row) => `${row === 0 ? "index" : row - 1}\t${line.split("\t")[0]}`);
    const folder = await temporaryFolder({
      "SST-2/train.tsv": sentenceFile(24),
      "SST-2/dev.tsv": sentences,
      "SST-2/test.tsv": `${test.join("\n")}\n`,
    });
    const out = path.join(folder, "run");
    const words = [
      `--data=${folder}`,
      "--tasks=sst-2",
      "--methods=entropy,oracle",
      "--epochs=4",
      "--split=test",
      `--out=${out}`,
    ];
    const { failures, printed, results } = await bench(words);
    expect(failures).toEqual([]);
    const cell = async (method: string) =>
      JSON.parse(await readFile(path.join(out, "answers", `sst-2.${method}.42.json`), "utf8"))
        .splits[0];
    const fileOf = (method: string, point: string) =>
      path.join(out, "submissions", method, point, "seed-42", "SST-2.tsv");
    const full = await linesOf(fileOf("full", "full"));
    expect(full.map(([index]) => index)).toEqual(test.slice(1).map((_, row) => String(row)));
    expect(full.map(([, label]) => label).join("")).toBe(
      (await cell("full")).points.full.predictions,
    );
    const points = (await cell("entropy")).points as Record<string, { predictions: string }>;
    expect(Object.keys(points).length).toBeGreaterThan(0);
    for (const [point, { predictions }] of Object.entries(points)) {
      const lines = await linesOf(fileOf("entropy", point));
      expect(lines.map(([, label]) => label).join("")).toBe(predictions);
    }
    // A control that knows the labels has nothing to submit.
    expect(existsSync(path.join(out, "submissions", "oracle"))).toBe(false);
    expect(printed.join("\n")).toContain("oracle: is no model that answers test rows");
    expect(results.data).toMatchObject({ tasks: { "sst-2": { test: 12 } } });

    await rm(path.join(out, "submissions", "entropy"), { recursive: true });
    const again = await bench([...words, "--resume"]);
    expect(again.steps).toEqual([]);
    expect((await readdir(path.join(out, "submissions", "entropy"))).sort()).toEqual(
      Object.keys(points).sort(),
    );
  });

  it("works on generated tasks, in the form of the task that each mirrors", async () => {
    const out = path.join(await temporaryFolder(), "run");
    const { failures } = await bench([
      "--tasks=nli3,similarity",
      "--methods=full",
      "--split=test",
      `--out=${out}`,
    ]);
    expect(failures).toEqual([]);
    const folder = path.join(out, "submissions", "full", "full", "seed-42");
    expect((await readdir(folder)).sort()).toEqual(["MNLI-m.tsv", "STS-B.tsv"]);
    const labels = (await linesOf(path.join(folder, "MNLI-m.tsv"))).map(([, label]) => label);
    expect(labels).toHaveLength(200);
    for (const label of labels) expect(["entailment", "neutral", "contradiction"]).toContain(label);
    for (const [, value] of await linesOf(path.join(folder, "STS-B.tsv")))
      expect(value).toMatch(/^[0-5]\.\d{3}$/);
  });
});

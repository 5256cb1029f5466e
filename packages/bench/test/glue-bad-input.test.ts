/** @file Bad input to `bench glue`: one clear error, a non-zero exit code, finished work intact, no half-written file. */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import {
  createBertConfig,
  createExitEncoder,
  createWordPieceTokenizer,
  saveExitEncoder,
} from "@cee/backbone";
import { describe, expect, it, vi } from "vitest";
import { main } from "../src/cli.js";
import { readResults } from "../src/results.js";
import { bench, benchChild, sentenceFile, strategySource, tiny } from "./glue-helpers.js";
import { temporaryFolder } from "./helpers.js";

/** A folder with SST-2 in GLUE's layout; `files` replaces or adds files. */
function dataFolder(files: Record<string, string> = {}) {
  return temporaryFolder({
    "SST-2/train.tsv": sentenceFile(24),
    "SST-2/dev.tsv": sentenceFile(12),
    ...files,
  });
}

describe("data", () => {
  const run = (data: string, ...words: string[]) =>
    bench([`--data=${data}`, "--methods=full", `--out=${path.join(data, "out")}`, ...words]);

  it("runs where everything is right, and counts rows that it left out", async () => {
    const data = await dataFolder({
      "SST-2/train.tsv": `${sentenceFile(24)}a line without a label\n`,
    });
    const { results, printed } = await run(data);
    expect(results.rows).toHaveLength(1);
    expect(results.data).toMatchObject({ tasks: { "sst-2": { train: 24, malformed: 1 } } });
    expect(printed.join("\n")).toContain("train.tsv: left out 1 malformed row (line 26");
  });

  it.each([
    ["an empty folder", { "SST-2/dev.tsv": "" }, "BAD_FILE", "dev.tsv"],
    [
      "a wrong column",
      { "SST-2/dev.tsv": sentenceFile(9, "text\tlabel") },
      "BAD_COLUMN",
      "dev.tsv",
    ],
    [
      "a wrong label",
      { "SST-2/dev.tsv": `${sentenceFile(9)}a film\tmaybe\n` },
      "BAD_LABEL",
      "dev.tsv",
    ],
    ["too few rows", { "SST-2/dev.tsv": sentenceFile(1) }, "BAD_INPUT", "sst-2"],
  ])("%s: names the file and leaves nothing", async (_, files, code, who) => {
    const data = await dataFolder(files);
    const error = await run(data).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code });
    expect((error as Error).message).toContain(who);
    expect(await readdir(data)).toEqual(["SST-2"]);
  });

  it("a missing file, a missing task, a folder without tasks", async () => {
    const missing = await temporaryFolder({ "SST-2/train.tsv": sentenceFile(24) });
    await expect(run(missing)).rejects.toMatchObject({ code: "MISSING_FILE" });
    const data = await dataFolder();
    await expect(run(data, "--tasks=rte")).rejects.toThrow("expected a folder RTE for task rte");
    await expect(run(data, "--tasks=sst-3")).rejects.toThrow('Did you mean "sst-2"?');
    await expect(run(data, "--tasks=sentiment")).rejects.toThrow("embedded task");
    const empty = await temporaryFolder({ "notes/a.txt": "" });
    await expect(run(empty)).rejects.toThrow("holds no GLUE task");
  });
});

describe("backbone", () => {
  /** A small encoder on disk, with its tokenizer. */
  async function modelFolder() {
    const folder = await temporaryFolder();
    const words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "dull", "lovely", "is"];
    const tokenizer = createWordPieceTokenizer(words, { lowercase: true });
    const config = createBertConfig({
      vocabSize: 16,
      hidden: 16,
      depth: 2,
      heads: 2,
      maxPositions: 16,
    });
    const encoder = createExitEncoder({ config, classes: 2, seed: 1, tokenizer });
    await saveExitEncoder(encoder, folder);
    return folder;
  }
  const run = (folder: string, out: string) =>
    bench([
      "--tasks=sentiment",
      "--methods=full",
      `--backbone=${folder}`,
      `--out=${path.join(out, "run")}`,
    ]);

  it("in a folder runs", async () => {
    const folder = await modelFolder();
    const { results } = await run(folder, await temporaryFolder());
    expect(results.backbone).toBe(folder);
    expect(results.rows[0]).toMatchObject({ method: "full", layers: 2 });
  });

  it("with a tokenizer that does not fit, or lying or truncated weights, is refused before anything is written", async () => {
    const out = await temporaryFolder();
    const tooLarge = await modelFolder();
    const config = path.join(tooLarge, "config.json");
    const vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    for (let index = 5; index < 40; index += 1) vocabulary.push(`word${index}`);
    await writeFile(path.join(tooLarge, "vocab.txt"), `${vocabulary.join("\n")}\n`);
    await rm(path.join(tooLarge, "tokenizer.json"), { force: true });
    expect(JSON.parse(await readFile(config, "utf8")).vocab_size).toBe(16);
    await expect(run(tooLarge, out)).rejects.toMatchObject({ code: "BAD_TOKENIZER" });

    const truncated = await modelFolder();
    const weights = path.join(truncated, "model.safetensors");
    const bytes = await readFile(weights);
    await writeFile(weights, bytes.subarray(0, bytes.length - 100));
    await expect(run(truncated, out)).rejects.toThrow(/model\.safetensors/);
    expect(await readdir(out)).toEqual([]);
  });
});

describe("strategies", () => {
  it("one that fails is marked as failed, the others finish, and the exit code says so", async () => {
    const broken: Record<string, string> = {
      "bad-observe": 'observe() { throw new Error("no numbers today"); },',
      "bad-decide": 'decide() { throw new Error("cannot decide"); },',
      "bad-verdict": "decide: () => true,",
      "bad-phases": 'phases() { throw new Error("no plan"); },',
      "bad-loss": `*phases() {
        yield {
          name: "explode", trains: ["backbone.**", "heads.**"], epochs: 1, batchSize: 8, learningRate: 1e-3,
          losses: { nan: ({ exits, perRow }) => tf.mul(tf.sum(tf.log(tf.sub(exits[0].probs, 2))), perRow) },
        };
      },`,
      "bad-rate": `*phases() {
        yield {
          name: "diverge", trains: ["backbone.**", "heads.**"], epochs: 40, batchSize: 8, learningRate: 9e8,
          losses: { all: ({ exits, perRow }) => tf.mul(tf.sum(tf.square(tf.square(exits[1].logits))), perRow) },
        };
      },`,
    };
    const names = Object.keys(broken);
    const folder = await temporaryFolder(
      Object.fromEntries(
        Object.entries(broken).map(([name, body]) => [`${name}.ts`, strategySource(name, body)]),
      ),
    );
    const out = path.join(folder, "run");
    const words = [
      "--tasks=sentiment",
      "--methods=entropy",
      ...names.map((name) => `--strategy=${path.join(folder, `${name}.ts`)}`),
      `--out=${out}`,
    ];
    let [stdout, stderr] = ["", ""];
    vi.spyOn(process.stdout, "write").mockImplementation((text) => {
      stdout += text;
      return true;
    });
    vi.spyOn(process.stderr, "write").mockImplementation((text) => {
      stderr += text;
      return true;
    });
    const code = await main(["glue", ...tiny, ...words]).finally(() => vi.restoreAllMocks());
    expect(code).toBe(1);

    const { rows, failures = [] } = await readResults(path.join(out, "results.json"));
    expect(new Set(rows.map(({ method }) => method))).toEqual(new Set(["full", "entropy"]));
    const messages = Object.fromEntries(failures.map(({ method, message }) => [method, message]));
    expect(Object.keys(messages)).toEqual(names);
    expect(messages["bad-observe"]).toContain("no numbers today");
    expect(messages["bad-decide"]).toContain("cannot decide");
    expect(messages["bad-verdict"]).toContain("{ exit: boolean, state }");
    expect(messages["bad-phases"]).toContain("no plan");
    expect(messages["bad-loss"]).toMatch(/\[explode\] the .* is NaN at step 1 of/);
    expect(messages["bad-rate"]).toMatch(/\[diverge\] .*(NaN|Infinity).*Lower the learning rate/s);
    for (const name of names) {
      expect(stderr).toContain(`sentiment · ${name} · seed 42 failed: `);
      expect(stdout).toContain(`FAILED sentiment, ${name}, seed 42: `);
    }
    expect(stdout).toContain("| DeeBERT's rule (entropy) |");
    expect(stderr).toContain("6 of the cells failed");
    expect(await readFile(path.join(out, "report.html"), "utf8")).toContain("cannot decide");
    expect((await readdir(path.join(out, "cells"))).sort()).toEqual([
      "sentiment.entropy.42.json",
      "sentiment.full.42.json",
    ]);

    // Mended, the run goes on: only what failed runs again.
    const mended = path.join(folder, "bad-decide.ts");
    await writeFile(mended, strategySource("bad-decide"));
    const again = await bench([
      "--tasks=sentiment",
      "--methods=entropy",
      // A module is loaded once per process, so the mended file needs another name.
      `--strategy=${await copyOf(mended, path.join(folder, "mended.ts"))}`,
      "--resume",
      `--out=${out}`,
    ]);
    expect(again.failures).toEqual([]);
    expect(again.steps).toEqual([]);
    expect(again.results.rows.some(({ method }) => method === "bad-decide")).toBe(true);
  });

  it("files that are none, and names that are taken, are refused before anything runs", async () => {
    const folder = await temporaryFolder({
      "none.ts": "export default 1;",
      "throws.ts": 'throw new Error("broken module");',
      "taken.ts": strategySource("consistentee"),
      "needy.ts": strategySource("needy", "options: v.strictObject({ threshold: v.number() }),"),
    });
    const run = (file: string) =>
      bench([`--strategy=${path.join(folder, file)}`, `--out=${path.join(folder, "run")}`]);
    await expect(run("none.ts")).rejects.toMatchObject({ code: "BAD_DEFINITION" });
    await expect(run("throws.ts")).rejects.toThrow("broken module");
    await expect(run("taken.ts")).rejects.toThrow("like a method that is already there");
    await expect(run("needy.ts")).rejects.toThrow("can't be used without options");
    expect(await readdir(folder)).not.toContain("run");
  });
});

describe("the output folder", () => {
  const words = ["--tasks=sentiment", "--methods=full"];

  it("that can't be written to is refused before training", async () => {
    const folder = await temporaryFolder({ file: "", "other/notes.txt": "mine" });
    const run = (out: string) => bench([...words, `--out=${path.join(folder, out)}`]);
    await expect(run("file")).rejects.toMatchObject({ code: "WRITE_FAILED", who: "--out" });
    await expect(run("file/below")).rejects.toMatchObject({ code: "WRITE_FAILED" });
    await expect(run("other")).rejects.toMatchObject({ code: "RUN_MISMATCH" });
    expect((await readdir(folder, { recursive: true })).sort()).toEqual([
      "file",
      "other",
      "other/notes.txt",
    ]);
  });

  it("on a disk that fills up: one error, what was finished stays, nothing is half written", async () => {
    const out = path.join(await temporaryFolder(), "run");
    const { code, stderr, stdout } = await benchChild(
      ["glue", ...tiny, ...words, `--out=${out}`],
      // Enough for the description of the run, not for a checkpoint.
      { largestFile: 4 },
    );
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(stderr.trim().split("\n").at(-1)).toMatch(/checkpoint\.safetensors.*(EFBIG|too large)/);
    const left = await readdir(out, { recursive: true });
    expect(left).toContain("run.json");
    expect(left.filter((file) => /\.(json|html|md|safetensors)$/.test(file))).toEqual(["run.json"]);
  });
});

async function copyOf(from: string, to: string): Promise<string> {
  await writeFile(to, await readFile(from));
  return to;
}

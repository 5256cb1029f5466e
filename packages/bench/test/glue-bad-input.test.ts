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
import { exitCodeOf, main } from "../src/cli.js";
import { vetPlugin } from "../src/plugins/vet.js";
import { within } from "../src/plugins/within.js";
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
  it("one that fails is marked as failed, the others finish, and the exit code says so", {
    timeout: 180_000,
  }, async () => {
    const broken: Record<string, string> = {
      // What the fixture of the conformance kit, which has six layers, does not show.
      "bad-decide": `decide(observed, state, { site, options }) {
        if (site.depth === 2) throw new Error("cannot decide");
        return { exit: observed[0] > options.threshold, state };
      },`,
      "bad-phases": `*phases({ depth }) {
        if (depth === 2) throw new Error("no plan");
      },`,
      "bad-loss": `*phases() {
        yield {
          name: "explode", trains: ["backbone.**", "heads.**"], epochs: 1, batchSize: 8, learningRate: 1e-3,
          losses: { nan: ({ exits, perRow }) =>
            tf.mul(tf.sum(tf.log(tf.sub(exits[0].probs, exits.length === 2 ? 2 : -2))), perRow) },
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
    expect(messages["bad-decide"]).toContain("cannot decide");
    expect(messages["bad-phases"]).toContain("no plan");
    expect(messages["bad-loss"]).toMatch(/\[explode\] the .* is NaN at step 1 of/);
    expect(messages["bad-rate"]).toMatch(/\[diverge\] .*(NaN|Infinity).*Lower the learning rate/s);
    for (const name of names) {
      expect(stderr).toContain(`sentiment · ${name} · seed 42 failed: `);
      expect(stdout).toContain(`FAILED sentiment, ${name}, seed 42: `);
    }
    expect(stdout).toContain("| DeeBERT's rule (entropy) |");
    expect(stderr).toContain("4 of the cells failed");
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

  it("a plugin that is broken is refused by name once, and the others run", {
    timeout: 180_000,
  }, async () => {
    const folder = await temporaryFolder({
      "taken.ts": strategySource("consistentee"),
      "leaks.ts": strategySource(
        "leaks",
        "observe: ({ probs }) => { tf.keep(tf.max(probs, 1)); return tf.max(probs, 1); },",
      ),
      "first.ts": strategySource("same"),
      "second.ts": strategySource("same"),
    });
    const names = ["taken", "leaks", "first", "second"];
    const { results, failures, printed, table } = await bench([
      "--tasks=sentiment",
      "--methods=entropy",
      ...names.map((name) => `--strategy=${path.join(folder, `${name}.ts`)}`),
      `--out=${path.join(folder, "run")}`,
    ]);
    expect(new Set(results.rows.map(({ method }) => method))).toEqual(
      new Set(["full", "entropy", "same"]),
    );
    const expected = {
      taken: "like one that is already registered",
      leaks: "observe must leave no tensors behind",
      second: "like another plugin's",
    };
    expect(Object.keys(expected)).toEqual(failures.map(({ method }) => method));
    for (const [name, message] of Object.entries(expected)) {
      const said = failures.find(({ method }) => method === name)?.message ?? "";
      expect(said).toContain(message);
      expect(said).toContain(`${name}.ts`);
      expect(printed.filter((line) => line.includes(said))).toHaveLength(1);
      expect(table).toContain(`FAILED sentiment, ${name}, seed 42: ${said}`);
    }
  });

  it("what the command line gets wrong is refused before anything runs", {
    timeout: 180_000,
  }, async () => {
    const folder = await temporaryFolder({
      "needy.ts": strategySource("needy", "options: v.strictObject({ threshold: v.number() }),"),
      "inner/index.ts": strategySource("inner"),
    });
    const run = (file: string, ...more: string[]) =>
      bench([
        `--strategy=${path.join(folder, file)}`,
        `--out=${path.join(folder, "run")}`,
        ...more,
      ]);
    const cause = async (promise: Promise<unknown>) => promise.catch((error: unknown) => error);
    for (const [words, message] of [
      [["nowhere.ts"], "no file at"],
      [["inner"], "is a folder. Name the file"],
      [["needy.ts"], "give the option a default"],
      [["needy.ts", '--strategy-options={"needy": {"threshold": "low"}}'], "Expected number"],
      [["needy.ts", "--strategy-options={"], "expected JSON with an object per strategy"],
    ] as const) {
      const [file, ...more] = words;
      const error = await cause(run(file, ...more));
      expect((error as Error).message).toContain(message);
      // One name of the plugin, and no other, comes first.
      expect((error as Error).message).not.toContain("] [");
      expect(exitCodeOf(error)).toBe(2);
    }
    expect(await readdir(folder)).not.toContain("run");
  });

  it("a slip in its syntax is said on one line, with its place", async () => {
    const folder = await temporaryFolder({
      "slip.ts": strategySource("slip").replace("({ probs }) =>", "({ probs } =>"),
    });
    const refusal = await vetPlugin("strategy", "./slip.ts", { from: folder });
    expect(refusal?.problem).toMatch(/^\[\.\/slip\.ts\] loading .*slip\.ts:\d+:\d+: ERROR: .*$/);
  });

  it("one that never returns is stopped after the time limit, whatever it is doing", {
    timeout: 180_000,
  }, async () => {
    const folder = await temporaryFolder({
      "load.ts": "while (true);",
      "decide.ts": strategySource("decide", "decide() { while (true); },"),
      "ends.ts": "process.exit(3);",
    });
    const problem = async (name: string) => {
      const options = { from: folder, seconds: 4 };
      return (await vetPlugin("strategy", `./${name}.ts`, options))?.problem;
    };
    const [load, decide, ends] = await Promise.all(["load", "decide", "ends"].map(problem));
    expect(load).toMatch(/^\[\.\/load\.ts\] did not return within 4 s, .* loading\./);
    expect(decide).toMatch(/did not return within 4 s, .* checking that .*decide/);
    expect(() => within(0.2, "my-rule", () => decideForever())).toThrow(
      "[my-rule] did not return within 0.2 s",
    );
    expect(within(1, "my-rule", () => 3)).toBe(3);
    expect(() =>
      within(1, "my-rule", () => {
        throw new RangeError("its own");
      }),
    ).toThrow(new RangeError("its own"));
    expect(ends).toContain("ended its process with code 3 while loading");
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

function decideForever(): never {
  for (;;);
}

async function copyOf(from: string, to: string): Promise<string> {
  await writeFile(to, await readFile(from));
  return to;
}

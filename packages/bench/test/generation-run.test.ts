/** @file Whole runs of `bench generation`, tiny: what they leave, what they count, and that they can be gone on with. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import {
  createBertConfig,
  createExitEncoder,
  createWordPieceTokenizer,
  createWordVocabulary,
  saveExitEncoder,
} from "@cee/backbone";
import { describe, expect, it } from "vitest";
import { parseArgs } from "../src/arguments.js";
import { generateArticles, generateInstructions } from "../src/data/embedded-texts.js";
import { generationFlags, parseGenerationOptions } from "../src/generation/options.js";
import { runGeneration } from "../src/generation/run.js";
import { type ResultRow, readResults } from "../src/results.js";
import { temporaryFolder } from "./helpers.js";

const quiet = {
  plan: () => undefined,
  update: () => undefined,
  settle: () => undefined,
  print: () => undefined,
  stop: () => undefined,
};

async function generation(words: readonly string[], signal?: AbortSignal) {
  const args = parseArgs(words, { flags: generationFlags, lists: [] });
  const options = parseGenerationOptions(args, "pnpm bench generation");
  return runGeneration(options, { progress: quiet, ...(signal ? { signal } : {}) });
}

/** An encoder for BERTScore, so that no run has to pre-train one. */
async function scorer(): Promise<string> {
  const folder = path.join(await temporaryFolder(), "tiny-encoder");
  const texts = generateArticles(40, 1).map(({ input }) => input);
  const tokenizer = createWordPieceTokenizer(createWordVocabulary(texts, 200));
  const config = createBertConfig({
    vocabSize: tokenizer.vocabSize,
    hidden: 8,
    depth: 2,
    heads: 2,
    intermediate: 16,
    maxPositions: 64,
  });
  await saveExitEncoder(createExitEncoder({ config, classes: 2, seed: 1, tokenizer }), folder);
  return `--encoder=${folder}`;
}

const tiny = [
  "--backbone=fresh:3x32",
  "--limit=80",
  "--epochs=25",
  "--prompts=4",
  "--max-new-tokens=6",
];

describe("bench generation", () => {
  it("leaves curves of both scores, responses, and a run that is gone on with unchanged", async () => {
    const out = path.join(await temporaryFolder(), "run");
    const words = [
      ...tiny,
      await scorer(),
      `--out=${out}`,
      "--methods=full,calm,consistentee,free,self-speculative",
    ];
    const { failures, table } = await generation(words);
    expect(failures).toEqual([]);
    expect(table).toContain("ConsistentEE");
    expect(await readdir(out)).toEqual(
      expect.arrayContaining(["cells", "curves", "report.html", "results.json", "trainings"]),
    );
    const results = await readResults(path.join(out, "results.json"));
    const tasks = ["articles", "articles-bertscore", "instructions", "instructions-bertscore"];
    expect([...new Set(results.rows.map(({ task }) => task))].sort()).toEqual(tasks);
    for (const row of results.rows) checkRow(row);
    const of = (method: string, task: string) =>
      results.rows.filter((row) => row.method === method && row.task === task);
    // Full depth's own responses are the reference there.
    const [full] = of("full", "instructions");
    expect(full).toMatchObject({ score: 1, meanExitLayer: 3, speedup: 1 });
    // Layers behind an exit run later: what counts is what ran, drafts that were dropped included.
    for (const method of ["free", "self-speculative"])
      for (const row of of(method, "articles").filter(({ knob }) => knob !== null)) {
        expect(row).toMatchObject({ meanExitLayer: null, savedLayers: null, exitHistogram: null });
        expect(row.cost).toBeCloseTo((row.layersPerToken as number) / 3, 12);
      }
    for (const { knob, cost } of of("self-speculative", "instructions"))
      if (knob) expect(cost).toBeGreaterThan(1);
    // Drafts are confirmed or replaced: the text is full depth's, whatever layer drafts.
    for (const row of of("self-speculative", "instructions")) expect(row.score).toBe(1);
    const exits = of("calm", "articles")
      .filter(({ operatingPoint }) => operatingPoint === "curve")
      .map(({ knob, meanExitLayer }) => [knob?.value ?? 0, meanExitLayer ?? 0] as const)
      .sort(([a], [b]) => a - b);
    expect(exits[0]?.[1]).toBeLessThan(exits.at(-1)?.[1] as number);
    expect(results.responses).toHaveLength(8);
    const report = await readFile(path.join(out, "report.html"), "utf8");
    expect(report).toContain('id="responses"');
    expect(report).toContain("speed-up, layers / mean exit layer");

    await generation([...words, "--resume"]);
    expect(await readResults(path.join(out, "results.json"))).toEqual(results);
    await expect(
      generation([...words, "--resume", "--epochs=26"].filter((word) => word !== "--epochs=25")),
    ).rejects.toMatchObject({
      code: "RUN_MISMATCH",
    });
  }, 240_000);

  it("stops when it is asked to, and says what sizes would take without running", async () => {
    const out = path.join(await temporaryFolder(), "run");
    await expect(
      generation([...tiny, await scorer(), `--out=${out}`], AbortSignal.abort()),
    ).rejects.toMatchObject({
      code: expect.stringMatching(/STOPPED|ABORTED/),
    });
    for (const [size, parameters] of [
      ["llama-7b", "6.74 billion"],
      ["llama-13b", "13.02 billion"],
    ]) {
      const { table, files } = await generation([
        `--backbone=${size}`,
        "--preset=paper",
        "--dry-run",
        `--out=${out}-${size}`,
      ]);
      expect(table).toContain(`| parameters | ${parameters}`);
      expect(table).toContain("Nothing was written");
      expect(files).toEqual([]);
      expect(existsSync(`${out}-${size}`)).toBe(false);
    }
  }, 120_000);

  it("reads Alpaca's, Dolly's and CNN/DailyMail's files, and says what was cut of the articles", async () => {
    const lines = (rows: readonly object[]) => rows.map((row) => JSON.stringify(row)).join("\n");
    const articles = generateArticles(8, 5).map(({ input, response }, index) => ({
      // Every other article is longer than the model's 512 positions.
      article: Array(index % 2 === 0 ? 1 : 40)
        .fill(input)
        .join(" "),
      highlights: response,
    }));
    const instructions = generateInstructions(36, 5);
    const data = await temporaryFolder({
      "alpaca/alpaca_data.json": JSON.stringify(
        instructions.slice(0, 32).map(({ instruction, input, response }) => ({
          instruction,
          input,
          output: response,
        })),
      ),
      "dolly/databricks-dolly-15k.jsonl": lines(
        instructions.slice(32).map(({ instruction, input, response }) => ({
          instruction,
          context: input,
          response,
          category: "open_qa",
        })),
      ),
      "cnn_dailymail/validation.jsonl": lines(articles),
    });
    const out = path.join(await temporaryFolder(), "run");
    const words = ["--backbone=fresh:2x32", "--methods=full", "--epochs=1", "--prompts=4"];
    const { results, failures } = await generation([
      ...words,
      `--data=${data}`,
      "--max-new-tokens=3",
      await scorer(),
      `--out=${out}`,
    ]);
    expect(failures).toEqual([]);
    expect(results.data).toMatchObject({
      bertScore: expect.stringMatching(/^tiny-encoder, layer \d$/),
      tasks: {
        dolly: { prompts: 4, reference: "full depth's own response", cutInputs: 0 },
        // The last four articles are decoded, two of which are long.
        cnn: {
          prompts: 4,
          reference: "gold summary",
          cutInputs: 2,
          inputKept: expect.stringMatching(/^[5-9]\d\.\d %$/),
        },
      },
    });
    expect(results.rows.find(({ task }) => task === "dolly")).toMatchObject({ score: 1 });
  }, 120_000);

  it("refuses what cannot be, naming the option", async () => {
    for (const [words, code] of [
      [["--backbone=llama-7b"], "BAD_OPTION"],
      [["--backbone=fresh:1x32"], "BAD_OPTION"],
      [["--methods=clam"], "UNKNOWN_METHOD"],
      [["--tasks=dolly"], "UNKNOWN_TASK"],
      [["--data=/nowhere"], "MISSING_FILE"],
      [["--max-new-tokens=500"], "BAD_OPTION"],
      [["--speed=9"], "UNKNOWN_OPTION"],
    ] as const)
      await expect(generation(words), words[0]).rejects.toMatchObject({ code });
    const folder = await temporaryFolder({ "alpaca/alpaca_data.json": '[{"instruction": 5}]' });
    await expect(generation([`--data=${folder}`])).rejects.toThrow(
      "row 1 needs a text for instruction",
    );
  });

  it("generates the same texts for the same seed, and others for another", () => {
    expect(generateInstructions(8, 1)).toEqual(generateInstructions(12, 1).slice(0, 8));
    expect(generateInstructions(8, 1)).not.toEqual(generateInstructions(8, 2));
    for (const { input, response } of generateArticles(20, 3))
      for (const word of response.split("\n")[0]?.split(" ") ?? [])
        if (!["at", "."].includes(word)) expect(input).toContain(word);
  });
});

function checkRow({ n, exitHistogram, texts, scores, tokensPerSecond, operatingPoint }: ResultRow) {
  expect(texts).toBe(4);
  if (exitHistogram) expect(exitHistogram.reduce((sum, count) => sum + count, 0)).toBe(n);
  // The first token of each text comes from the prompt's own pass and is not counted.
  expect(n).toBeLessThanOrEqual(4 * 5);
  expect(Object.keys(scores ?? {})).toEqual(
    expect.arrayContaining(["rouge-1", "rouge-2", "rouge-l", "rouge-lsum", "bertscore-f"]),
  );
  if (operatingPoint !== "full") expect(tokensPerSecond).toBeGreaterThan(0);
}

/** @file `cee train`, `evaluate`, `predict` and `doctor`: from a table to answers, stopped, resumed, and misused. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { EarlyExitModel } from "@cee/consistentee";
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { cee } from "../src/cee.js";
import { exitCodeOf } from "../src/cli.js";
import { strategySource } from "./glue-helpers.js";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const small = ["--backbone=fresh:3x32", "--max-length=16", "--threads=1"];

let folder = "";
let data = "";
let model = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "cee-own-"));
  data = path.join(folder, "reviews.csv");
  model = path.join(folder, "model");
  const rows = Array.from({ length: 240 }, (_, row) => {
    const words = row % 2 === 0 ? ["lovely", "moving", "great"] : ["dull", "flat", "weak"];
    return `"the ${["film", "plot", "cast"][row % 3]} is ${words[(row >> 2) % 3]}",${row % 2 === 0 ? "good" : "bad"}`;
  });
  await writeFile(data, `Review,Verdict\n${rows.join("\n")}\n`);
  await run(["train", ...trainWords, "--strategy=patience", "--epochs=25", `--out=${model}`]);
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));
afterEach(() => vi.restoreAllMocks());

const trainWords = ["--text=review", "--label=verdict", ...small];

/** Exit code and standard output of a command in this process. */
async function run(words: readonly string[]) {
  let stdout = "";
  const spies = (["stdout", "stderr"] as const).map((name) =>
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      if (name === "stdout") stdout += text;
      return true;
    }),
  );
  const [command, ...rest] = words as [string, ...string[]];
  try {
    const code = await cee([command, ...(command === "train" ? [`--data=${data}`] : []), ...rest]);
    return { code, stdout };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** The program in a child, with something on its standard input. */
function child(words: readonly string[], input = "", onPrint?: (kill: () => void) => void) {
  const bin = path.join(root, "packages/bench/src/bin.ts");
  const args = ["--conditions=@cee/source", "--import", import.meta.resolve("tsx"), bin, ...words];
  const { CEE_DEBUG: _, ...env } = process.env;
  const process_ = spawn(process.execPath, args, { cwd: root, env });
  onTestFinished(() => void process_.kill("SIGKILL"));
  let [stdout, stderr] = ["", ""];
  process_.stdout.on("data", (chunk) => {
    stdout += chunk;
    onPrint?.(() => process_.stdout.destroy());
  });
  process_.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  process_.stdin.on("error", () => undefined);
  process_.stdin.end(input);
  return {
    process: process_,
    done: new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) =>
      process_.on("close", (code) => resolve({ code, stdout, stderr })),
    ),
  };
}

const linesOf = (text: string) =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

describe("cee train", { timeout: 120_000 }, () => {
  it("leaves a folder that opens as a model and says what it does on held-out rows", async () => {
    const report = JSON.parse(await readFile(path.join(model, "training.json"), "utf8"));
    expect(report).toMatchObject({
      data: "reviews.csv",
      labels: ["bad", "good"],
      rows: { train: 195, validation: 21, dev: 24 },
      strategy: "patience",
      layers: 3,
    });
    expect(report.score).toBeGreaterThan(0.9);
    expect(report.score).toBeGreaterThanOrEqual(report.fullScore * 0.99);
    expect(report.savedLayers).toBeGreaterThan(0);
    expect(await readdir(model)).not.toContain("trainings");
    const opened = await EarlyExitModel.fromPretrained(model);
    try {
      const { label, exitLayer } = await opened.classify("the plot is dull");
      expect(label).toBe("bad");
      expect(exitLayer).toBeLessThan(3);
    } finally {
      await opened.dispose();
    }
  });

  it("trains a policy, a published method with a head of its own, and a plugin; all can be opened and exported", async () => {
    const plugin = path.join(folder, "own-rule.ts");
    await writeFile(plugin, strategySource("own-rule"));
    const withHead = path.join(folder, "own-head.ts");
    const policies = JSON.stringify(path.join(root, "packages/exit-policies/src/index.ts"));
    const decides = `decideTensor: (observed, state, { options }) =>
      ({ exit: tf.greater(tf.reshape(observed, [-1]), options.threshold), state }),`;
    await writeFile(
      withHead,
      `${strategySource("own-head", decides)}
import { defineExitHead } from ${policies};
export const head = defineExitHead({
  name: "mean-of-tokens",
  params: ({ hidden, classes }, layer, seed) => ({
    weight: {
      dtype: "float32",
      shape: [hidden, classes],
      data: Float32Array.from({ length: hidden * classes }, (_, k) => 0.1 * Math.sin(seed + 10 * layer + k)),
    },
  }),
  apply({ weight }, { hidden, mask, dropout }) {
    const shown = tf.expandDims(mask, 2);
    const pooled = tf.div(tf.sum(tf.mul(hidden, shown), 1), tf.sum(shown, 1));
    return { logits: tf.matMul(dropout(pooled), weight), pooled, features: pooled };
  },
});
`,
    );
    for (const [specifier, name, ...options] of [
      ["consistentee", "consistentee", '--strategy-options={"consistentee": {"alpha": 0.05}}'],
      ["right-tool", "right-tool-mixture"],
      [plugin, "own-rule", '--strategy-options={"own-rule": {"threshold": 0.6}}'],
      [withHead, "own-head"],
    ] as const) {
      const out = path.join(folder, `model-${name}`);
      const words = [...trainWords, "--epochs=1", `--strategy=${specifier}`, `--out=${out}`];
      const { code, stdout } = await run(["train", ...words, ...options, "--json"]);
      expect(code).toBe(0);
      const report = JSON.parse(stdout);
      expect(report).toMatchObject({ folder: out, strategy: name });
      if (name === "consistentee") expect(report.options.alpha).toBe(0.05);
      const plugins = name.startsWith("own-") ? [`--plugin=${specifier}`] : [];
      const question = ["predict", out, "the film is flat", "--threads=1"];
      if (name.startsWith("own-"))
        await expect(run(question)).rejects.toMatchObject({
          code: "BAD_OPTION",
          who: out,
          message: expect.stringMatching(
            /"(own-rule|mean-of-tokens)".* --plugin <file or package>/,
          ),
        });
      const answers = await run([...question, ...plugins]);
      expect(answers.code).toBe(0);
      expect(linesOf(answers.stdout)[0]).toMatchObject({ layers: 3 });
      const file = path.join(folder, `${name}.onnx`);
      const exporting = run(["export", out, `--out=${file}`, "--json", "--threads=1", ...plugins]);
      if (name === "own-rule") await expect(exporting).rejects.toThrow("decides on the host alone");
      else
        expect(JSON.parse((await exporting).stdout)).toMatchObject({
          strategy: name,
          comparison: { rows: 200, unexplained: 0 },
        });
    }
  });

  it("names the commands that come next, with the plugin that they need", async () => {
    const plugin = path.join(folder, "next-rule.ts");
    await writeFile(plugin, strategySource("next-rule"));
    for (const [specifier, more] of [
      [plugin, ` --plugin ${plugin}`],
      ["entropy", ""],
    ] as const) {
      const out = path.join(folder, `next ${more.length}`);
      const words = [...trainWords, "--epochs=1", `--strategy=${specifier}`, `--out=${out}`];
      const { stdout } = await run(["train", ...words]);
      expect(stdout.slice(stdout.indexOf("Next:"))).toBe(`Next:
  cee predict '${out}' "a text of yours"${more}
  cee evaluate '${out}' --data other-rows.csv${more}
`);
    }
  });

  it("goes on after Ctrl-C and ends with the same model", async () => {
    const words = ["train", `--data=${data}`, ...trainWords, "--strategy=entropy", "--epochs=30"];
    const out = path.join(folder, "stopped");
    const first = child([...words, `--out=${out}`]);
    first.process.stderr.on("data", (text) => {
      if (String(text).includes("Training entropy")) first.process.kill("SIGINT");
    });
    const stopped = await first.done;
    expect(stopped).toMatchObject({ code: 130, stdout: "" });
    expect(stopped.stderr).toContain("The same command goes on from here");
    expect(await readdir(out)).toEqual(["trainings"]);
    const whole = path.join(folder, "whole");
    for (const target of [out, whole])
      expect(
        (await run([...words.filter((word) => !word.startsWith("--data")), `--out=${target}`]))
          .code,
      ).toBe(0);
    for (const file of ["model.safetensors", "exits.safetensors", "training.json"])
      expect(await readFile(path.join(out, file))).toEqual(await readFile(path.join(whole, file)));
  });

  it.each([
    [["--out", "x"], "--data", 2, "is needed"],
    [["--data", "a.csv"], "--out", 2, "is needed"],
    [["--data", "a.csv", "--out", "x", "--stategy", "entropy"], "--stategy", 2, '"--strategy"'],
    [["--data", "nowhere.csv", "--out", "x"], "nowhere.csv", 1, "no such file"],
    [["--data", "a.csv", "--out", "x", "--backbone", "frsh:2x8"], "--backbone", 2, "Give mini,"],
    [["--data", "a.csv", "--out", "x", "--labels", "a"], "--labels", 2, "at least two"],
    [["--data", "a.csv", "--out", "x", "--max-loss", "2"], "--max-loss", 2, "from 0 to 1"],
  ] as const)("%j is refused", async (words, who, code, message) => {
    const error = await cee(["train", ...words]).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ who });
    expect((error as Error).message).toContain(message);
    expect(exitCodeOf(error)).toBe(code);
  });

  it("refuses strategies that are none, and folders that hold something", async () => {
    const train = (...words: string[]) =>
      run(["train", ...trainWords, `--out=${path.join(folder, "none")}`, ...words]);
    await expect(train("--strategy=entropie")).rejects.toThrow('Did you mean "entropy"?');
    for (const strategy of ["consistentee", "deebert", "entropy"])
      await expect(
        train(`--strategy=${strategy}`, `--strategy-options={"${strategy}x": {"alpha": 1}}`),
      ).rejects.toMatchObject({
        code: "BAD_OPTION",
        who: "--strategy-options",
        message: expect.stringContaining(`Did you mean "${strategy}"?`),
      });
    await expect(train("--strategy=hashee")).rejects.toThrow("no single model with exits");
    const other = run(["train", "--text=Reviews", `--out=${path.join(folder, "none")}`]);
    await expect(other).rejects.toThrow('Did you mean "Review"?');
    expect(existsSync(path.join(folder, "none"))).toBe(false);
    const into = (out: string) => run(["train", ...trainWords, `--out=${out}`]);
    await expect(into(model)).rejects.toThrow("holds a model already");
    await expect(into(folder)).rejects.toThrow("holds something else");
    await expect(into(data)).rejects.toThrow("is a file");
  });
});

describe("cee evaluate", { timeout: 120_000 }, () => {
  it("compares exits with full depth, in words and as JSON", async () => {
    const words = ["evaluate", model, `--data=${data}`, "--text=review", "--label=verdict"];
    const { stdout } = await run([...words, "--threads=1", "--json"]);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ rows: 240, leftOut: 0, strategy: "patience", layers: 3 });
    expect(report.scores.accuracy).toBeGreaterThan(0.9);
    expect(report.exitHistogram.reduce((sum: number, count: number) => sum + count)).toBe(240);
    const full = JSON.parse((await run([...words, "--strategy=never", "--json"])).stdout);
    expect(full.scores).toEqual(report.fullScores);
    expect(full.savedLayers).toBe(0);
    expect((await run([...words, "--limit=10"])).stdout).toContain("10 rows, strategy patience:");
  });

  it("refuses labels that the model does not have", async () => {
    const file = path.join(folder, "others.csv");
    await writeFile(file, "text,label\nthe film,great\nthe cast,poor\n");
    await expect(run(["evaluate", model, `--data=${file}`])).rejects.toThrow(
      'the label "great" is none of bad, good',
    );
  });
});

describe("cee predict", { timeout: 120_000 }, () => {
  it("answers arguments, files and standard input with the same lines", async () => {
    const texts = ["the film is lovely", "the plot is dull"];
    const { code, stdout } = await run(["predict", model, ...texts]);
    expect(code).toBe(0);
    const answers = linesOf(stdout);
    expect(answers.map(({ label }) => label)).toEqual(["good", "bad"]);
    expect(Object.keys(answers[0])).toEqual([
      "label",
      "score",
      "probabilities",
      "exitLayer",
      "layers",
      "truncated",
    ]);
    const file = path.join(folder, "texts.jsonl");
    await writeFile(file, `${JSON.stringify({ text: texts[0] })}\n${JSON.stringify(texts[1])}\n`);
    expect((await run(["predict", model, "--file", file])).stdout).toBe(stdout);
    const piped = await child(["predict", model], `${texts.join("\n")}\n`).done;
    expect(piped).toEqual({ code: 0, stdout, stderr: "" });
    await expect(run(["predict", model, "--strategy=drift", ...texts])).rejects.toMatchObject({
      who: "--strategy",
      message: expect.stringMatching(/no such strategy, got "drift".* --plugin <file or package>/),
    });
    const last = await run(["predict", model, "--strategy=never", "--", "- the film is flat"]);
    expect(linesOf(last.stdout)[0]).toMatchObject({ label: "bad", exitLayer: 3 });
  });

  it("names lines that can't be answered, and answers the others", async () => {
    const input = '"the cast is weak"\nnot json\n{"txt": 1}\n""\n';
    const { code, stdout, stderr } = await child(["predict", model, "--jsonl"], input).done;
    expect(code).toBe(1);
    const [first, second, third, fourth] = linesOf(stdout);
    expect(first).toMatchObject({ label: "bad" });
    expect(second.error).toContain("[standard input:2] is not JSON");
    expect(third.error).toContain("[standard input:3] must be a string");
    expect(fourth.error).toContain("[standard input:4] must have at least one token");
    expect(stderr.trim().split("\n")).toEqual([second.error, third.error, fourth.error]);
  });

  it("says that an empty file holds nothing, and ends where its reader ends", async () => {
    const empty = path.join(folder, "empty.txt");
    await writeFile(empty, "");
    await expect(run(["predict", model, "--file", empty])).rejects.toMatchObject({
      code: "BAD_INPUT",
      who: empty,
    });
    const many = "the film is flat\n".repeat(20_000);
    const closed = await child(["predict", model], many, (close) => close()).done;
    expect(closed.code).toBe(141);
    expect(closed.stderr).toMatch(/^\[predict\] whoever read the answers is gone; .*\n$/);
  });

  it("refuses a layer that the model does not have", async () => {
    const error = await run(["predict", model, "text", "--max-layer=4"]).catch((cause) => cause);
    expect(error).toMatchObject({
      who: "--max-layer",
      message: expect.stringContaining("most 3,"),
    });
    expect(exitCodeOf(error)).toBe(2);
  });

  it("suggests a folder of a similar name", async () => {
    // No server is there: the name may be a model's of the hub.
    vi.stubEnv("HF_ENDPOINT", "http://127.0.0.1:9");
    onTestFinished(() => void vi.unstubAllEnvs());
    await expect(cee(["predict", `${model}s`, "text"])).rejects.toMatchObject({
      code: "BAD_OPTION",
      who: `${model}s`,
      message: expect.stringMatching(/there is no such folder, .* Did you mean ".*\/model"\?$/),
    });
    await expect(cee(["predict", "examples/trian", "text"])).rejects.toMatchObject({
      code: "DOWNLOAD_FAILED",
      who: "examples/trian",
      message: expect.stringMatching(
        /there is no such folder, .* Did you mean "examples\/train"\?$/,
      ),
    });
  });

  it.each([
    [[], "a model's folder or hub id"],
    [["x", "text", "--file", "y"], "texts are given already"],
    [["x", "--file", "nowhere.txt"], "there is no file nowhere.txt"],
    [["x", "text", "--max-leyer", "2"], '"--max-layer"'],
    [["x", "text", "--model", "y"], "[--model] there is no such option. Known: --strategy, "],
    [["x", "text", "--words", "y"], "[--words] there is no such option"],
    [["x", "-5 stars"], "are given after --"],
  ])("%j is refused", async (words, message) => {
    await expect(cee(["predict", ...words])).rejects.toThrow(message);
  });
});

it("cee doctor finds the runtime that models run on", async () => {
  const { code, stdout } = await run(["doctor", "--json", "--threads=1"]);
  expect(code).toBe(0);
  const found = JSON.parse(stdout);
  expect(found.node).toEqual({ version: process.versions.node, isSupported: true });
  const names = found.runtimes.map(({ name }: { name: string }) => name);
  expect(names).toEqual(["onnxruntime-node", "onnxruntime-web", "eager"]);
  for (const { works, gflops } of found.runtimes) if (works) expect(gflops).toBeGreaterThan(0);
  expect((await run(["doctor"])).stdout).toMatch(
    /Models run on (onnxruntime-node|onnxruntime-web)\./,
  );
});

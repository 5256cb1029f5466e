/** @file `cee export`: from a folder to a file that decides as the library does, and what it refuses. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createWordPieceTokenizer,
  createWordVocabulary,
  EXITS_DESCRIPTION,
  saveExitEncoder,
} from "@cee/backbone";
import { tinyBert } from "@cee/backbone/testing";
import { type EarlyExitParts, saveEarlyExitModel } from "@cee/consistentee";
import { createEngine } from "@cee/engine";
import { entropy, never } from "@cee/exit-policies";
import { afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { cee } from "../src/cee.js";
import { exitCodeOf } from "../src/cli.js";

afterEach(() => void vi.restoreAllMocks());

const texts = ["a charming journey", "flat", "the plot goes nowhere", "a movie with heart"];

/** Heads of fresh weights are certain of nothing; these leave at different layers. */
function parts(strategy = entropy({ threshold: 0.4 })): EarlyExitParts {
  const tokenizer = createWordPieceTokenizer(createWordVocabulary(texts, 200));
  const encoder = tinyBert({ hidden: 16, heads: 4, depth: 4, spread: 0.9, tokenizer, seed: 3 });
  const params = Object.fromEntries(
    Object.entries(encoder.params).map(([path, tensor]) => [
      path,
      path.startsWith("heads.")
        ? { ...tensor, data: (tensor.data as Float32Array).map((value) => 40 * value) }
        : tensor,
    ]),
  );
  return {
    encoder: { ...encoder, params, trainedHeads: [1, 2, 3, 4], labels: ["negative", "positive"] },
    strategy,
  };
}

function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "cee-export-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function saved(own = parts()): Promise<string> {
  const folder = join(scratch(), "model");
  await saveEarlyExitModel(own, folder);
  return folder;
}

async function run(...words: string[]) {
  let stdout = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += text;
    return true;
  });
  try {
    return { code: await cee(["export", ...words]), stdout };
  } finally {
    vi.restoreAllMocks();
  }
}

describe("cee export", () => {
  it("writes a file, and says how it compares with the library", async () => {
    const out = join(scratch(), "deep", "model.onnx");
    const { code, stdout } = await run(await saved(), "--out", out, "--threads", "1");
    expect(stdout).toContain(`Written: ${out} (`);
    expect(stdout).toContain("feed 0.4 as knob (threshold)");
    const [, differing, rows, ties] =
      /(\d+) of (\d+) rows differ .*, 0 of them without a near tie \((\d+) rows/.exec(stdout) ?? [];
    expect(Number(rows)).toBe(200);
    expect(Number(differing)).toBeLessThanOrEqual(Number(ties));
    // The comparison says something: rows leave at different layers.
    const mean = Number(/Mean exit layer ([\d.]+) in the file/.exec(stdout)?.[1]);
    expect(mean).toBeGreaterThan(1.2);
    expect(mean).toBeLessThan(3.8);
    expect(code).toBe(0);
  });

  it("takes one row per call, another knob, and texts and pairs to compare on", async () => {
    const folder = scratch();
    const [out, file] = [join(folder, "one.onnx"), join(folder, "texts.txt")];
    const options = ["--out", out, "--rows", "one", "--knob", "0.2", "--texts", file];
    const model = await saved();
    writeFileSync(file, `${texts.join("\n")}\n`);
    const single = await run(model, ...options);
    expect(single.stdout).toContain("one row per call; feed 0.2 as knob");
    expect(single.stdout).toContain(`of 4 rows differ in layer or answer (${file})`);
    writeFileSync(file, `${texts[0]}\t${texts[1]}\n${texts[2]}\t${texts[3]}\n`);
    await expect(run(model, ...options)).rejects.toMatchObject({ code: "BAD_OPTION" });
    expect((await run(model, ...options, "--force")).stdout).toContain("of 2 rows differ");
  });

  it("measures how far a file of smaller numbers agrees, and judges it not", async () => {
    const out = join(scratch(), "model.onnx");
    const { code, stdout } = await run(await saved(), "--out", out, "--precision", "int8");
    expect(code).toBe(0);
    const share = Number(/([\d.]+) % leave at the library's layer/.exec(stdout)?.[1]);
    expect(share).toBeGreaterThan(50);
    expect(stdout).toContain("logits differ by at most");
  });

  it("prints one object for programs, and tells the path through the layers when asked", async () => {
    const out = join(scratch(), "model.onnx");
    const { code, stdout } = await run(await saved(), "--out", out, "--exit-logits", "--json");
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      files: [out],
      strategy: "entropy",
      knob: { option: "threshold", value: 0.4 },
      rows: "many",
      precision: "float32",
      comparison: { rows: 200, unexplained: 0 },
    });
    const engine = await createEngine({ threads: 1 });
    onTestFinished(() => engine.dispose());
    const opened = await engine.open(out, { name: "file" });
    const row = { type: "int64", shape: [1, 2], data: BigInt64Array.of(2n, 3n) } as const;
    const output = await opened.run({
      input_ids: row,
      attention_mask: { ...row, data: BigInt64Array.of(1n, 1n) },
      token_type_ids: { ...row, data: new BigInt64Array(2) },
      knob: { type: "float32", shape: [], data: Float32Array.of(0.4) },
    });
    await opened.dispose();
    expect(output.exit_logits?.shape).toEqual([1, 4, 2]);
    const alone = JSON.parse(
      (await run(await saved(), "--out", out, "--force", "--check", "0", "--json")).stdout,
    );
    expect(alone.comparison).toBeNull();
  });

  it("exports another strategy than the saved one", async () => {
    const out = join(scratch(), "model.onnx");
    const { stdout } = await run(await saved(), "--out", out, "--strategy", "patience");
    expect(stdout).toContain("Leaves by patience");
  });

  it("refuses what it cannot export, and leaves no file", async () => {
    const folder = scratch();
    const out = join(folder, "model.onnx");
    const without = join(folder, "without");
    await saveExitEncoder({ ...parts().encoder, trainedHeads: [1] }, without);
    rmSync(join(without, EXITS_DESCRIPTION));
    const hostOnly = join(folder, "host-only.mjs");
    writeFileSync(
      hostOnly,
      `import { defineExitStrategy, entropy } from ${JSON.stringify(import.meta.resolve("@cee/exit-policies"))};
const { decideTensor, ...definition } = entropy.definition;
export default defineExitStrategy({ ...definition, name: "host-only" });`,
    );
    const model = await saved();
    const attempts: readonly (readonly [string[], object])[] = [
      [[], { code: "BAD_OPTION" }],
      [[join(folder, "nowhere")], {}],
      [[without], { code: "NO_EXITS" }],
      [[model, "--strategy", "entropi"], { code: "BAD_OPTION", who: "--strategy" }],
      [[await saved(parts(never())), "--knob", "1"], { code: "BAD_OPTION" }],
      [[model, "--knob", "much"], { code: "BAD_OPTION" }],
      [[model, "--rows", "two"], { code: "BAD_OPTION" }],
      [[model, "--row", "one"], { code: "UNKNOWN_OPTION" }],
      [[model, "--texts", join(folder, "none.txt")], { code: "MISSING_FILE" }],
      [[model, "--plugin", hostOnly, "--strategy", "host-only"], { code: "NOT_EXPORTABLE" }],
    ];
    for (const [words, expected] of attempts)
      await expect(run(...words, "--out", out), words.join(" ")).rejects.toMatchObject(expected);
    expect(existsSync(out)).toBe(false);
    for (const force of [[], ["--force"]]) {
      const error = await run(model, "--out", folder, ...force).catch((cause: unknown) => cause);
      expect(error).toMatchObject({
        who: "--out",
        message: expect.stringContaining("is a folder"),
      });
      expect(exitCodeOf(error)).toBe(2);
    }
  });

  it("says in its help what it takes", async () => {
    const { code, stdout } = await run("--help");
    expect(code).toBe(0);
    for (const option of ["--out", "--rows", "--knob", "--plugin", "--texts"])
      expect(stdout).toContain(option);
  });
});

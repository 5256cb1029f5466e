/** @file ROUGE against an independent implementation, and BERTScore on states that can be worked out by hand. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  createBertConfig,
  createExitEncoder,
  createWordPieceTokenizer,
  createWordVocabulary,
} from "@cee/backbone";
import { createEngine, createRng } from "@cee/engine";
import { describe, expect, it, test } from "vitest";
import { needs, pathOf } from "../../../test/needs.js";
import { matchF, openBertScore } from "../src/metrics/bert-score.js";
import { type RougeScores, rouge } from "../src/metrics/rouge.js";

interface Golden {
  readonly candidate: string;
  readonly reference: string;
  readonly scores: RougeScores;
}

/** Made by scripts/rouge_reference.py. */
const golden = JSON.parse(
  readFileSync(new URL("golden/rouge.json", import.meta.url), "utf8"),
) as readonly Golden[];

function expectEqual(found: RougeScores, wanted: RougeScores, what: string): void {
  for (const name of ["rouge1", "rouge2", "rougeL", "rougeLsum"] as const)
    for (const part of ["precision", "recall", "f"] as const)
      expect(found[name][part], `${name} ${part} of ${what}`).toBeCloseTo(wanted[name][part], 12);
}

/** Texts of few words, so that they share a lot, over several lines. */
function inventText(seed: string): string {
  const rng = createRng(seed);
  const words = ["the", "cat", "sat", "on", "a", "mat.", "It", "slept,", "42", "cats", "été"];
  return Array.from({ length: rng.int(30) }, () => {
    const word = words[rng.int(words.length)] as string;
    return `${word}${rng.int(6) === 0 ? "\n" : " "}`;
  }).join("");
}

describe("ROUGE", () => {
  it("is that of the golden file", () => {
    expect(golden.length).toBeGreaterThan(8);
    for (const { candidate, reference, scores } of golden)
      expectEqual(rouge(candidate, reference), scores, JSON.stringify([candidate, reference]));
  });

  it("of worked-out texts", () => {
    const { rouge1, rouge2, rougeL } = rouge("the cat the cat", "The cat, sat on the mat.");
    expect(rouge1).toEqual({ precision: 3 / 4, recall: 3 / 6, f: 0.6 });
    expect(rouge2).toEqual({ precision: 1 / 3, recall: 1 / 5, f: 0.25 });
    expect(rougeL.f).toBeCloseTo(0.6, 12);
    const empty = { precision: 0, recall: 0, f: 0 };
    expect(rouge("", "a").rougeLsum).toEqual(empty);
    expect(rouge("...", "")).toEqual({
      rouge1: empty,
      rouge2: empty,
      rougeL: empty,
      rougeLsum: empty,
    });
  });

  test.runIf(needs("python"))("is that of the Python implementation on 200 texts", () => {
    const pairs = Array.from({ length: 200 }, (_, index) => [
      inventText(`candidate ${index}`),
      inventText(`reference ${index}`),
    ]);
    const script = fileURLToPath(new URL("../scripts/rouge_reference.py", import.meta.url));
    const { stdout, status } = spawnSync(pathOf("python") as string, [script], {
      input: JSON.stringify(pairs),
      encoding: "utf8",
    });
    expect(status).toBe(0);
    (JSON.parse(stdout) as RougeScores[]).forEach((scores, index) => {
      const [candidate, reference] = pairs[index] as [string, string];
      expectEqual(rouge(candidate, reference), scores, `pair ${index}`);
    });
  });
});

describe("BERTScore", () => {
  it("takes each inner token's best match, in both directions", () => {
    // First and last token mark the ends; they can be matched and are not counted.
    const candidate = Float32Array.of(1, 0, 2, 0, 0, 3, 1, 1);
    const reference = Float32Array.of(1, 0, 1, 1, 1, 1);
    const half = Math.SQRT1_2;
    const precision = (1 + half) / 2;
    const recall = 1;
    expect(matchF(candidate, reference, 2)).toBeCloseTo(
      (2 * precision * recall) / (precision + recall),
      6,
    );
    expect(matchF(reference, reference, 2)).toBeCloseTo(1, 12);
    expect(matchF(Float32Array.of(1, 0, 0, 1), reference, 2)).toBe(0);
  });

  it("reads an encoder's states: 1 for equal texts, less for others, the same in any company", async () => {
    const engine = await createEngine({ threads: 1 });
    const texts = ["a cat sat on the mat", "the dog", "a cat sat on a mat"];
    const tokenizer = createWordPieceTokenizer(createWordVocabulary(texts, 120));
    const { config, params } = createExitEncoder({
      config: createBertConfig({
        vocabSize: tokenizer.vocabSize,
        hidden: 8,
        depth: 4,
        heads: 2,
        intermediate: 16,
        maxPositions: 32,
        initializerRange: 0.3,
      }),
      classes: 2,
      seed: 1,
    });
    const score = openBertScore(engine, { identity: "tiny", config, params, tokenizer });
    expect(score.layer).toBe(3);
    const [same, far, near] = await score.scores(texts, [texts[0], texts[0], texts[0]] as string[]);
    expect(same).toBeCloseTo(1, 5);
    expect(near).toBeGreaterThan(far as number);
    expect(near).toBeLessThan(0.999);
    const [alone] = await score.scores([texts[1] as string], [texts[0] as string]);
    expect(alone).toBeCloseTo(far as number, 5);
    expect(() =>
      openBertScore(engine, { identity: "tiny", config, params, tokenizer, layer: 5 }),
    ).toThrow("from 1 to 4, got 5");
    await score.dispose();
    await engine.dispose();
  });
});

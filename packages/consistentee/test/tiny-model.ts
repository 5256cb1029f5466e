/** @file A whole early-exit model with random weights, for tests. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createWordPieceTokenizer, createWordVocabulary } from "@cee/backbone";
import { type TinyBertOptions, tinyBert } from "@cee/backbone/testing";
import { createRng, type HostParams } from "@cee/engine";
import { onTestFinished } from "vitest";
import { consistentEE, type EarlyExitParts, policyParams } from "../src/index.js";

export const texts = [
  "a charming and often affecting journey",
  "flat",
  "the plot goes nowhere and takes its time",
  "a movie with heart",
  "dull dull dull",
  "it is not a bad film but not a good one",
  "good",
  "the charming plot",
  "bad time",
];

/** Depth 3, width 16, and a policy with weights so large that texts leave at different layers. */
export function tinyParts(options: TinyBertOptions = {}): EarlyExitParts & { params: HostParams } {
  const tokenizer = createWordPieceTokenizer(createWordVocabulary(texts, 200));
  const encoder = tinyBert({ hidden: 16, tokenizer, seed: 5, ...options });
  const rng = createRng("policy");
  const params = Object.fromEntries(
    Object.entries(policyParams(encoder.shape, 32, 7)).map(([name, tensor]) => [
      name,
      { ...tensor, data: Float32Array.from(tensor.data, () => 0.6 * rng.normal()) },
    ]),
  );
  return {
    encoder: {
      ...encoder,
      ...(options.regression ? {} : { labels: ["negative", "positive"] }),
      trainedHeads: [1, 2, 3],
    },
    strategy: consistentEE(),
    params,
    reports: [{ phase: "policy-1" }],
    seed: 7,
  };
}

export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "cee-consistentee-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** @file Where the encoder of a run comes from: a folder's weights, or its architecture with fresh ones. */
import {
  createBertConfig,
  createExitEncoder,
  createWordPieceTokenizer,
  saveExitEncoder,
} from "@cee/backbone";
import { expect, it } from "vitest";
import { loadEmbeddedTask } from "../src/data/embedded.js";
import { prepareBackbone } from "../src/glue/backbone.js";
import { parseFresh } from "../src/glue/options.js";
import { createProgressLine } from "../src/glue/progress.js";
import { temporaryFolder } from "./helpers.js";

const EMBEDDING = "backbone.embeddings.word_embeddings.weight";

async function savedEncoder() {
  const folder = await temporaryFolder();
  const words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "dull", "lovely"];
  const encoder = createExitEncoder({
    config: createBertConfig({ vocabSize: 8, hidden: 16, depth: 3, heads: 2, maxPositions: 16 }),
    classes: 2,
    seed: 1,
    tokenizer: createWordPieceTokenizer(words, { lowercase: true }),
  });
  await saveExitEncoder(encoder, folder);
  return { folder, encoder };
}

function prepare(spec: string, seed = 7) {
  return prepareBackbone({
    spec,
    task: loadEmbeddedTask("sentiment", {}),
    seed,
    maxLength: 16,
    progress: createProgressLine({ write: () => undefined }),
  });
}

it("takes the weights of a folder, and fresh heads for the task", async () => {
  const { folder, encoder } = await savedEncoder();
  const prepared = await prepare(folder);
  expect(prepared.params[EMBEDDING]).toEqual(encoder.params[EMBEDDING]);
  expect(prepared.trainedHeads).toEqual([]);
});

it("takes architecture and tokenizer of fresh:<folder>, and weights from the seed alone", async () => {
  const { folder, encoder } = await savedEncoder();
  expect(parseFresh(`fresh:${folder}`)).toEqual({ like: folder });
  const prepared = await prepare(`fresh:${folder}`);
  const again = await prepare(`fresh:${folder}`);
  const other = await prepare(`fresh:${folder}`, 8);
  expect(prepared.config).toEqual((await prepare(folder)).config);
  expect(prepared.tokenizer?.encode("lovely film", { maxLength: 8 }).ids).toEqual(
    encoder.tokenizer?.encode("lovely film", { maxLength: 8 }).ids,
  );
  expect(prepared.params[EMBEDDING]?.data).not.toEqual(encoder.params[EMBEDDING]?.data);
  expect(prepared.params).toEqual(again.params);
  expect(prepared.params[EMBEDDING]?.data).not.toEqual(other.params[EMBEDDING]?.data);
});

it("has a pre-trained encoder at hand, and the same architecture with fresh weights", async () => {
  const mini = await prepare("mini");
  expect([mini.config.depth, mini.config.hidden]).toEqual([12, 128]);
  expect(mini.trainedHeads).toEqual([]);
  expect((await prepare("mini", 8)).params[EMBEDDING]).toEqual(mini.params[EMBEDDING]);
  const fresh = await prepare("fresh:mini");
  expect(fresh.config).toEqual(mini.config);
  expect(fresh.params[EMBEDDING]?.data).not.toEqual(mini.params[EMBEDDING]?.data);
});

it("says what a fresh backbone may be", () => {
  expect(() => parseFresh("fresh:no-such-folder")).toThrow(
    "[--backbone] expected fresh:<layers>x<width> with at least 2 layers and a width divisible by 8, such as fresh:12x128, or fresh:mini, or fresh:<folder> with the folder of a model, got",
  );
});

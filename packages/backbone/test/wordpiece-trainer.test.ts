/** @file Training a WordPiece vocabulary, and agreement with `@huggingface/tokenizers` on what was written. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createBasicTokenizer, createPieceEncoder } from "../src/pretrain/basic-tokenizer.js";
import { createWordPieceTokenizer } from "../src/tokenizer.js";
import { SPECIAL_TOKENS } from "../src/word-piece.js";
import { countWords, trainWordPiece, writeWordPiece } from "../src/wordpiece-trainer.js";

const TEXT = `The café's owner, Zoë, hugged the huge bug; the mug was hugged too.

Pugs and hugs!  A hugging pug's mug was huge – naïve, café-like, and 2,019 bugs
walked, talked and balked: walking, talking, balking (12 of 34). Ελληνικά λόγια, 東京 too.`;

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cee-wordpiece-"));
  await writeFile(join(folder, "text.txt"), TEXT);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Counts pairs anew for every merge: slow, and obviously right. */
function trainSlowly(counts: ReadonlyMap<string, number>, size: number): string[] {
  const pieces = trainWordPiece(counts, { vocabularySize: 10_000, minCount: Infinity });
  const words = [...counts].map(([word, count]) => ({
    count,
    parts: [...word].map((character, index) => (index > 0 ? "##" : "") + character),
  }));
  while (pieces.length < size) {
    const pairs = new Map<string, { count: number; left: string; right: string }>();
    for (const { parts, count } of words) {
      for (let at = 1; at < parts.length; at += 1) {
        const [left, right] = [parts[at - 1] as string, parts[at] as string];
        const key = `${left} ${right}`;
        pairs.set(key, { left, right, count: (pairs.get(key)?.count ?? 0) + count });
      }
    }
    const [best] = [...pairs.values()].sort(
      (a, b) =>
        b.count - a.count ||
        pieces.indexOf(a.left) - pieces.indexOf(b.left) ||
        pieces.indexOf(a.right) - pieces.indexOf(b.right),
    );
    if (best === undefined || best.count < 2) break;
    const merged = best.left + best.right.slice(2);
    if (!pieces.includes(merged)) pieces.push(merged);
    for (const { parts } of words) {
      for (let at = 1; at < parts.length; at += 1) {
        if (parts[at - 1] === best.left && parts[at] === best.right)
          parts.splice(at - 1, 2, merged);
      }
    }
  }
  return pieces;
}

describe("trainWordPiece", () => {
  it("chooses the merges of a plain recount", () => {
    const words = fc.dictionary(
      fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 9 }),
      { maxKeys: 12 },
    );
    fc.assert(
      fc.property(words, fc.integer({ min: 12, max: 40 }), (table, size) => {
        const counts = new Map(Object.entries(table));
        expect(trainWordPiece(counts, { vocabularySize: size })).toEqual(
          trainSlowly(counts, size).slice(0, size),
        );
      }),
      { numRuns: 150, seed: 7 },
    );
  });

  it("does not depend on the order of the counts", async () => {
    const counts = await countWords([folder]);
    const reversed = new Map([...counts].reverse());
    const options = { vocabularySize: 150 };
    expect(trainWordPiece(reversed, options)).toEqual(trainWordPiece(counts, options));
  });

  it("starts with the special pieces and keeps to the size", async () => {
    const pieces = trainWordPiece(await countWords([folder]), { vocabularySize: 105 });
    expect(pieces.slice(0, 5)).toEqual([...SPECIAL_TOKENS]);
    expect(pieces).toHaveLength(105);
    expect(new Set(pieces).size).toBe(105);
  });

  it("drops the rarest characters, whose words become unknown", () => {
    const counts = new Map([
      ["aab", 5],
      ["bz", 1],
    ]);
    const pieces = trainWordPiece(counts, { vocabularySize: 20, alphabetSize: 2 });
    expect(pieces).not.toContain("z");
    const encoder = createPieceEncoder(pieces);
    expect(encoder.encodeWord("bz")).toEqual([pieces.indexOf("[UNK]")]);
    expect(encoder.encodeWord("aab")).toEqual([pieces.indexOf("aab")]);
  });

  it("refuses a size that cannot hold the alphabet", async () => {
    const counts = await countWords([folder]);
    expect(() => trainWordPiece(counts, { vocabularySize: 20 })).toThrow(
      expect.objectContaining({ code: "BAD_VOCABULARY" }),
    );
  });
});

describe("a written vocabulary", () => {
  let pieces: string[] = [];
  let library: Tokenizer;
  beforeAll(async () => {
    pieces = trainWordPiece(await countWords([folder]), { vocabularySize: 170 });
    await writeWordPiece(folder, pieces);
    library = new Tokenizer(
      JSON.parse(await readFile(join(folder, "tokenizer.json"), "utf8")),
      JSON.parse(await readFile(join(folder, "tokenizer_config.json"), "utf8")),
    );
  });

  it("is the same in vocab.txt as in tokenizer.json", async () => {
    const lines = (await readFile(join(folder, "vocab.txt"), "utf8")).split("\n");
    expect(lines.pop()).toBe("");
    expect(lines).toEqual(pieces);
    const json = JSON.parse(await readFile(join(folder, "tokenizer.json"), "utf8"));
    expect(json).toEqual(JSON.parse(JSON.stringify(createWordPieceTokenizer(lines).toJson())));
    for (const [id, piece] of pieces.entries()) expect(library.token_to_id(piece)).toBe(id);
  });

  it("encodes as the bulk encoder does, whatever the text", () => {
    const basic = createBasicTokenizer();
    const encoder = createPieceEncoder(pieces);
    const ours = (text: string) => basic.words(text).flatMap((word) => encoder.encodeWord(word));
    const theirs = (text: string) => library.encode(text, { add_special_tokens: false }).ids;
    expect(ours(TEXT)).toEqual(theirs(TEXT));
    expect(ours(TEXT)).not.toContain(pieces.indexOf("[UNK]"));
    const letters = fc.constantFrom(
      ..."hugbmp THÉé ñ\u0301\u200b\u00a0\u0085\u2028\ufeff\ufffd\0\v東–'’.,[]İß﷐\t\n",
    );
    const text = fc.oneof(
      fc.string({ unit: letters, maxLength: 40 }),
      fc.string({ unit: "binary", maxLength: 30 }),
      fc.string({ unit: "grapheme", maxLength: 30 }),
    );
    fc.assert(
      fc.property(text, (sample) => {
        expect(ours(sample)).toEqual(theirs(sample));
      }),
      { numRuns: 2000, seed: 11 },
    );
  });

  it("puts the special pieces around one text and two", () => {
    const [cls, sep] = [pieces.indexOf("[CLS]"), pieces.indexOf("[SEP]")];
    const { ids, token_type_ids: types } = library.encode("hug", {
      text_pair: "mug",
      return_token_type_ids: true,
    });
    const hug = library.encode("hug", { add_special_tokens: false }).ids;
    const mug = library.encode("mug", { add_special_tokens: false }).ids;
    expect(ids).toEqual([cls, ...hug, sep, ...mug, sep]);
    expect(types).toEqual([
      ...new Array(hug.length + 2).fill(0),
      ...new Array(mug.length + 1).fill(1),
    ]);
  });
});

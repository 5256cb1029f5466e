import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BackboneError } from "../src/errors.js";
import { checkTokenizerFits, createTokenizer, createWordPieceTokenizer } from "../src/tokenizer.js";
import { loadTokenizer, saveTokenizer } from "../src/tokenizer-folder.js";
import { truncateLongestFirst } from "../src/truncation.js";
import { createWordVocabulary, SPECIAL_TOKENS } from "../src/word-piece.js";
import { scratchFolder } from "./helpers/scratch.js";

const vocabulary = [
  ...["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
  ..."the quick brown fox jump ##s ##ed over lazy dog un ##aff ##able , . ! cafe".split(" "),
];
const idOf = (token: string) => vocabulary.indexOf(token);
const ids = (...tokens: string[]) => Int32Array.from(tokens, idOf);

function errorOf(action: () => unknown): BackboneError {
  try {
    action();
  } catch (error) {
    if (error instanceof BackboneError) return error;
    throw error;
  }
  throw new Error("expected an error");
}

describe("WordPiece from a vocabulary", () => {
  const tokenizer = createWordPieceTokenizer(vocabulary);

  it("splits words greedily from the left and puts special tokens around", () => {
    const { ids: found, types } = tokenizer.encode("The quick fox jumps, unaffable!");
    expect(found).toEqual(
      ids(
        ...["[CLS]", "the", "quick", "fox", "jump", "##s", ",", "un", "##aff", "##able", "!"],
        "[SEP]",
      ),
    );
    expect([...types]).toEqual(new Array(12).fill(0));
  });

  it("gives the second text of a pair type 1, its separator included", () => {
    const { ids: found, types } = tokenizer.encode(["the fox", "lazy dog ."]);
    expect(found).toEqual(ids("[CLS]", "the", "fox", "[SEP]", "lazy", "dog", ".", "[SEP]"));
    expect([...types]).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
  });

  it("keeps the pair's template where one text is empty", () => {
    expect(tokenizer.encode(["the", ""]).ids).toEqual(ids("[CLS]", "the", "[SEP]", "[SEP]"));
    expect(tokenizer.encode("").ids).toEqual(ids("[CLS]", "[SEP]"));
  });

  it("lower-cases, strips accents and control characters, and marks unknown words", () => {
    expect(tokenizer.encode("CAF\u00c9\u0000 zebra\tfox").ids).toEqual(
      ids("[CLS]", "cafe", "[UNK]", "fox", "[SEP]"),
    );
  });

  it("keeps capitals and accents when asked to", () => {
    const cased = createWordPieceTokenizer([...vocabulary, "The"], { lowercase: false });
    expect([...cased.encode("The the CAFE").ids]).toEqual([
      idOf("[CLS]"),
      vocabulary.length,
      idOf("the"),
      idOf("[UNK]"),
      idOf("[SEP]"),
    ]);
  });

  it("decodes what it encoded, without special tokens", () => {
    expect(tokenizer.decode(tokenizer.encode("the fox jumps").ids)).toBe("the fox jumps");
    expect(tokenizer.decode([])).toBe("");
  });

  it("says which special token is missing", () => {
    const error = errorOf(() => createWordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "a"]));
    expect(error.code).toBe("BAD_TOKENIZER");
    expect(error.message).toContain("without [SEP], [MASK]");
  });
});

describe("truncation", () => {
  const tokenizer = createWordPieceTokenizer(vocabulary);

  it("cuts a single text at its end and keeps the special tokens", () => {
    expect(tokenizer.encode("the quick brown fox", { maxLength: 4 }).ids).toEqual(
      ids("[CLS]", "the", "quick", "[SEP]"),
    );
  });

  it("cuts the longer text of a pair first", () => {
    const pair = ["the quick brown fox over the dog", "lazy dog"] as const;
    expect(tokenizer.encode(pair, { maxLength: 8 }).ids).toEqual(
      ids("[CLS]", "the", "quick", "brown", "[SEP]", "lazy", "dog", "[SEP]"),
    );
  });

  // Computed with Hugging Face's rule for fast tokenizers: halves, the odd token to the longer text.
  it.each([
    [5, 3, 8, [5, 3]],
    [10, 3, 8, [5, 3]],
    [3, 10, 8, [3, 5]],
    [10, 9, 7, [4, 3]],
    [9, 10, 7, [3, 4]],
    [9, 9, 7, [3, 4]],
    [9, 0, 4, [4, 0]],
    [9, 9, 1, [0, 1]],
  ] as const)("leaves texts of %i and %i tokens in %i as %j", (first, second, room, kept) => {
    expect(truncateLongestFirst(first, second, room)).toEqual(kept);
  });

  it("fills the room exactly and never takes from the shorter text what the longer one can give", () => {
    fc.assert(
      fc.property(fc.nat(40), fc.nat(40), fc.integer({ min: 1, max: 40 }), (a, b, room) => {
        const [x, y] = truncateLongestFirst(a, b, room);
        expect(x + y).toBe(Math.min(a + b, room));
        expect(x >= 0 && y >= 0 && x <= a && y <= b).toBe(true);
        if (x < a) expect(x).toBeGreaterThanOrEqual(y - 1);
        if (y < b) expect(y).toBeGreaterThanOrEqual(x - 1);
      }),
    );
  });

  it.each([2, 0, -1, 3.5, Number.NaN])("refuses a length of %d", (maxLength) => {
    expect(errorOf(() => tokenizer.encode("the", { maxLength })).code).toBe("BAD_INPUT");
  });
});

describe("a tokenizer in a folder", () => {
  it("is the same after being written and read, from either file", async () => {
    const folder = scratchFolder();
    const tokenizer = createWordPieceTokenizer(vocabulary);
    await saveTokenizer(tokenizer, folder);
    const text = "The quick brown fox jumped over the lazy dog.";
    const again = await loadTokenizer(folder);
    expect(again.encode(text)).toEqual(tokenizer.encode(text));
    const other = scratchFolder();
    writeFileSync(join(other, "vocab.txt"), readFileSync(join(folder, "vocab.txt")));
    const fromVocab = await loadTokenizer(other);
    expect(fromVocab.encode(text)).toEqual(tokenizer.encode(text));
    expect(fromVocab.vocabulary()).toEqual(vocabulary);
  });

  it("reads vocab.txt with Windows line ends, and tells a cased one by its capitals", async () => {
    const folder = scratchFolder();
    writeFileSync(join(folder, "vocab.txt"), [...vocabulary, "The"].join("\r\n"));
    const cased = await loadTokenizer(folder);
    expect(cased.encode("The").ids[1]).toBe(vocabulary.length);
    writeFileSync(join(folder, "tokenizer_config.json"), '{"do_lower_case": true}');
    const uncased = await loadTokenizer(folder);
    expect(uncased.encode("The").ids[1]).toBe(idOf("the"));
  });

  it("names what is missing or broken", async () => {
    const folder = scratchFolder();
    await expect(loadTokenizer(folder)).rejects.toMatchObject({ code: "MISSING_FILE" });
    writeFileSync(join(folder, "tokenizer.json"), '{"model": {"type"');
    await expect(loadTokenizer(folder)).rejects.toMatchObject({ code: "BAD_FILE" });
    writeFileSync(join(folder, "tokenizer.json"), '{"model": {"type": "Nonsense", "vocab": {}}}');
    await expect(loadTokenizer(folder)).rejects.toMatchObject({ code: "BAD_TOKENIZER" });
  });
});

describe("tokenizer.json from outside", () => {
  const json = () => structuredClone(createWordPieceTokenizer(vocabulary).toJson()) as never;
  it.each<[string, (json: { model: { vocab: Record<string, unknown> } }) => void, string]>([
    ["an id that is no number", (j) => (j.model.vocab.fox = "8"), "fox"],
    ["a negative id", (j) => (j.model.vocab.fox = -1), "-1"],
    ["an id that would need all memory", (j) => (j.model.vocab.fox = 4e9), "4000000000"],
    ["an id used twice", (j) => (j.model.vocab.fox = idOf("the")), "unique"],
    ["no vocabulary", (j) => ((j.model as { vocab: unknown }).vocab = null), "vocab"],
  ])("is refused with %s", (_, damage, text) => {
    const broken = json();
    damage(broken);
    const error = errorOf(() => createTokenizer(broken, { who: "tokenizer.json" }));
    expect(error.code).toBe("BAD_TOKENIZER");
    expect(error.message).toContain(text);
  });

  it("must fit the model's vocabulary", () => {
    const tokenizer = createWordPieceTokenizer(vocabulary);
    const size = vocabulary.length;
    checkTokenizerFits(tokenizer, { vocabSize: size, padTokenId: 0 }, "here");
    const error = errorOf(() =>
      checkTokenizerFits(tokenizer, { vocabSize: size - 1, padTokenId: 0 }, "here"),
    );
    expect(error.code).toBe("BAD_TOKENIZER");
    expect(error.message).toContain(`vocabulary of ${size - 1}`);
  });
});

describe("a vocabulary made from texts", () => {
  it("holds special tokens, characters, and the most frequent words", () => {
    const texts = ["good bad good", "Good ugly bad film."];
    const made = createWordVocabulary(texts, 5 + 72 + 1 + 2);
    expect(made.slice(0, 5)).toEqual([...SPECIAL_TOKENS]);
    expect(made.slice(-2)).toEqual(["good", "bad"]);
    expect(made).toContain(".");
    expect(made).not.toContain("##.");
    expect(createWordVocabulary([...texts], 80)).toEqual(made);
  });

  it("leaves no word of its texts unknown, at any size that it accepts", () => {
    const word = fc.string({ unit: "grapheme", maxLength: 12 });
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), fc.nat(300), (texts, more) => {
        let made: string[];
        try {
          made = createWordVocabulary(texts, 77 + more);
        } catch (error) {
          expect((error as BackboneError).code).toBe("BAD_OPTION");
          return;
        }
        expect(made.length).toBeLessThanOrEqual(77 + more);
        expect(new Set(made).size).toBe(made.length);
        const tokenizer = createWordPieceTokenizer(made);
        for (const text of texts) expect(tokenizer.encode(text).ids).not.toContain(1);
      }),
    );
  });
});

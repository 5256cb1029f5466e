/**
 * @file The uncased BERT tokenizer for bulk text: the words and pieces that `@huggingface/tokenizers` gives, with a
 * memory of words, and without special tokens, whose names in running text are text.
 */
import { BackboneError } from "../errors.js";

const ASCII = /^[\t\n\r\x20-\x7e]*$/;
const REMOVED = /[^\P{Cc}\t\n\r]|[\p{Cf}\p{Co}\p{Cs}\ufffd]/gu;
/** Without the planes above the first: the library tests UTF-16 units, so it never splits there. */
const IDEOGRAPH = /[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff]/g;
const MARKS = /\p{Mn}/gu;
const PUNCTUATION = "\\p{P}\\u0021-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u007E";
const WORDS = new RegExp(`[^\\s${PUNCTUATION}]+|[${PUNCTUATION}]`, "gu");
const ASCII_WORDS = /[0-9a-z]+|[!-/:-@[-`{-~]/g;
const MAX_WORD = 100;

export interface BasicTokenizer {
  /** Lower-cased words and single signs of punctuation. */
  words(text: string): readonly string[];
}

export function createBasicTokenizer(): BasicTokenizer {
  return {
    words(text) {
      if (ASCII.test(text)) return text.toLowerCase().match(ASCII_WORDS) ?? [];
      const clean = text.replace(REMOVED, "").replace(IDEOGRAPH, " $& ");
      const plain = clean.toLowerCase().normalize("NFD").replace(MARKS, "");
      return plain.match(WORDS) ?? [];
    },
  };
}

export interface PieceEncoder {
  readonly size: number;
  /** Ids of the pieces of a word that {@link BasicTokenizer} gave. */
  encodeWord(word: string): readonly number[];
}

/**
 * Cuts words greedily into the longest known pieces.
 * @throws BackboneError `BAD_VOCABULARY` when a piece is there twice or `[UNK]` is missing.
 */
export function createPieceEncoder(pieces: readonly string[]): PieceEncoder {
  const ids = new Map<string, number>();
  for (const [id, piece] of pieces.entries()) {
    if (ids.has(piece)) {
      const message = `every piece must occur once, got "${piece}" twice. Repair vocab.txt.`;
      throw new BackboneError("BAD_VOCABULARY", "wordpiece", message);
    }
    ids.set(piece, id);
  }
  const unknown = ids.get("[UNK]");
  if (unknown === undefined) {
    const message = `the vocabulary has no [UNK], got ${pieces.length} pieces. Repair vocab.txt.`;
    throw new BackboneError("BAD_VOCABULARY", "wordpiece", message);
  }
  const longest = pieces.reduce((length, piece) => Math.max(length, piece.length), 0);
  const encode = (word: string): number[] => {
    const characters = [...word];
    if (characters.length > MAX_WORD) return [unknown];
    const found: number[] = [];
    for (let start = 0; start < characters.length; ) {
      let end = Math.min(characters.length, start + longest);
      let id: number | undefined;
      for (; end > start; end -= 1) {
        id = ids.get((start > 0 ? "##" : "") + characters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return [unknown];
      found.push(id);
      start = end;
    }
    return found;
  };
  const known = new Map<string, readonly number[]>();
  return {
    size: pieces.length,
    encodeWord(word) {
      const seen = known.get(word);
      if (seen !== undefined) return seen;
      const found = encode(word);
      // Bounded, so that a corpus of any size fits.
      if (known.size >= 500_000) known.clear();
      known.set(word, found);
      return found;
    },
  };
}

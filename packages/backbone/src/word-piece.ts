/** @file WordPiece vocabularies: as `tokenizer.json`, and a small one made from some texts. */
import { BackboneError } from "./errors.js";
import { BertNormalizer, BertPreTokenizer } from "./tokenizer-library.js";

export const SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] as const;
const PREFIX = "##";

const normalizerConfig = (lowercase: boolean) => ({
  type: "BertNormalizer",
  clean_text: true,
  handle_chinese_chars: true,
  strip_accents: null,
  lowercase,
});

/** The content of a `tokenizer.json` for BERT over `vocabulary`, whose index is the id. */
export function wordPieceJson(
  vocabulary: readonly string[],
  lowercase: boolean,
): Readonly<Record<string, unknown>> {
  // Where a token occurs twice the later line counts, as when Hugging Face reads a vocab.txt.
  const vocab = Object.fromEntries(vocabulary.map((token, id) => [token, id]));
  const special = (id: string, type: number) => ({ SpecialToken: { id, type_id: type } });
  const sequence = (id: string, type: number) => ({ Sequence: { id, type_id: type } });
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content) => ({
      id: vocab[content],
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: normalizerConfig(lowercase),
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
      pair: [
        special("[CLS]", 0),
        sequence("A", 0),
        special("[SEP]", 0),
        sequence("B", 1),
        special("[SEP]", 1),
      ],
      special_tokens: Object.fromEntries(
        ["[CLS]", "[SEP]"].map((token) => [
          token,
          { id: token, ids: [vocab[token]], tokens: [token] },
        ]),
      ),
    },
    decoder: { type: "WordPiece", prefix: PREFIX, cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: PREFIX,
      max_input_chars_per_word: 100,
      vocab,
    },
  };
}

/**
 * Makes a small vocabulary: special tokens, every character (of the texts, and ASCII letters and digits), then whole
 * words from the most frequent one down. No word of the texts up to 100 characters is unknown. Deterministic.
 * @throws BackboneError `BAD_OPTION` when `size` does not even hold the characters
 */
export function createWordVocabulary(
  texts: Iterable<string>,
  size: number,
  { lowercase = true } = {},
): string[] {
  const counts = countWords(texts, lowercase);
  const characters = new Set("abcdefghijklmnopqrstuvwxyz0123456789");
  if (!lowercase) for (const letter of "ABCDEFGHIJKLMNOPQRSTUVWXYZ") characters.add(letter);
  for (const word of counts.keys()) for (const character of word) characters.add(character);
  const vocabulary: string[] = [...SPECIAL_TOKENS];
  for (const character of [...characters].sort(byCodePoint)) {
    vocabulary.push(character);
    // The pre-tokenizer makes punctuation a word of its own: it never continues one.
    if (!isPunctuation(character)) vocabulary.push(PREFIX + character);
  }
  if (!(size >= vocabulary.length)) {
    throw new BackboneError(
      "BAD_OPTION",
      "createWordVocabulary",
      `size must be at least ${vocabulary.length}, the special tokens and characters of the texts, got ${size}.`,
    );
  }
  const known = new Set(vocabulary);
  const words = [...counts].sort(([a, x], [b, y]) => y - x || byCodePoint(a, b));
  for (const [word] of words) {
    if (vocabulary.length >= size) break;
    if (known.has(word)) continue;
    known.add(word);
    vocabulary.push(word);
  }
  return vocabulary;
}

/** How often each word occurs after BERT's normaliser and pre-tokenizer. */
export function countWords(texts: Iterable<string>, lowercase: boolean): Map<string, number> {
  const normalizer = new BertNormalizer(normalizerConfig(lowercase));
  const preTokenizer = new BertPreTokenizer();
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of preTokenizer.pre_tokenize_text(normalizer.normalize(text)))
      counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}

function isPunctuation(character: string): boolean {
  return new BertPreTokenizer().pre_tokenize_text(`a${character}`).length > 1;
}

/** Not `localeCompare`, whose order depends on the machine. */
function byCodePoint(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

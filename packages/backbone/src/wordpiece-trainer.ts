/**
 * @file Learns a WordPiece vocabulary from text, in the form of uncased BERT's, and writes it for other programs.
 *
 * Merges are chosen by pair count, as Hugging Face's WordPieceTrainer does, not by the likelihood ratio
 * count(ab) / (count(a) count(b)) of the first description of WordPiece: the ratio spends a small vocabulary on rare
 * words whose letters are rare, and needs a cut-off by count to work at all.
 */
import { join } from "node:path";
import { BackboneError } from "./errors.js";
import { toJsonText, writeAtomically } from "./files.js";
import { createBasicTokenizer } from "./pretrain/basic-tokenizer.js";
import { listCorpusFiles, readTextBlocks, type TextStreamOptions } from "./pretrain/text-stream.js";
import { createWordPieceTokenizer } from "./tokenizer.js";
import { saveTokenizer } from "./tokenizer-folder.js";
import { SPECIAL_TOKENS } from "./word-piece.js";

const PREFIX = "##";
/** Words of more characters are unknown to the encoder, so they teach nothing. */
const MAX_WORD = 100;

export interface WordPieceTrainingOptions {
  /** Pieces in all, special ones and single characters included. */
  readonly vocabularySize: number;
  /**
   * Characters kept, the most frequent first; words with others become `[UNK]`.
   * @default 300
   */
  readonly alphabetSize?: number;
  /**
   * Pairs seen less often are not merged, even if the vocabulary stays smaller.
   * @default 2
   */
  readonly minCount?: number;
}

/** Counts the words of files, folders expanded. Memory grows with the number of distinct words only. */
export async function countWords(
  paths: readonly string[],
  options: TextStreamOptions = {},
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  const tokenizer = createBasicTokenizer();
  for await (const { text } of readTextBlocks(await listCorpusFiles(paths), options)) {
    for (const word of tokenizer.words(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}

/**
 * Learns the pieces, in order of their ids. The same counts give the same vocabulary, whatever their order.
 * @throws BackboneError `BAD_VOCABULARY` when the size cannot hold the special pieces and the alphabet.
 */
export function trainWordPiece(
  counts: ReadonlyMap<string, number>,
  { vocabularySize, alphabetSize = 300, minCount = 2 }: WordPieceTrainingOptions,
): string[] {
  const alphabet = chooseAlphabet(counts, alphabetSize);
  const pieces: string[] = [...SPECIAL_TOKENS];
  const ids = new Map<string, number>(pieces.map((piece, id) => [piece, id]));
  const add = (piece: string): number => {
    const known = ids.get(piece);
    if (known !== undefined) return known;
    ids.set(piece, pieces.length);
    return pieces.push(piece) - 1;
  };
  for (const character of alphabet) add(character);
  // Punctuation is a word of its own, so most signs never continue one.
  const continuing = new Set([...counts.keys()].flatMap((word) => [...word].slice(1)));
  for (const character of alphabet) if (continuing.has(character)) add(PREFIX + character);
  if (!Number.isInteger(vocabularySize) || vocabularySize < pieces.length) {
    throw new BackboneError(
      "BAD_VOCABULARY",
      "wordpiece",
      `vocabularySize must be an integer >= ${pieces.length} (special pieces and an alphabet of ` +
        `${alphabet.length} characters), got ${vocabularySize}. Raise it or lower alphabetSize.`,
    );
  }
  const merger = createMerger(counts, (character, isFirst) =>
    ids.get(isFirst ? character : PREFIX + character),
  );
  while (pieces.length < vocabularySize) {
    const best = merger.next(minCount);
    if (best === undefined) break;
    const right = pieces[best.right] as string;
    // Two pairs can spell one piece; the second merge then adds no piece.
    merger.merge(best, add((pieces[best.left] as string) + right.slice(PREFIX.length)));
  }
  return pieces;
}

/** Writes `tokenizer.json`, `tokenizer_config.json` and `vocab.txt` into a folder. */
export async function writeWordPiece(folder: string, pieces: readonly string[]): Promise<void> {
  await saveTokenizer(createWordPieceTokenizer(pieces), folder);
  await writeAtomically(join(folder, "tokenizer_config.json"), toJsonText(toTokenizerConfig()));
}

function toTokenizerConfig(): Record<string, unknown> {
  return {
    tokenizer_class: "BertTokenizer",
    do_lower_case: true,
    strip_accents: null,
    tokenize_chinese_chars: true,
    pad_token: "[PAD]",
    unk_token: "[UNK]",
    cls_token: "[CLS]",
    sep_token: "[SEP]",
    mask_token: "[MASK]",
  };
}

/** The most frequent characters, ties by code point, in order of code points. */
function chooseAlphabet(counts: ReadonlyMap<string, number>, size: number): string[] {
  const byCharacter = new Map<string, number>();
  for (const [word, count] of counts) {
    for (const character of word) {
      byCharacter.set(character, (byCharacter.get(character) ?? 0) + count);
    }
  }
  const codePoint = (character: string) => character.codePointAt(0) as number;
  return [...byCharacter]
    .sort(([a, m], [b, n]) => n - m || codePoint(a) - codePoint(b))
    .slice(0, size)
    .map(([character]) => character)
    .sort((a, b) => codePoint(a) - codePoint(b));
}

interface Pair {
  readonly left: number;
  readonly right: number;
}

interface Merger {
  /** The most frequent pair, ties to the lower ids; `undefined` when none is left. */
  next(minCount: number): Pair | undefined;
  merge(pair: Pair, merged: number): void;
}

/** Ids stay below this, so a pair of them is one exact double. */
const ID_LIMIT = 2 ** 24;

/** Keeps the counts of neighbouring pieces up to date, touching only the words that hold the merged pair. */
function createMerger(
  counts: ReadonlyMap<string, number>,
  idOf: (character: string, isFirst: boolean) => number | undefined,
): Merger {
  const words: number[][] = [];
  const wordCounts: number[] = [];
  const pairCounts = new Map<number, number>();
  const pairWords = new Map<number, number[]>();
  const heap = createHeap((key) => pairCounts.get(key) ?? 0);
  const keyOf = (left: number, right: number) => left * ID_LIMIT + right;
  const addPair = (key: number, count: number, word: number): void => {
    pairCounts.set(key, (pairCounts.get(key) ?? 0) + count);
    const list = pairWords.get(key);
    if (list === undefined) pairWords.set(key, [word]);
    else if (list[list.length - 1] !== word) list.push(word);
  };

  // Sorted, so that nothing depends on the order of the files.
  const sorted = [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [word, count] of sorted) {
    const characters = [...word];
    if (characters.length > MAX_WORD) continue;
    const symbols: number[] = [];
    for (const character of characters) {
      const id = idOf(character, symbols.length === 0);
      if (id === undefined) break;
      symbols.push(id);
    }
    if (symbols.length !== characters.length) continue;
    const index = words.push(symbols) - 1;
    wordCounts.push(count);
    for (let at = 1; at < symbols.length; at += 1) {
      addPair(keyOf(symbols[at - 1] as number, symbols[at] as number), count, index);
    }
  }
  for (const key of pairCounts.keys()) heap.push(key);

  return {
    next(minCount) {
      const key = heap.pop(minCount);
      if (key === undefined) return undefined;
      return { left: Math.floor(key / ID_LIMIT), right: key % ID_LIMIT };
    },
    merge({ left, right }, merged) {
      const mergedKey = keyOf(left, right);
      const affected = pairWords.get(mergedKey) ?? [];
      pairWords.delete(mergedKey);
      const fresh = new Set<number>();
      for (const index of affected) {
        const symbols = words[index] as number[];
        const count = wordCounts[index] as number;
        for (let at = 0; at + 1 < symbols.length; at += 1) {
          if (symbols[at] !== left || symbols[at + 1] !== right) continue;
          const before = symbols[at - 1];
          const after = symbols[at + 2];
          if (before !== undefined) {
            const old = keyOf(before, left);
            pairCounts.set(old, (pairCounts.get(old) ?? 0) - count);
            addPair(keyOf(before, merged), count, index);
            fresh.add(keyOf(before, merged));
          }
          if (after !== undefined) {
            const old = keyOf(right, after);
            pairCounts.set(old, (pairCounts.get(old) ?? 0) - count);
            addPair(keyOf(merged, after), count, index);
            fresh.add(keyOf(merged, after));
          }
          symbols.splice(at, 2, merged);
        }
      }
      pairCounts.delete(mergedKey);
      for (const key of fresh) if (key !== mergedKey) heap.push(key);
    },
  };
}

interface Heap {
  push(key: number): void;
  /** The key with the highest count of at least `minCount`, ties to the lowest key; keys below it are dropped. */
  pop(minCount: number): number | undefined;
}

/** A binary heap whose entries may be stale: a key that has lost count since it was pushed is put back when it surfaces. */
function createHeap(countOf: (key: number) => number): Heap {
  const keys: number[] = [];
  const counts: number[] = [];
  const isBefore = (a: number, b: number): boolean => {
    const difference = (counts[a] as number) - (counts[b] as number);
    return difference === 0 ? (keys[a] as number) < (keys[b] as number) : difference > 0;
  };
  const swap = (a: number, b: number): void => {
    [keys[a], keys[b]] = [keys[b] as number, keys[a] as number];
    [counts[a], counts[b]] = [counts[b] as number, counts[a] as number];
  };
  const push = (key: number, count: number): void => {
    let at = keys.push(key) - 1;
    counts.push(count);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(at, parent)) break;
      swap(at, parent);
      at = parent;
    }
  };
  const removeTop = (): void => {
    swap(0, keys.length - 1);
    keys.pop();
    counts.pop();
    for (let at = 0; ; ) {
      let first = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < keys.length && isBefore(child, first)) first = child;
      }
      if (first === at) return;
      swap(at, first);
      at = first;
    }
  };
  return {
    push: (key) => push(key, countOf(key)),
    pop(minCount) {
      while (keys.length > 0) {
        const key = keys[0] as number;
        const stored = counts[0] as number;
        const current = countOf(key);
        removeTop();
        if (current === stored && current >= minCount) return key;
        if (current < stored && current >= minCount) push(key, current);
      }
      return undefined;
    },
  };
}

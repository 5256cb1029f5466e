/**
 * @file Makes batches for masked language modelling: windows of a corpus as one segment or two, with whole words masked.
 *
 * Everything random is a function of (seed, step), so a resumed run sees the batches that an undisturbed one would.
 *
 * Shapes: B = rows, S = length, K = scored (position, layer) pairs, P = scored (pair row, layer) pairs, T = layers.
 */
import { createRng, type Rng } from "@cee/engine";
import { BackboneError } from "../errors.js";
import type { Corpus, Split } from "./corpus.js";

/** How the second segment of a pair relates to the first. */
export const PAIR_CLASSES = ["follows", "precedes", "is from elsewhere"] as const;

/**
 * What the sentence-pair loss asks. `order`: whether the second segment follows the first, precedes it, or comes from another
 * place, as in BERT and ALBERT. `words`: whether the second segment is where the first one's words were drawn from, or lies
 * near that place, the first being some of the words of a short span: what relates a question to its answer (after the
 * inverse cloze task of Lee et al. 2019, Latent Retrieval for Weakly Supervised Open Domain Question Answering, with negatives
 * of the same document).
 */
export type PairTask = "order" | "words";

/** One batch; every row is full, so there is no padding. */
export interface MlmBatch {
  readonly rows: number;
  readonly length: number;
  /** `[B, S]`, after masking. */
  readonly ids: Int32Array;
  /** `[B, S]` */
  readonly types: Int32Array;
  /** Masked places as `row * S + position`, ascending. */
  readonly positions: Int32Array;
  /** The ids that were there. */
  readonly targets: Int32Array;
  /** Rows of two segments, ascending, and the index of {@link PAIR_CLASSES} for each. */
  readonly pairRows: Int32Array;
  readonly pairTargets: Int32Array;
}

export interface MlmBatchOptions {
  readonly seed: number;
  /** Share of the tokens to predict. @default 0.15 */
  readonly maskShare?: number;
  /** Share of the windows inside one document that are cut into two segments. @default 0.5 */
  readonly pairShare?: number;
  /** @default "order" */
  readonly pairTask?: PairTask;
  /**
   * Largest share of the words of a `words` pair's first segment that come from the other of the two places: a question shares
   * but some of its words with its answer, and a few with what stands beside it. @default 0
   */
  readonly pairMix?: number;
}

export interface MlmBatcher {
  /** The rows numbered `firstRow`, `firstRow + 1`, … of the run's endless sequence. */
  batch(firstRow: number, rows: number, length: number): MlmBatch;
  /** The same rows at every call, spread evenly over the held-out blocks. */
  heldOut(rows: number, length: number): MlmBatch;
}

interface Pieces {
  readonly cls: number;
  readonly sep: number;
  readonly mask: number;
  readonly startsWord: Uint8Array;
  readonly endsSentence: Uint8Array;
  /** What a masked place may be replaced with. */
  readonly ordinary: Int32Array;
}

/** @throws BackboneError `BAD_VOCABULARY` when a special piece is missing. */
export function createMlmBatcher(
  corpus: Corpus,
  vocabulary: readonly string[],
  { seed, maskShare = 0.15, pairShare = 0.5, pairTask = "order", pairMix = 0 }: MlmBatchOptions,
): MlmBatcher {
  const pieces = readPieces(vocabulary);
  const layOut = pairTask === "words" ? layOutWords : layOutOrder;
  const streams = createRng(seed);
  const shift = streams.fork("corpus").next();
  const make = (split: Split, firstRow: number, rows: number, length: number, places: Place) => {
    const batch = {
      rows,
      length,
      ids: new Int32Array(rows * length),
      types: new Int32Array(rows * length),
    };
    const positions: number[] = [];
    const targets: number[] = [];
    const pairRows: number[] = [];
    const pairTargets: number[] = [];
    for (let row = 0; row < rows; row += 1) {
      const read = (at: number) => corpus.window(split, at, length + Math.floor(length / 3));
      // A stream for each row, so that rows do not depend on how they are grouped into batches.
      const rng = streams.fork(`${split}/${firstRow + row}`);
      const place = places(firstRow + row);
      const { ids, second, relation } = layOut({
        raw: read(place),
        elsewhere: () => read(rng.next()),
        nearby: () => read(nearby(place, length / corpus.size(split), rng)),
        length,
        pieces,
        pairShare,
        pairMix,
        rng,
      });
      batch.ids.set(ids, row * length);
      if (second < length) batch.types.fill(1, row * length + second, (row + 1) * length);
      if (relation !== undefined) {
        pairRows.push(row);
        pairTargets.push(relation);
      }
      for (const position of maskWords(ids, maskShare, pieces, rng)) {
        const at = row * length + position;
        positions.push(at);
        targets.push(ids[position] as number);
        batch.ids[at] = replacement(ids[position] as number, pieces, rng);
      }
    }
    return {
      ...batch,
      positions: Int32Array.from(positions),
      targets: Int32Array.from(targets),
      pairRows: Int32Array.from(pairRows),
      pairTargets: Int32Array.from(pairTargets),
    };
  };
  return {
    batch(firstRow, rows, length) {
      // A Kronecker sequence visits the corpus evenly, far apart from row to row, and needs no memory of where it was.
      const places = (row: number) => (shift + row * GOLDEN) % 1;
      return make("train", firstRow, rows, length, places);
    },
    heldOut(rows, length) {
      return make("held-out", 0, rows, length, (row) => (row + 0.5) / rows);
    },
  };
}

type Place = (row: number) => number;
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** From 3 to 8 lengths away, mostly in the same document; on the other side where the split ends. */
function nearby(place: number, length: number, rng: Rng): number {
  const distance = (3 + 5 * rng.next()) * length;
  const target = rng.next() < 0.5 ? place - distance : place + distance;
  if (target < 0) return Math.min(place + distance, 1 - length / 2);
  return target < 1 ? target : Math.max(0, place - distance);
}

interface LayoutOptions {
  readonly raw: ArrayLike<number>;
  /** Another place of the corpus. */
  readonly elsewhere: () => ArrayLike<number>;
  readonly nearby: () => ArrayLike<number>;
  readonly length: number;
  readonly pieces: Pieces;
  readonly pairShare: number;
  readonly pairMix: number;
  readonly rng: Rng;
}

interface Layout {
  readonly ids: Int32Array;
  /** Where the second segment starts; the length when there is none. */
  readonly second: number;
  readonly relation: number | undefined;
}

/** `[CLS] a [SEP]`, or `[CLS] a [SEP] b [SEP]` when the window spans two documents or is cut at a sentence's end. */
function layOutOrder({ raw, elsewhere, length, pieces, pairShare, rng }: LayoutOptions): Layout {
  const window = startWell(raw, length, pieces);
  const isPair = rng.next() < pairShare;
  const kind = rng.int(PAIR_CLASSES.length);
  const goal = 0.3 + 0.4 * rng.next();
  const other = isPair && kind === 2 ? startWell(elsewhere(), length, pieces) : undefined;
  const end = Array.prototype.indexOf.call(window, pieces.sep);
  const insideOne = end === -1 || end >= length - 2;
  const cut = isPair && insideOne ? sentenceEnd(window, length - 3, goal, pieces) : undefined;
  if (cut === undefined) return oneWindow(window, length, pieces);
  const tail = length - 3 - cut;
  const first = kind === 1 ? slice(window, cut, tail) : slice(window, 0, cut);
  const last =
    kind === 1 ? slice(window, 0, cut) : other ? slice(other, 0, tail) : slice(window, cut, tail);
  return twoSegments(first, last, kind, length, pieces);
}

/** `[CLS] words [SEP] passage [SEP]`, or the window alone where it spans two documents. */
function layOutWords({
  raw,
  nearby: readNearby,
  length,
  pieces,
  pairShare,
  pairMix,
  rng,
}: LayoutOptions): Layout {
  const window = startWell(raw, length, pieces);
  const isPair = rng.next() < pairShare;
  const isSource = rng.next() < 0.5;
  const span = Math.floor((length - 3) * (0.2 + 0.2 * rng.next()));
  const start = rng.next();
  if (!isPair || indexIn(window, pieces.sep, length) !== -1)
    return oneWindow(window, length, pieces);
  const beside = isSource && pairMix === 0 ? [] : startWell(readNearby(), length, pieces);
  // The passage is shorter by the first segment, and has to reach the last word that may be drawn.
  const from = Math.floor(start * (length - 3 - 2 * span));
  const own = someWords(isSource ? window : beside, from, span, pieces, rng);
  const first =
    pairMix === 0
      ? own
      : mixWords(own, someWords(isSource ? beside : window, from, span, pieces, rng), {
          share: pairMix * rng.next(),
          span,
          pieces,
          rng,
        });
  if (first.length === 0) return oneWindow(window, length, pieces);
  const last = slice(window, 0, length - 3 - first.length);
  return twoSegments(first, last, isSource ? 0 : 2, length, pieces);
}

/**
 * Whole words from the first one at or after `start`: all of them or as few as half, since a text that is whole teaches sooner to
 * look for it in the other segment, and one with gaps to do so word by word.
 */
function someWords(
  window: ArrayLike<number>,
  start: number,
  span: number,
  pieces: Pieces,
  rng: Rng,
): Int32Array {
  const share = 0.5 + 0.5 * rng.next();
  const kept: number[] = [];
  let isKept = false;
  for (let at = start; at < start + span; at += 1) {
    const id = window[at] as number;
    if (id === pieces.sep) break;
    if (pieces.startsWord[id]) isKept = rng.next() < share;
    if (isKept) kept.push(id);
  }
  return Int32Array.from(kept);
}

/** Each word of `own`, or with a probability of `share` the word of `other` in its turn; at most `span` pieces. */
function mixWords(
  own: Int32Array,
  other: Int32Array,
  { share, span, pieces, rng }: { share: number; span: number; pieces: Pieces; rng: Rng },
): Int32Array {
  const others = wordsOf(other, pieces);
  const mixed: number[] = [];
  for (const [index, word] of wordsOf(own, pieces).entries()) {
    const chosen = rng.next() < share ? (others[index] ?? word) : word;
    if (mixed.length + chosen.length > span) break;
    mixed.push(...chosen);
  }
  return Int32Array.from(mixed);
}

function wordsOf(ids: Int32Array, pieces: Pieces): number[][] {
  const words: number[][] = [];
  for (const id of ids) {
    const last = words.at(-1);
    if (last === undefined || pieces.startsWord[id]) words.push([id]);
    else last.push(id);
  }
  return words;
}

function oneWindow(window: ArrayLike<number>, length: number, pieces: Pieces): Layout {
  const ids = new Int32Array(length);
  ids[0] = pieces.cls;
  ids[length - 1] = pieces.sep;
  for (let at = 0; at < length - 2; at += 1) ids[at + 1] = window[at] as number;
  return { ids, second: ids.indexOf(pieces.sep) + 1, relation: undefined };
}

function twoSegments(
  first: Int32Array,
  last: Int32Array,
  relation: number,
  length: number,
  pieces: Pieces,
): Layout {
  const ids = new Int32Array(length);
  ids[0] = pieces.cls;
  ids.set(first, 1);
  ids[first.length + 1] = pieces.sep;
  ids.set(last, first.length + 2);
  ids[length - 1] = pieces.sep;
  return { ids, second: first.length + 2, relation };
}

function indexIn(window: ArrayLike<number>, id: number, end: number): number {
  for (let at = 0; at < Math.min(end, window.length); at += 1) if (window[at] === id) return at;
  return -1;
}

function slice(window: ArrayLike<number>, start: number, count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, index) => window[start + index] as number);
}

/** Drops the start of a window up to a document's or a sentence's end, or at least up to a word's. */
function startWell(window: ArrayLike<number>, length: number, pieces: Pieces): ArrayLike<number> {
  const spare = Math.max(0, window.length - length);
  let start = -1;
  for (let at = 0; at < spare && start === -1; at += 1) {
    const id = window[at] as number;
    const next = window[at + 1] as number;
    if (id === pieces.sep) start = at + 1;
    else if (pieces.endsSentence[id] && pieces.startsWord[next] && !pieces.endsSentence[next])
      start = at + 1;
  }
  for (let at = 0; at <= spare && start === -1; at += 1) {
    if (pieces.startsWord[window[at] as number]) start = at;
  }
  // A window at a document's end would start with its boundary.
  if (window[start] === pieces.sep) start += 1;
  return Array.prototype.slice.call(window, Math.max(0, start));
}

/** The sentence end nearest to `goal` (a share of `limit`), at least a sixth away from both ends. */
function sentenceEnd(
  window: ArrayLike<number>,
  limit: number,
  goal: number,
  pieces: Pieces,
): number | undefined {
  let best: number | undefined;
  for (let at = Math.floor(limit / 6); at < limit - limit / 6; at += 1) {
    const isEnd =
      pieces.endsSentence[window[at - 1] as number] === 1 &&
      pieces.startsWord[window[at] as number] === 1 &&
      pieces.endsSentence[window[at] as number] === 0;
    if (!isEnd) continue;
    if (best === undefined || Math.abs(at - goal * limit) < Math.abs(best - goal * limit))
      best = at;
  }
  return best;
}

/** Places to predict: whole words in random order, as many as fit into the share. */
function maskWords(ids: Int32Array, share: number, pieces: Pieces, rng: Rng): number[] {
  const words: number[][] = [];
  ids.forEach((id, position) => {
    if (id === pieces.cls || id === pieces.sep) return;
    const before = ids[position - 1] as number;
    const continues = !pieces.startsWord[id] && before !== pieces.cls && before !== pieces.sep;
    if (continues) (words.at(-1) as number[]).push(position);
    else words.push([position]);
  });
  const quota = Math.max(1, Math.round(share * (ids.length - 2)));
  const chosen: number[] = [];
  for (const word of rng.shuffle(words)) {
    if (chosen.length + word.length <= quota) chosen.push(...word);
    if (chosen.length === quota) break;
  }
  return chosen.sort((a, b) => a - b);
}

/** BERT's 80 % `[MASK]`, 10 % any piece, 10 % unchanged. */
function replacement(id: number, pieces: Pieces, rng: Rng): number {
  const draw = rng.next();
  if (draw < 0.8) return pieces.mask;
  return draw < 0.9 ? (pieces.ordinary[rng.int(pieces.ordinary.length)] as number) : id;
}

function readPieces(vocabulary: readonly string[]): Pieces {
  const id = (piece: string): number => {
    const found = vocabulary.indexOf(piece);
    if (found !== -1) return found;
    const message = `the vocabulary has no ${piece}, got ${vocabulary.length} pieces. Use a BERT vocabulary.`;
    throw new BackboneError("BAD_VOCABULARY", "mlm", message);
  };
  const special = /^\[[^\]]+\]$/;
  const ordinary = [...vocabulary.keys()].filter(
    (index) => !special.test(vocabulary[index] as string),
  );
  return {
    cls: id("[CLS]"),
    sep: id("[SEP]"),
    mask: id("[MASK]"),
    startsWord: Uint8Array.from(vocabulary, (piece) => (piece.startsWith("##") ? 0 : 1)),
    // Closing quotes after the sign belong to the sentence.
    endsSentence: Uint8Array.from(vocabulary, (piece) => (/^[.!?]$/.test(piece) ? 1 : 0)),
    ordinary: Int32Array.from(ordinary),
  };
}

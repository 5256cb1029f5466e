/** @file Lays a window of the corpus out as one segment or two: what the sentence-pair loss asks. */
import type { Rng } from "@cee/engine";

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

export interface Pieces {
  readonly cls: number;
  readonly sep: number;
  readonly mask: number;
  readonly startsWord: Uint8Array;
  readonly endsSentence: Uint8Array;
  /** What a masked place may be replaced with. */
  readonly ordinary: Int32Array;
}

export interface LayoutOptions {
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

export interface Layout {
  readonly ids: Int32Array;
  /** Where the second segment starts; the length when there is none. */
  readonly second: number;
  readonly relation: number | undefined;
}

/** `[CLS] a [SEP]`, or `[CLS] a [SEP] b [SEP]` when the window spans two documents or is cut at a sentence's end. */
export function layOutOrder({
  raw,
  elsewhere,
  length,
  pieces,
  pairShare,
  rng,
}: LayoutOptions): Layout {
  const window = startWell(raw, length, pieces);
  const isPair = rng.next() < pairShare;
  const kind = rng.int(PAIR_CLASSES.length);
  const goal = 0.3 + 0.4 * rng.next();
  const other = isPair && kind === 2 ? startWell(elsewhere(), length, pieces) : undefined;
  const end = boundaryIn(window, pieces);
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
export function layOutWords({
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
  const end = boundaryIn(window, pieces);
  if (!isPair || (end !== -1 && end < length)) return oneWindow(window, length, pieces);
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

/** Where a document ends in a window; -1 where none does. */
function boundaryIn(window: ArrayLike<number>, pieces: Pieces): number {
  return Array.prototype.indexOf.call(window, pieces.sep);
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

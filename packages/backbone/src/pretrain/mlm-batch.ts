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
import { layOutOrder, layOutWords, type PairTask, type Pieces } from "./pair-layout.js";

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

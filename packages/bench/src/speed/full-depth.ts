/** @file Full depth without exits: on batches of one length, and on sentences as they come. */
import { type ExitEncoder, openFlat, toBatch } from "@cee/backbone";
import type { Engine, Rng } from "@cee/engine";
import type { ProgressLine } from "../glue/progress.js";
import { median } from "../metrics/statistics.js";
import { candidate, checkSame, compare, SYSTEMS } from "./forced.js";
import { forcedBatch, type SpeedSizes, workOf } from "./model.js";
import type { FullPart, ThroughputPart } from "./results.js";
import { interleave } from "./rounds.js";
import type { TransformersPeer } from "./transformers.js";

export const BUCKETED = "full depth, sorted by length";
export const IN_ORDER = "full depth, in order";

export interface FullOptions {
  readonly engine: Engine;
  /** One whose threads spin while a graph runs, as those of others do by default. */
  readonly spinning: Engine;
  readonly encoder: ExitEncoder;
  readonly sizes: SpeedSizes;
  readonly rounds: number;
  readonly seed: number;
  readonly rng: Rng;
  /** With the same thread settings as ours, and with its own. */
  readonly transformers: { readonly same: TransformersPeer; readonly own: TransformersPeer };
  readonly signal: AbortSignal | undefined;
  readonly progress: ProgressLine;
}

/** Token ids to logits. */
export async function measureFull(
  options: FullOptions,
  batches: readonly number[],
): Promise<FullPart[]> {
  const { engine, spinning, encoder, sizes, rounds, seed, rng } = options;
  const { transformers, signal, progress } = options;
  const full = openFlat(engine, encoder, encoder.params);
  const fullSpinning = openFlat(spinning, encoder, encoder.params);
  const parts: FullPart[] = [];
  try {
    for (const size of batches) {
      const layers = Array.from({ length: size }, () => sizes.depth);
      const batch = forcedBatch(sizes, layers, seed);
      const logits = await full.logits(batch);
      checkSame(SYSTEMS.transformers, await transformers.same.logits(batch), logits);
      checkSame(SYSTEMS.fullSpinning, await fullSpinning.logits(batch), logits);
      const times = await interleave(
        [
          candidate(SYSTEMS.full, () => full.logits(batch)),
          candidate(SYSTEMS.fullSpinning, () => fullSpinning.logits(batch)),
          candidate(SYSTEMS.transformers, () => transformers.same.logits(batch)),
          candidate(SYSTEMS.transformersOwn, () => transformers.own.logits(batch)),
        ],
        {
          ...{ rounds, rng, signal },
          onRound: () =>
            progress.update(`width ${sizes.width}, full depth, batch ${size}`, workOf(sizes.width)),
        },
      );
      const timed = compare(times, SYSTEMS.transformers, seed);
      parts.push({ width: sizes.width, batch: size, timed });
      progress.print(
        `width ${sizes.width}, full depth, batch ${size}: ${timed.map(({ system, median: middle }) => `${system} ${middle.toFixed(1)} ms`).join(", ")}`,
      );
    }
  } finally {
    await full.dispose();
    await fullSpinning.dispose();
  }
  return parts;
}

/** Texts to logits, 32 at a time; every system tokenises for itself. */
export async function measureThroughput(
  options: FullOptions,
  { name, texts }: { readonly name: string; readonly texts: readonly string[] },
  rounds: number,
): Promise<ThroughputPart> {
  const { engine, encoder, sizes, seed, rng, transformers, signal, progress } = options;
  const { tokenizer, config } = encoder;
  if (!tokenizer) throw new Error("internal: an encoder without a tokenizer");
  const full = openFlat(engine, encoder, encoder.params);
  const classes = encoder.shape.classes;
  const BATCH = 32;
  const answerAll = async (bySize: boolean): Promise<Float32Array> => {
    const rows = texts.map((text) => tokenizer.encode(text, { maxLength: config.maxPositions }));
    const order = rows.map((_, index) => index);
    const lengthOf = (index: number) => (rows[index] as (typeof rows)[number]).ids.length;
    if (bySize) order.sort((a, b) => lengthOf(a) - lengthOf(b));
    const answers = new Float32Array(texts.length * classes);
    for (let from = 0; from < order.length; from += BATCH) {
      const places = order.slice(from, from + BATCH);
      const batch = toBatch(
        places.map((place) => rows[place] as (typeof rows)[number]),
        { padId: tokenizer.padId },
      );
      const logits = await full.logits(batch);
      places.forEach((place, row) => {
        answers.set(logits.subarray(row * classes, (row + 1) * classes), place * classes);
      });
    }
    return answers;
  };
  const peerAll = async (peer: TransformersPeer): Promise<Float32Array> => {
    const answers: number[] = [];
    for (let from = 0; from < texts.length; from += BATCH)
      answers.push(...(await peer.classify(texts.slice(from, from + BATCH))));
    return Float32Array.from(answers);
  };
  try {
    const expected = await answerAll(false);
    checkSame(BUCKETED, await answerAll(true), expected);
    checkSame(SYSTEMS.transformers, await peerAll(transformers.same), expected);
    const times = await interleave(
      [
        candidate(BUCKETED, () => answerAll(true)),
        candidate(IN_ORDER, () => answerAll(false)),
        candidate(SYSTEMS.transformers, () => peerAll(transformers.same)),
        candidate(SYSTEMS.transformersOwn, () => peerAll(transformers.own)),
      ],
      {
        ...{ rounds, rng, signal },
        warmUp: 0,
        onRound: () => progress.update(`width ${sizes.width}, sentences`, workOf(sizes.width)),
      },
    );
    const timed = compare(times, SYSTEMS.transformers, seed).map((own) => ({
      ...own,
      sentencesPerSecond: (1000 * texts.length) / median(own.rounds),
    }));
    progress.print(
      `width ${sizes.width}, ${name}, sentences a second: ${timed.map(({ system, sentencesPerSecond }) => `${system} ${sentencesPerSecond.toFixed(0)}`).join(", ")}`,
    );
    return { width: sizes.width, data: name, sentences: texts.length, timed };
  } finally {
    await full.dispose();
  }
}

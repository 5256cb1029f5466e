/**
 * @file BERTScore: how well the tokens of two texts match each other in the states of an encoder.
 *
 * Shapes: B = texts, S = padded length, H = hidden size, m, n = tokens of the candidate and of the reference.
 * @see Zhang et al. 2020; no idf weights and no rescaling, as the published package does by default
 */
import {
  attentionBias,
  type BertConfig,
  batchInputs,
  batchSpecs,
  block,
  embed,
  type TextTokenizer,
  toBatch,
} from "@cee/backbone";
import type { Engine, HostParams, HostTensor } from "@cee/engine";
import { BenchError } from "../errors.js";

export interface ScoringEncoder {
  /** What readers are told, such as a folder's name. */
  readonly identity: string;
  readonly config: BertConfig;
  readonly params: HostParams;
  readonly tokenizer: TextTokenizer;
  /** Whose states are compared, 1 to depth. @default three quarters of the depth: 9 of 12, as published */
  readonly layer?: number;
}

export interface BertScore {
  readonly identity: string;
  readonly layer: number;
  /** BERTScore F1 of each candidate with its reference, in [-1, 1]; 0 where a text has no tokens. */
  scores(candidates: readonly string[], references: readonly string[]): Promise<Float64Array>;
  dispose(): Promise<void>;
}

/** Compiles the encoder's first layers. @throws BenchError `BAD_OPTION` */
export function openBertScore(engine: Engine, encoder: ScoringEncoder): BertScore {
  const { config, params, tokenizer, identity } = encoder;
  const layer = encoder.layer ?? Math.max(1, Math.round(0.75 * config.depth));
  if (!Number.isInteger(layer) || layer < 1 || layer > config.depth)
    throw new BenchError(
      "BAD_OPTION",
      "bert-score",
      `the layer must be from 1 to ${config.depth}, got ${layer}.`,
    );
  const own = Object.entries(params).filter(([path]) => path.startsWith("backbone."));
  const program = engine.compile(
    ({ params: weights, ...inputs }) => {
      const batch = inputs as unknown as Parameters<typeof embed>[1] & {
        readonly mask: Parameters<typeof attentionBias>[0];
      };
      const bias = attentionBias(batch.mask);
      let hidden = embed(weights as never, batch, { config });
      for (let at = 1; at <= layer; at += 1)
        hidden = block(weights as never, at, hidden, bias, { config });
      return { hidden };
    },
    { name: "bert-score", inputs: batchSpecs, constants: { params: Object.fromEntries(own) } },
  );
  const statesOf = async (texts: readonly string[]): Promise<Float32Array[]> => {
    const rows = texts.map((text) => tokenizer.encode(text, { maxLength: config.maxPositions }));
    const batch = toBatch(rows, { padId: config.padTokenId });
    const { hidden } = await program.run<{ readonly hidden: HostTensor }>(batchInputs(batch));
    const width = config.hidden;
    return rows.map(({ ids }, row) =>
      (hidden.data as Float32Array).slice(
        row * batch.length * width,
        (row * batch.length + ids.length) * width,
      ),
    );
  };
  return {
    identity,
    layer,
    async scores(candidates, references) {
      const result = new Float64Array(candidates.length);
      for (let at = 0; at < candidates.length; at += BATCH) {
        const end = Math.min(at + BATCH, candidates.length);
        const ours = await statesOf(candidates.slice(at, end));
        const theirs = await statesOf(references.slice(at, end));
        for (let row = at; row < end; row += 1)
          result[row] = matchF(
            ours[row - at] as Float32Array,
            theirs[row - at] as Float32Array,
            config.hidden,
          );
      }
      return result;
    },
    dispose: () => program.dispose(),
  };
}

const BATCH = 32;

/**
 * Each token's best cosine in the other text, averaged over the tokens between the first and the last, which only mark
 * where a text starts and ends; F of both directions.
 */
export function matchF(candidate: Float32Array, reference: Float32Array, width: number): number {
  const [ours, theirs] = [unitRows(candidate, width), unitRows(reference, width)];
  const [m, n] = [candidate.length / width, reference.length / width];
  if (m < 3 || n < 3) return 0;
  const bestOurs = new Float64Array(m).fill(Number.NEGATIVE_INFINITY);
  const bestTheirs = new Float64Array(n).fill(Number.NEGATIVE_INFINITY);
  for (let i = 0; i < m; i += 1)
    for (let j = 0; j < n; j += 1) {
      let cosine = 0;
      for (let at = 0; at < width; at += 1)
        cosine += (ours[i * width + at] as number) * (theirs[j * width + at] as number);
      bestOurs[i] = Math.max(bestOurs[i] as number, cosine);
      bestTheirs[j] = Math.max(bestTheirs[j] as number, cosine);
    }
  const mean = (values: Float64Array) =>
    values.subarray(1, -1).reduce((sum, value) => sum + value, 0) / (values.length - 2);
  const [precision, recall] = [mean(bestOurs), mean(bestTheirs)];
  return precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall);
}

function unitRows(states: Float32Array, width: number): Float64Array {
  const unit = Float64Array.from(states);
  for (let row = 0; row < states.length; row += width) {
    let sum = 0;
    for (let at = 0; at < width; at += 1) sum += (unit[row + at] as number) ** 2;
    const length = Math.sqrt(sum) || 1;
    for (let at = 0; at < width; at += 1) unit[row + at] = (unit[row + at] as number) / length;
  }
  return unit;
}

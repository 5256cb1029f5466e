/** @file From logits to the next token. V = vocabulary. */
import { ExitStrategyError } from "../errors.js";

export interface SamplingOptions {
  /** Divides the logits; 0 takes the likeliest token. @default 0 */
  readonly temperature?: number;
  /** Keeps that many of the likeliest tokens, and those level with the last. @default all */
  readonly topK?: number;
  /** Keeps the fewest tokens whose probabilities sum to at least this. @default 1 */
  readonly topP?: number;
  /** Divides positive and multiplies negative logits of tokens that the text holds, its prompt included. @default 1 */
  readonly repetitionPenalty?: number;
}

/**
 * The settings that the paper prints for its generation results; its evaluation script leaves sampling off.
 * @see Zeng et al. 2024, appendix; methods differ from the released code, which decodes greedily
 */
export const paperDecoding: Required<Pick<SamplingOptions, "temperature" | "topK" | "topP">> =
  Object.freeze({ temperature: 1, topK: 40, topP: 0.75 });

/** @throws ExitStrategyError `INVALID_OPTIONS` */
export function checkSampling(options: SamplingOptions): void {
  const { temperature = 0, topK = 1, topP = 1, repetitionPenalty = 1 } = options;
  const refuse = (name: string, wanted: string, got: unknown): never => {
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      "generate",
      `${name} must be ${wanted}, got ${String(got)}.`,
    );
  };
  if (!(temperature >= 0 && Number.isFinite(temperature)))
    refuse("temperature", "a number from 0", temperature);
  if (!(Number.isInteger(topK) && topK >= 1)) refuse("topK", "a whole number from 1", topK);
  if (!(topP > 0 && topP <= 1)) refuse("topP", "above 0 and at most 1", topP);
  if (!(repetitionPenalty > 0 && Number.isFinite(repetitionPenalty)))
    refuse("repetitionPenalty", "a number above 0", repetitionPenalty);
}

/**
 * The probabilities that the next token is drawn from, shape `[V]`; with temperature 0 all lies on the likeliest (of
 * equals the first). In the order of Hugging Face's processors: repetition, temperature, top-k, top-p.
 */
export function nextTokenProbabilities(
  logits: Float32Array,
  context: Iterable<number>,
  { temperature = 0, topK, topP = 1, repetitionPenalty = 1 }: SamplingOptions = {},
): Float64Array {
  const scores = Float64Array.from(logits);
  if (repetitionPenalty !== 1)
    for (const id of new Set(context)) {
      const score = scores[id] as number;
      scores[id] = score > 0 ? score / repetitionPenalty : score * repetitionPenalty;
    }
  if (temperature === 0) {
    const probabilities = new Float64Array(scores.length);
    probabilities[likeliest(scores)] = 1;
    return probabilities;
  }
  for (let id = 0; id < scores.length; id += 1) scores[id] = (scores[id] as number) / temperature;
  if (topK !== undefined && topK < scores.length) {
    const least = Float64Array.from(scores).sort()[scores.length - topK] as number;
    for (let id = 0; id < scores.length; id += 1)
      if ((scores[id] as number) < least) scores[id] = Number.NEGATIVE_INFINITY;
  }
  const probabilities = softmax(scores);
  if (topP < 1) keepNucleus(probabilities, topP);
  return probabilities;
}

/** Draws a token with one number of [0, 1). */
export function draw(probabilities: Float64Array, random: number): number {
  let rest = random;
  let last = 0;
  for (let id = 0; id < probabilities.length; id += 1) {
    const share = probabilities[id] as number;
    if (share <= 0) continue;
    last = id;
    rest -= share;
    if (rest < 0) return id;
  }
  // The shares may sum to a little less than 1.
  return last;
}

/**
 * Speculative sampling: keeps a token drawn from `draft` with probability min(1, full / draft), else draws from what is
 * left of `full`. The result is distributed as `full`. With one-hot probabilities it compares and replaces.
 * @see Leviathan et al. 2023, section 2.3
 */
export function acceptOrReplace(
  id: number,
  draft: Float64Array,
  full: Float64Array,
  random: () => number,
): { readonly id: number; readonly isAccepted: boolean } {
  const [proposed, wanted] = [draft[id] as number, full[id] as number];
  if (wanted >= proposed || random() * proposed < wanted) return { id, isAccepted: true };
  const rest = full.map((share, index) => Math.max(0, share - (draft[index] as number)));
  const sum = rest.reduce((total, share) => total + share, 0);
  return {
    id: draw(sum > 0 ? rest.map((share) => share / sum) : full, random()),
    isAccepted: false,
  };
}

/** The index of the highest number; of equals the first. */
export function likeliest(scores: ArrayLike<number>): number {
  let best = 0;
  for (let id = 1; id < scores.length; id += 1)
    if ((scores[id] as number) > (scores[best] as number)) best = id;
  return best;
}

/** How far the highest logit is above the second. */
export function topTwoGap(logits: Float32Array): number {
  let [first, second] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const logit of logits)
    if (logit > first) [first, second] = [logit, first];
    else if (logit > second) second = logit;
  return first - second;
}

function softmax(scores: Float64Array): Float64Array {
  let highest = Number.NEGATIVE_INFINITY;
  for (const score of scores) if (score > highest) highest = score;
  const shares = scores.map((score) => Math.exp(score - highest));
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
}

function keepNucleus(probabilities: Float64Array, topP: number): void {
  const order = Array.from(probabilities.keys()).sort(
    (a, b) => (probabilities[b] as number) - (probabilities[a] as number) || a - b,
  );
  let sum = 0;
  let kept = 0;
  while (kept < order.length && sum < topP) {
    sum += probabilities[order[kept] as number] as number;
    kept += 1;
  }
  for (const id of order.slice(kept)) probabilities[id] = 0;
  for (const id of order.slice(0, kept)) probabilities[id] = (probabilities[id] as number) / sum;
}

/** @file From a caller's texts to token rows that a model can take, and back to answers. C = classes. */
import type { ExitEncoder, TextInput, TextTokenizer } from "@cee/backbone";
import type { RowAnswer } from "@cee/exit-policies";
import { ConsistentEEError } from "./errors.js";

/** Two texts that are read together, as in entailment. */
export interface TextPair {
  readonly text: string;
  readonly pair: string;
}

/** What one request may be; a list of two strings is a pair only inside a list of requests. */
export type ClassifyInput = string | TextPair | readonly [text: string, pair: string];

export interface Prediction {
  /** Name of the class; `LABEL_0`, … where nobody named them, and for a regression. */
  readonly label: string;
  /** Probability of that class, or a regression's value. */
  readonly score: number;
  /** Of all classes, in their order, shape `[C]`; empty for a regression. */
  readonly probabilities: readonly number[];
  /** Layer that answered, counted from 1. */
  readonly exitLayer: number;
  /** Layers of the whole model. */
  readonly layers: number;
  /** From the call until the answer: tokenising, waiting for the device and the layers. */
  readonly milliseconds: number;
  /** Whether the text was longer than the model's positions and lost tokens at its end. */
  readonly truncated: boolean;
}

/** One tokenised request. */
export interface PreparedRow {
  readonly ids: Int32Array;
  readonly types: Int32Array;
  readonly isPair: boolean;
  readonly truncated: boolean;
}

export interface PrepareOptions {
  readonly tokenizer: TextTokenizer;
  readonly maxLength: number;
  readonly tooLong: "truncate" | "refuse";
}

/** @throws ConsistentEEError `BAD_INPUT` */
export function prepareRow(
  input: ClassifyInput,
  who: string,
  { tokenizer, maxLength, tooLong }: PrepareOptions,
): PreparedRow {
  const text = toTextInput(input, who);
  const isPair = typeof text !== "string";
  const whole = tokenizer.encode(text, { maxLength: Number.MAX_SAFE_INTEGER });
  refuseEmpty(text, whole.ids.length, who, tokenizer);
  const truncated = whole.ids.length > maxLength;
  if (truncated && tooLong === "refuse")
    throw bad(
      who,
      `must have at most ${maxLength} tokens, got ${whole.ids.length}. Shorten it, or load the model with tooLong: "truncate".`,
    );
  return { ...(truncated ? tokenizer.encode(text, { maxLength }) : whole), isPair, truncated };
}

/** A model reads either pairs or single texts; a list of both is a mistake of the caller's. @throws ConsistentEEError `BAD_INPUT` */
export function refuseMixture(isPair: boolean, first: boolean, who: string): void {
  if (isPair !== first)
    throw bad(
      who,
      `is a ${isPair ? "pair" : "single text"}, and what came before were ${first ? "pairs" : "single texts"}. Send one kind at a time.`,
    );
}

/** The answer for one row. @throws ConsistentEEError `NOT_FINITE` */
export function toPrediction(
  { shape, labels }: Pick<ExitEncoder, "shape" | "labels">,
  { layer, logits, prediction }: RowAnswer,
  about: Pick<Prediction, "milliseconds" | "truncated">,
): Prediction {
  const { depth, task } = shape;
  if (!logits.every(Number.isFinite))
    throw new ConsistentEEError(
      "NOT_FINITE",
      `layer ${layer}`,
      `its answer must be finite numbers, got ${[...logits].join(", ")}. The model's weights are damaged or it was trained into divergence; load another.`,
    );
  const probabilities = task === "regression" ? [] : softmax(logits);
  const winner = task === "regression" ? 0 : prediction;
  return {
    label: labels?.[winner] ?? `LABEL_${winner}`,
    score: task === "regression" ? (logits[0] as number) : (probabilities[winner] as number),
    probabilities,
    exitLayer: layer,
    layers: depth,
    ...about,
  };
}

/** Computed in double precision. */
function softmax(logits: Float32Array): number[] {
  const highest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function toTextInput(input: ClassifyInput, who: string): TextInput {
  const given: unknown = input;
  if (typeof given === "string") return given;
  const { text, pair } = (given ?? {}) as Partial<TextPair>;
  const texts: readonly unknown[] = Array.isArray(given) ? given : [text, pair];
  const [first, second] = texts;
  if (texts.length !== 2 || typeof first !== "string" || typeof second !== "string")
    throw bad(
      who,
      `must be a string, { text, pair } or [text, pair] of strings, got ${describe(given)}.`,
    );
  return [first, second];
}

function refuseEmpty(text: TextInput, length: number, who: string, tokenizer: TextTokenizer): void {
  const lengthOf = (some: TextInput) =>
    tokenizer.encode(some, { maxLength: Number.MAX_SAFE_INTEGER }).ids.length;
  const own = [length - lengthOf(typeof text === "string" ? "" : ["", ""])];
  if (typeof text !== "string") {
    const first = lengthOf(text[0]) - lengthOf("");
    own.splice(0, 1, first, (own[0] as number) - first);
  }
  const empty = own.findIndex((tokens) => tokens <= 0);
  if (empty < 0) return;
  const which = typeof text === "string" ? "" : `, in its ${empty === 0 ? "first" : "second"} text`;
  throw bad(who, `must have at least one token, got none${which}. Leave empty texts out.`);
}

/** Names shown of an object that is no request. */
const MOST_NAMES = 4;

function describe(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value !== "object" || value === null) return value === null ? "null" : typeof value;
  const entries = Object.entries(value);
  // One level: what somebody sent may be of any depth, or contain itself.
  const parts = entries
    .slice(0, MOST_NAMES)
    .map(([name, part]) => `${name}: ${part === null ? "null" : typeof part}`);
  if (entries.length > MOST_NAMES) parts.push("…");
  return parts.length > 0 ? `{ ${parts.join(", ")} }` : "{}";
}

function bad(who: string, message: string): ConsistentEEError {
  return new ConsistentEEError("BAD_INPUT", who, message);
}

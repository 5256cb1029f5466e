/** @file Instructions and their responses as texts that a decoder learns from. */
import { BackboneError } from "../../errors.js";
import type { CausalDecoder } from "../decoder.js";
import type { DecoderText } from "./decoder-subject.js";

/** A task as Alpaca's file has it. */
export interface Instruction {
  readonly instruction: string;
  /** What the task is about; may be empty. */
  readonly input?: string;
}

export type PromptTemplate = "alpaca" | "brief";

const PREAMBLES: Readonly<Record<PromptTemplate, (hasInput: boolean) => string>> = {
  alpaca: (hasInput) =>
    `Below is an instruction that describes a task${hasInput ? ", paired with an input that provides further context" : ""}. Write a response that appropriately completes the request.\n\n`,
  brief: () => "",
};

/** The prompt that asks for a response: `alpaca` is Stanford Alpaca's, `brief` the same without its first sentence. */
export function instructionPrompt(
  { instruction, input = "" }: Instruction,
  template: PromptTemplate = "alpaca",
): string {
  const { before, after } = promptParts({ instruction, input }, template);
  return `${before}${input}${after}`;
}

/** The same in parts, for inputs that have to be cut. */
export function promptParts(
  { instruction, input = "" }: Instruction,
  template: PromptTemplate = "alpaca",
): { readonly before: string; readonly after: string } {
  const hasInput = input.trim() !== "";
  const opening = `${PREAMBLES[template](hasInput)}### Instruction:\n${instruction}\n\n`;
  return {
    before: `${opening}${hasInput ? "### Input:\n" : ""}`,
    after: `${hasInput ? "\n\n" : ""}### Response:\n`,
  };
}

export interface SupervisedOptions {
  /** Longer texts lose their end. @default the model's positions */
  readonly maxLength?: number;
  /** What is learned. The paper's released code learns prompts too. @default "response" */
  readonly lossOn?: "response" | "all";
}

/** A prompt and what it should be answered. */
export interface Supervised {
  readonly id: string;
  readonly prompt: string | readonly number[];
  readonly response: string;
}

/**
 * A text to learn from: prompt, response, and the model's first end token where it still fits; `undefined` where the
 * prompt alone fills the length, so that nothing is left to learn.
 * @throws BackboneError `BAD_TOKENIZER` without a tokenizer, `BAD_OPTION`
 */
export function supervisedText(
  { tokenizer, config }: Pick<CausalDecoder, "tokenizer" | "config">,
  { id, prompt, response }: Supervised,
  { maxLength = config.maxPositions, lossOn = "response" }: SupervisedOptions = {},
): DecoderText | undefined {
  if (!tokenizer)
    throw new BackboneError(
      "BAD_TOKENIZER",
      "supervisedText",
      "the model came without a tokenizer. Put its tokenizer.json beside it.",
    );
  if (!(Number.isInteger(maxLength) && maxLength >= 2 && maxLength <= config.maxPositions))
    throw new BackboneError(
      "BAD_OPTION",
      "maxLength",
      `must be a whole number from 2 to the model's ${config.maxPositions} positions, got ${maxLength}.`,
    );
  const asked = typeof prompt === "string" ? tokenizer.encode(prompt) : prompt;
  const [end] = config.eosTokenIds;
  const answered = [
    ...withoutOpening(tokenizer.encode(response), config.bosTokenId),
    ...(end === undefined ? [] : [end]),
  ];
  const ids = [...asked, ...answered].slice(0, maxLength);
  if (asked.length < 1 || ids.length <= asked.length) return undefined;
  return { id, ids: Int32Array.from(ids), from: lossOn === "all" ? 1 : asked.length };
}

/** A part of a text: the token that opens one stands only in front of the whole. */
export function withoutOpening(ids: readonly number[], bos: number | undefined): readonly number[] {
  return ids[0] === bos && bos !== undefined ? ids.slice(1) : ids;
}

/**
 * A prompt of at most `room` tokens, whose middle part loses its end where it is too long.
 * @returns the ids, and the share of the middle part's tokens that stayed
 * @throws BackboneError `TOO_LONG` where not even the other parts fit
 */
export function cutPrompt(
  { tokenizer, config }: Pick<CausalDecoder, "tokenizer" | "config">,
  {
    before,
    text,
    after,
  }: { readonly before: string; readonly text: string; readonly after: string },
  room: number,
): { readonly ids: readonly number[]; readonly kept: number } {
  const encode = (part: string) => tokenizer?.encode(part) ?? [];
  const opening = encode(before);
  const [middle, closing] = [text, after].map((part) =>
    withoutOpening(encode(part), config.bosTokenId),
  ) as [readonly number[], readonly number[]];
  const free = room - opening.length - closing.length;
  if (free < 1)
    throw new BackboneError(
      "TOO_LONG",
      "cutPrompt",
      `the prompt's fixed parts take ${opening.length + closing.length} tokens, got room for ${room}. Use a shorter template or generate fewer tokens.`,
    );
  const part = middle.slice(0, free);
  return {
    ids: [...opening, ...part, ...closing],
    kept: middle.length === 0 ? 1 : part.length / middle.length,
  };
}

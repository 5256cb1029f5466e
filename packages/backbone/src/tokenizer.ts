/**
 * @file Text to token rows: any Hugging Face `tokenizer.json`, or WordPiece from a vocabulary. Public as
 * `@cee/backbone/tokenizer`, which runs in browsers: nothing here or in what is imported may need Node.
 */
import type { BertConfig } from "./config.js";
import { BackboneError } from "./errors.js";
import { type LibraryTokenizer, Tokenizer } from "./tokenizer-library.js";
import { truncateLongestFirst } from "./truncation.js";
import { SPECIAL_TOKENS, wordPieceJson } from "./word-piece.js";

/** One text, or a pair of texts. */
export type TextInput = string | readonly [first: string, second: string];

/** One tokenised input, not padded. */
export interface TokenEncoding {
  readonly ids: Int32Array;
  /** 0 for the first text, 1 for the second. */
  readonly types: Int32Array;
}

export interface EncodeOptions {
  /**
   * Longer inputs lose tokens at the end, of the longer text first, special tokens never.
   * @default 512
   */
  readonly maxLength?: number;
}

export interface TextTokenizer {
  /** Largest id + 1. */
  readonly vocabSize: number;
  readonly padId: number;
  /** @throws BackboneError `BAD_INPUT` when `maxLength` leaves no room for the special tokens. */
  encode(input: TextInput, options?: EncodeOptions): TokenEncoding;
  /** The text of some ids, without special tokens. */
  decode(ids: ArrayLike<number>): string;
  /** Tokens by id; `undefined` where an id is not used. */
  vocabulary(): readonly (string | undefined)[];
  /** The content of `tokenizer.json`. */
  toJson(): Readonly<Record<string, unknown>>;
}

const LARGEST_ID = 10_000_000;

/**
 * Wraps the content of a `tokenizer.json`.
 * @throws BackboneError `BAD_TOKENIZER`
 */
export function createTokenizer(
  json: unknown,
  { who = "createTokenizer", config = {} }: { who?: string; config?: object } = {},
): TextTokenizer {
  checkTokenizerJson(json, who);
  const { tokenizer, model } = construct(json, config, who);
  const vocabulary = model.vocab;
  const unknown = model.unk_token_id;
  const toId = (token: string): number => {
    const id = model.tokens_to_ids.get(token) ?? unknown;
    if (id !== undefined) return id;
    throw new BackboneError(
      "BAD_TOKENIZER",
      who,
      `has no id for ${JSON.stringify(token)} and no unknown token. Add one to the vocabulary.`,
    );
  };
  const assemble = (first: string[], second: string[] | null): TokenEncoding => {
    const processed = tokenizer.post_processor?.post_process(first, second, true);
    const tokens = processed?.tokens ?? [...first, ...(second ?? [])];
    const types = processed?.token_type_ids;
    return {
      ids: Int32Array.from(tokens, toId),
      types: types ? Int32Array.from(types) : new Int32Array(tokens.length),
    };
  };
  const specials = [assemble([], null).ids.length, assemble([], []).ids.length] as const;

  return {
    vocabSize: vocabulary.length,
    padId: findPad(json, model.tokens_to_ids),
    encode(input, { maxLength = 512 } = {}) {
      const isPair = typeof input !== "string";
      const first = tokenizer.tokenize(isPair ? input[0] : input);
      const second = isPair ? tokenizer.tokenize(input[1]) : null;
      const room = maxLength - specials[isPair ? 1 : 0];
      if (!(Number.isInteger(maxLength) && room >= 1)) {
        throw new BackboneError(
          "BAD_INPUT",
          "encode",
          `maxLength must be an integer above ${specials[isPair ? 1 : 0]}, the number of special tokens, got ${maxLength}.`,
        );
      }
      if (second === null) return assemble(first.slice(0, room), null);
      const [keepFirst, keepSecond] = truncateLongestFirst(first.length, second.length, room);
      return assemble(first.slice(0, keepFirst), second.slice(0, keepSecond));
    },
    decode(ids) {
      const list = Array.from(ids);
      return list.length === 0 ? "" : tokenizer.decode(list, { skip_special_tokens: true });
    },
    vocabulary: () => vocabulary,
    toJson: () => json,
  };
}

/**
 * WordPiece over a vocabulary whose index is the id, with BERT's normaliser and pair template.
 * @throws BackboneError `BAD_TOKENIZER` when a special token is missing
 */
export function createWordPieceTokenizer(
  vocabulary: readonly string[],
  { lowercase = true, who = "createWordPieceTokenizer" } = {},
): TextTokenizer {
  const missing = SPECIAL_TOKENS.filter((token) => !vocabulary.includes(token));
  if (missing.length > 0) {
    throw new BackboneError(
      "BAD_TOKENIZER",
      who,
      `the vocabulary must hold ${SPECIAL_TOKENS.join(", ")}, got ${vocabulary.length} tokens without ${missing.join(", ")}.`,
    );
  }
  return createTokenizer(wordPieceJson(vocabulary, lowercase), { who });
}

/** Every id must have a row in the model's embedding table. @throws BackboneError `BAD_TOKENIZER` */
export function checkTokenizerFits(
  tokenizer: TextTokenizer,
  config: Pick<BertConfig, "vocabSize" | "padTokenId">,
  who: string,
): void {
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new BackboneError(
      "BAD_TOKENIZER",
      who,
      `the tokenizer's ids must be below the model's vocabulary of ${config.vocabSize}, got ids up to ${tokenizer.vocabSize - 1}. Use the tokenizer that the model was trained with.`,
    );
  }
}

type Model = NonNullable<LibraryTokenizer["model"]>;

function construct(
  json: object,
  config: object,
  who: string,
): { tokenizer: LibraryTokenizer; model: Model } {
  try {
    const tokenizer = new Tokenizer(json, config);
    if (tokenizer.model) return { tokenizer, model: tokenizer.model };
  } catch (cause) {
    throw new BackboneError(
      "BAD_TOKENIZER",
      who,
      `cannot be used: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { cause },
    );
  }
  throw new BackboneError("BAD_TOKENIZER", who, "has no model. Use a complete tokenizer.json.");
}

function checkTokenizerJson(
  json: unknown,
  who: string,
): asserts json is Readonly<Record<string, unknown>> {
  const fail = (message: string): never => {
    throw new BackboneError("BAD_TOKENIZER", who, message);
  };
  if (!isRecord(json) || !isRecord(json.model)) {
    return fail('must be a JSON object with a "model". Use the tokenizer.json of the model.');
  }
  const { vocab } = json.model;
  if (typeof vocab !== "object" || vocab === null) fail("model.vocab is missing.");
  const entries = Array.isArray(vocab) ? [] : Object.entries(vocab as object);
  const added = json.added_tokens ?? [];
  if (!Array.isArray(added)) return fail("added_tokens must be a list.");
  for (const token of added as unknown[]) {
    if (!isRecord(token) || typeof token.content !== "string") {
      return fail("every entry of added_tokens needs a content and an id.");
    }
    entries.push([token.content, token.id]);
  }
  const tokens = new Map<number, string>();
  for (const [token, id] of entries) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > LARGEST_ID) {
      return fail(
        `the id of ${JSON.stringify(token)} must be an integer from 0 to ${LARGEST_ID}, got ${JSON.stringify(id)}.`,
      );
    }
    const other = tokens.get(id);
    if (other !== undefined && other !== token) {
      return fail(
        `ids must be unique, got ${id} for ${JSON.stringify(other)} and ${JSON.stringify(token)}.`,
      );
    }
    tokens.set(id, token);
  }
}

function findPad(
  json: Readonly<Record<string, unknown>>,
  ids: ReadonlyMap<string, number>,
): number {
  const padding = json.padding;
  if (isRecord(padding) && typeof padding.pad_id === "number") return padding.pad_id;
  return ids.get("[PAD]") ?? ids.get("<pad>") ?? 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

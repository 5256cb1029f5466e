/**
 * @file Types of `@huggingface/tokenizers`: its own declarations import without file extensions, which TypeScript does
 * not resolve for ES modules, so every name would be `any` or missing.
 */
import * as library from "@huggingface/tokenizers";

export interface LibraryTokenizer {
  readonly model: {
    readonly vocab: readonly (string | undefined)[];
    readonly tokens_to_ids: ReadonlyMap<string, number>;
    readonly unk_token_id?: number;
  } | null;
  readonly post_processor: {
    post_process(
      tokens: readonly string[],
      pair: readonly string[] | null,
      addSpecialTokens: boolean,
    ): { readonly tokens: readonly string[]; readonly token_type_ids?: readonly number[] };
  } | null;
  /** Without special tokens. */
  tokenize(text: string): string[];
  decode(ids: readonly number[], options: { readonly skip_special_tokens: boolean }): string;
}

interface Library {
  readonly Tokenizer: new (tokenizer: object, config: object) => LibraryTokenizer;
  readonly BertNormalizer: new (config: object) => { normalize(text: string): string };
  readonly BertPreTokenizer: new () => { pre_tokenize_text(text: string): string[] };
}

export const { Tokenizer, BertNormalizer, BertPreTokenizer } = library as unknown as Library;

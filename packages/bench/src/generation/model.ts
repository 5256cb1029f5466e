/** @file The decoder that a run starts from. */
import {
  type CausalDecoder,
  createCausalDecoder,
  createLlamaConfig,
  createTokenizer,
  createWordPieceTokenizer,
  createWordVocabulary,
  instructionPrompt,
  loadCausalDecoder,
  toDecoderTokenizer,
  withOwnHeads,
} from "@cee/backbone";
import { BenchError } from "../errors.js";
import type { RawData } from "./data.js";
import { type GenerationOptions, parseFreshDecoder } from "./options.js";

export const DEFAULT_BACKBONES = { embedded: "fresh:6x64", folder: "fresh:6x128" } as const;

/** Pieces of a vocabulary that is made from real texts. */
const VOCABULARY = 4096;

/** Loads or makes the decoder, with the heads that the run asked for. */
export async function startingDecoder(
  { backbone, heads, seed }: GenerationOptions,
  raw: RawData,
): Promise<CausalDecoder> {
  const spec = backbone ?? DEFAULT_BACKBONES[raw.source];
  const sizes = parseFreshDecoder(spec);
  const decoder = sizes ? freshDecoder(sizes, raw, seed) : await loadCausalDecoder(spec);
  if (!decoder.tokenizer)
    throw new BenchError(
      "BAD_OPTION",
      "--backbone",
      `the model at ${spec} came without a tokenizer. Put its tokenizer beside it.`,
    );
  if (decoder.config.eosTokenIds.length === 0)
    throw new BenchError(
      "BAD_OPTION",
      "--backbone",
      `the model at ${spec} has no token that ends a text. Name one as eos_token_id in its config.json.`,
    );
  return heads === "per-layer" ? withOwnHeads(decoder) : decoder;
}

function freshDecoder(
  { depth, hidden }: { readonly depth: number; readonly hidden: number },
  raw: RawData,
  seed: number,
): CausalDecoder {
  const texts = raw.train.flatMap((row) => [
    instructionPrompt(row, "alpaca"),
    row.input,
    row.response,
  ]);
  const vocabulary = createWordVocabulary(texts, VOCABULARY, {
    lowercase: raw.source === "embedded",
  });
  const pieces = createWordPieceTokenizer(vocabulary, { lowercase: raw.source === "embedded" });
  const json = pieces.toJson();
  const single = [
    { SpecialToken: { id: "[CLS]", type_id: 0 } },
    { Sequence: { id: "A", type_id: 0 } },
  ];
  // Only the token that opens a text: the one that ends it is the model's to give.
  const post = { ...(json.post_processor as object), single };
  const tokenizer = toDecoderTokenizer(createTokenizer({ ...json, post_processor: post }));
  return createCausalDecoder({
    config: createLlamaConfig({
      vocabSize: tokenizer.vocabSize,
      hidden,
      depth,
      heads: Math.max(2, hidden / 32),
      intermediate: 8 * Math.ceil(hidden / 3),
      maxPositions: raw.source === "embedded" ? 128 : 512,
      // Narrow decoders learn to copy words sooner from larger weights than LLaMA's.
      initializerRange: 0.5 / Math.sqrt(hidden),
      bosTokenId: vocabulary.indexOf("[CLS]"),
      eosTokenIds: [vocabulary.indexOf("[SEP]")],
    }),
    seed,
    tokenizer,
  });
}

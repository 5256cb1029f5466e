/** @file What a user holds: a decoder with an exit after every layer, and how a new one is made. */
import type { HostParams, HostTensor } from "@cee/engine";
import type { ModelShape } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { normal } from "../init.js";
import { llamaParameters } from "../llama.js";
import type { LlamaConfig } from "../llama-config.js";

/**
 * How exits come to logits, always behind the final norm: through the model's own projection onto the vocabulary (CALM),
 * or through one of their own, `heads.<layer>.weight` `[V, H]` for every layer (ConsistentEE).
 */
export type DecoderHeads = "shared" | "per-layer";

/** Text to token ids and back. */
export interface DecoderTokenizer {
  readonly vocabSize: number;
  /** With the token that opens a text, where the model has one. */
  encode(text: string): readonly number[];
  /** Without the tokens that only mark a text's start and end. */
  decode(ids: readonly number[]): string;
}

export interface CausalDecoder {
  readonly config: LlamaConfig;
  /** The task is `generation`, the classes are the vocabulary. */
  readonly shape: ModelShape;
  readonly heads: DecoderHeads;
  /** `backbone.**` and `heads.**`. Trainers replace the record; it is never written into. */
  params: HostParams;
  readonly tokenizer: DecoderTokenizer | undefined;
  /** Layers whose exit has been trained, ascending; the last layer of a loaded model always is. */
  trainedHeads: readonly number[];
  /** What loading found worth saying, such as tensors it did not use. */
  readonly notes: readonly string[];
}

export function decoderShape({ depth, hidden, vocabSize }: LlamaConfig): ModelShape {
  return { task: "generation", depth, hidden, classes: vocabSize };
}

export interface CreateCausalDecoderOptions {
  readonly config: LlamaConfig;
  readonly seed: number;
  /** @default "shared" */
  readonly heads?: DecoderHeads;
  readonly tokenizer?: DecoderTokenizer | undefined;
}

/** A fresh decoder: weights from N(0, initializerRange), norms 1, heads per layer as copies of the projection. */
export function createCausalDecoder({
  config,
  seed,
  heads = "shared",
  tokenizer,
}: CreateCausalDecoderOptions): CausalDecoder {
  if (tokenizer) checkDecoderTokenizer(tokenizer, config, "createCausalDecoder");
  const params: Record<string, HostTensor> = {};
  for (const [path, shape] of llamaParameters(config)) {
    params[path] = path.endsWith("norm.weight")
      ? { dtype: "float32", shape, data: new Float32Array(shape[0] as number).fill(1) }
      : normal(shape, config.initializerRange, seed, path);
  }
  const decoder: CausalDecoder = {
    config,
    shape: decoderShape(config),
    heads: "shared",
    params,
    tokenizer,
    trainedHeads: [],
    notes: [],
  };
  return heads === "shared" ? decoder : withOwnHeads(decoder);
}

/** Gives every layer a head of its own, which starts as a copy of the model's projection onto the vocabulary. */
export function withOwnHeads(decoder: CausalDecoder): CausalDecoder {
  if (decoder.heads === "per-layer") return decoder;
  const { config, params } = decoder;
  const table = params[projectionPath("shared", config.depth, config)] as HostTensor;
  const own = Array.from({ length: config.depth }, (_, index) => [
    projectionPath("per-layer", index + 1, config),
    { ...table, data: table.data.slice() },
  ]);
  return { ...decoder, heads: "per-layer", params: { ...params, ...Object.fromEntries(own) } };
}

/** Where the projection onto the vocabulary behind `layer` lives. */
export function projectionPath(heads: DecoderHeads, layer: number, { tied }: LlamaConfig): string {
  if (heads === "per-layer") return `heads.${layer}.weight`;
  return tied ? "backbone.embed_tokens.weight" : "backbone.lm_head.weight";
}

/** Every id must have a row in the embedding table. @throws BackboneError `BAD_TOKENIZER` */
export function checkDecoderTokenizer(
  { vocabSize }: DecoderTokenizer,
  config: LlamaConfig,
  who: string,
): void {
  if (vocabSize <= config.vocabSize) return;
  throw new BackboneError(
    "BAD_TOKENIZER",
    who,
    `the tokenizer's ids must be below the model's vocabulary of ${config.vocabSize}, got ids up to ${vocabSize - 1}. Use the tokenizer that the model was trained with.`,
  );
}

/**
 * @file The scale of the embeddings in a written folder: small, as BERT's own initialisation has them.
 *
 * The LayerNorm behind the embeddings makes the encoder blind to their common scale, and the LayerNorm before the tied
 * decoder can undo it, so the written model computes what the trained one does. Its optimiser is not blind: AdamW moves a
 * parameter by about the learning rate a step whatever its size, so fine-tuning hardly changes embeddings that have grown
 * to several times their initial size, and a short one ends before the words of the task have moved.
 */
import type { HostParams, HostTensor } from "@cee/engine";
import type { BertConfig } from "../config.js";

const EMBEDDING = /^backbone\.embeddings\.\w+_embeddings\.weight$/;
const WORDS = "backbone.embeddings.word_embeddings.weight";
const BEFORE_DECODER = /^mlm\.transform\.LayerNorm\.(?:weight|bias)$/;

/** Above it, the term in LayerNorm's root is no longer small against the variance of small embeddings. */
const NEGLIGIBLE_EPS = 1e-9;

/** The factor that gives the word embeddings the root mean square of `initializerRange`; 1 where it would change results. */
export function embeddingScale(params: HostParams, config: BertConfig): number {
  const words = params[WORDS]?.data;
  if (words === undefined || config.layerNormEps > NEGLIGIBLE_EPS) return 1;
  let squares = 0;
  for (const value of words) squares += value * value;
  const scale = config.initializerRange / Math.sqrt(squares / words.length);
  return Number.isFinite(scale) && scale > 0 ? scale : 1;
}

/** Multiplies the embeddings by `scale` and undoes it before the tied decoder; `1 / scale` takes it back. */
export function scaleEmbeddings(params: HostParams, scale: number): HostParams {
  if (scale === 1) return params;
  return Object.fromEntries(
    Object.entries(params).map(([path, tensor]) => {
      if (EMBEDDING.test(path)) return [path, times(tensor, scale)];
      return [path, BEFORE_DECODER.test(path) ? times(tensor, 1 / scale) : tensor];
    }),
  );
}

function times(tensor: HostTensor, factor: number): HostTensor {
  return { ...tensor, data: (tensor.data as Float32Array).map((value) => value * factor) };
}

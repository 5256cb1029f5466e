/** @file Transformers.js on an encoder's weights: our export in the layout that it reads. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ExitEncoder, exportFlatOnnx, saveExitEncoder, type TokenBatch } from "@cee/backbone";
import {
  stageModel,
  type TransformersLibrary,
  type TransformersThreads,
} from "../transformers-js.js";

/** The part of the library that is used here. */
interface EncoderLibrary extends TransformersLibrary {
  readonly AutoModelForSequenceClassification: {
    from_pretrained(name: string, options: object): Promise<SequenceClassifier>;
  };
  readonly AutoTokenizer: {
    from_pretrained(name: string, options: object): Promise<Tokenizer>;
  };
}

type Tokenizer = (texts: readonly string[], options: object) => object;

interface SequenceClassifier {
  (inputs: object): Promise<{ readonly logits: { readonly data: Float32Array } }>;
  dispose(): Promise<unknown>;
}

export interface TransformersPeer {
  readonly version: string;
  /** Logits, shape `[B, C]`. */
  logits(batch: TokenBatch): Promise<Float32Array>;
  /** Tokenises as well, padding to the longest of them. */
  classify(texts: readonly string[]): Promise<Float32Array>;
  close(): Promise<void>;
}

export type TransformersFound = TransformersPeer | { readonly missing: string };

/** Opens the encoder at full depth, or says why not. */
export async function openTransformers(
  encoder: ExitEncoder,
  threads: TransformersThreads,
): Promise<TransformersFound> {
  // It chooses its class by this file; ours does without.
  const about = {
    tokenizer_class: "BertTokenizer",
    model_max_length: encoder.config.maxPositions,
    pad_token: "[PAD]",
    unk_token: "[UNK]",
    cls_token: "[CLS]",
    sep_token: "[SEP]",
  };
  const staged = await stageModel<EncoderLibrary>(async (folder) => {
    await saveExitEncoder(encoder, folder);
    writeFileSync(join(folder, "onnx", "model.onnx"), exportFlatOnnx(encoder));
    writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(about));
  }, threads);
  if ("missing" in staged) return staged;
  const { library, name, options, toTensor } = staged;
  const model = await library.AutoModelForSequenceClassification.from_pretrained(name, options);
  const tokenizer = encoder.tokenizer
    ? await library.AutoTokenizer.from_pretrained(name, options)
    : undefined;
  return {
    version: library.env.version,
    async logits({ rows, length, ids, types, mask }) {
      const dims = [rows, length];
      const output = await model({
        input_ids: toTensor(ids, dims),
        attention_mask: toTensor(mask, dims),
        token_type_ids: toTensor(types, dims),
      });
      return output.logits.data;
    },
    async classify(texts) {
      if (!tokenizer) throw new Error("internal: an encoder without a tokenizer");
      const inputs = tokenizer(texts, { padding: true, truncation: true });
      return (await model(inputs)).logits.data;
    },
    async close() {
      await model.dispose();
      staged.remove();
    },
  };
}

/** @file Transformers.js on the same weights: our export in the layout that it reads, with nothing fetched. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { type ExitEncoder, exportFlatOnnx, saveExitEncoder, type TokenBatch } from "@cee/backbone";

/** The part of the library that is used here. */
interface TransformersModule {
  readonly env: {
    version: string;
    allowRemoteModels: boolean;
    localModelPath: string;
  };
  readonly Tensor: new (type: string, data: BigInt64Array, dims: readonly number[]) => object;
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

/**
 * Opens the encoder at full depth, or says why not.
 * @param spinning whether ONNX Runtime's threads spin between operations, which is its default and gives others that run
 * in turn a bad time
 */
export async function openTransformers(
  encoder: ExitEncoder,
  { threads, spinning }: { readonly threads: number; readonly spinning: boolean },
): Promise<TransformersFound> {
  let library: TransformersModule;
  try {
    library = (await import("@huggingface/transformers")) as unknown as TransformersModule;
  } catch (cause) {
    const reason = (cause as Error).message.split("\n", 1)[0];
    return {
      missing: `Transformers.js was not found (${reason}). npm install @huggingface/transformers@4.3.1 brings it.`,
    };
  }
  const folder = mkdtempSync(join(tmpdir(), "cee-transformers-"));
  await saveExitEncoder(encoder, folder);
  mkdirSync(join(folder, "onnx"));
  writeFileSync(join(folder, "onnx", "model.onnx"), exportFlatOnnx(encoder));
  // It chooses its class by this file; ours does without.
  const about = {
    tokenizer_class: "BertTokenizer",
    model_max_length: encoder.config.maxPositions,
    pad_token: "[PAD]",
    unk_token: "[UNK]",
    cls_token: "[CLS]",
    sep_token: "[SEP]",
  };
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(about));
  library.env.allowRemoteModels = false;
  library.env.localModelPath = `${dirname(folder)}/`;
  const options = { dtype: "fp32", device: "cpu", local_files_only: true };
  const spin = spinning ? "1" : "0";
  const model = await library.AutoModelForSequenceClassification.from_pretrained(basename(folder), {
    ...options,
    session_options: {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      extra: { session: { intra_op: { allow_spinning: spin } } },
    },
  });
  const tokenizer = encoder.tokenizer
    ? await library.AutoTokenizer.from_pretrained(basename(folder), options)
    : undefined;
  const toTensor = (data: ArrayLike<number>, dims: readonly number[]) =>
    new library.Tensor(
      "int64",
      BigInt64Array.from(data, (number) => BigInt(number)),
      dims,
    );
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
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

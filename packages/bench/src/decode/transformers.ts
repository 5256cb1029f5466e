/** @file Transformers.js on a decoder's weights: our export with the cache as inputs and outputs. V = vocabulary. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CausalDecoder, exportDecoderOnnx, saveCausalDecoder } from "@cee/backbone";
import {
  stageModel,
  type TransformersLibrary,
  type TransformersThreads,
} from "../transformers-js.js";

/** The part of the library that is used here. */
interface DecoderLibrary extends TransformersLibrary {
  readonly AutoModelForCausalLM: {
    from_pretrained(name: string, options: object): Promise<CausalModel>;
  };
}

interface CausalModel {
  (inputs: object): Promise<{ readonly logits: { readonly data: Float32Array } }>;
  generate(options: object): Promise<unknown>;
  dispose(): Promise<unknown>;
}

export interface DecoderPeer {
  readonly version: string;
  /** Logits of every token of a text, `[n, V]`. */
  logits(ids: readonly number[]): Promise<Float32Array>;
  /** Continues a text greedily; milliseconds per token behind the first. */
  generate(
    ids: readonly number[],
    tokens: number,
  ): Promise<{ readonly ids: readonly number[]; readonly perToken: number }>;
  close(): Promise<void>;
}

/** Opens the decoder at full depth, or says why not. */
export async function openDecoderPeer(
  decoder: CausalDecoder,
  threads: TransformersThreads,
): Promise<DecoderPeer | { readonly missing: string }> {
  const staged = await stageModel<DecoderLibrary>(async (folder) => {
    await saveCausalDecoder(decoder, folder);
    writeFileSync(join(folder, "onnx", "model.onnx"), exportDecoderOnnx(decoder));
  }, threads);
  if ("missing" in staged) return staged;
  const { library, name, options, toTensor } = staged;
  const model = await library.AutoModelForCausalLM.from_pretrained(name, options);
  const inputsOf = (ids: readonly number[]) => ({
    input_ids: toTensor(ids, [1, ids.length]),
    attention_mask: toTensor(
      ids.map(() => 1),
      [1, ids.length],
    ),
  });
  return {
    version: library.env.version,
    logits: async (ids) => (await model(inputsOf(ids))).logits.data,
    async generate(ids, tokens) {
      const given: number[] = [];
      let [isPrompt, started] = [true, 0];
      const streamer = {
        // The prompt comes first, then every token when it is certain.
        put(rows: readonly (readonly bigint[])[]) {
          if (!isPrompt) given.push(Number(rows[0]?.[0]));
          isPrompt = false;
          if (given.length === 1) started = performance.now();
        },
        end: () => undefined,
      };
      await model.generate({
        ...inputsOf(ids),
        max_new_tokens: tokens,
        do_sample: false,
        streamer,
      });
      return { ids: given, perToken: (performance.now() - started) / (given.length - 1) };
    },
    async close() {
      await model.dispose();
      staged.remove();
    },
  };
}

/** @file The encoder behind BERTScore: a given folder, or a small one that is pre-trained on the run's own texts. */
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { loadExitEncoder, pretrain } from "@cee/backbone";
import type { Engine } from "@cee/engine";
import type { ProgressLine } from "../glue/progress.js";
import { type BertScore, openBertScore } from "../metrics/bert-score.js";
import type { RawData } from "./data.js";
import type { GenerationOptions } from "./options.js";

const SIZES = { depth: 3, hidden: 64, vocabulary: 400, steps: 240 } as const;

/** @throws what loading or pre-training gives */
export async function openScorer(
  engine: Engine,
  { encoder, out, seed }: GenerationOptions,
  raw: RawData,
  progress: ProgressLine,
  signal: AbortSignal | undefined,
): Promise<BertScore> {
  const folder = encoder ?? path.join(out, "scorer");
  if (encoder === undefined) {
    const corpus = path.join(folder, "texts.txt");
    await mkdir(folder, { recursive: true });
    const texts = raw.scorer.map(({ instruction, input, response }) =>
      [instruction, input, response].filter((part) => part !== "").join("\n"),
    );
    await writeFile(corpus, `${texts.join("\n\n")}\n`);
    await pretrain({
      engine,
      corpus: [corpus],
      out: folder,
      config: {
        model: {
          model_type: "bert",
          vocab_size: SIZES.vocabulary,
          hidden_size: SIZES.hidden,
          num_hidden_layers: SIZES.depth,
          num_attention_heads: 2,
          intermediate_size: 4 * SIZES.hidden,
          max_position_embeddings: 128,
        },
        seed,
        lengths: [64],
        pairWeight: 0.1,
        batchTokens: 2048,
        steps: SIZES.steps,
        warmupSteps: 20,
        learningRate: 2e-3,
        heldOutRows: 16,
        evaluateEvery: SIZES.steps,
      },
      signal,
      onProgress: ({ step, steps, loss }) =>
        progress.update(`encoder for BERTScore: step ${step} of ${steps}, loss ${loss.toFixed(3)}`),
    });
  }
  const { config, params, tokenizer } = await loadExitEncoder(folder, { classes: 2 });
  const identity =
    encoder === undefined
      ? `${SIZES.depth}x${SIZES.hidden}, pre-trained for ${SIZES.steps} steps on this run's training texts`
      : path.basename(encoder);
  if (!tokenizer) throw new Error("internal: a loaded encoder has a tokenizer");
  return openBertScore(engine, { identity, config, params, tokenizer });
}

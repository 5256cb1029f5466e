/** @file What a generation run would take, without training anything. */
import { type CausalDecoder, createLlamaConfig, type LlamaConfig } from "@cee/backbone";
import type { Engine, HostTensor } from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { duration } from "../glue/progress.js";
import type { RawData } from "./data.js";
import { lengthsOf } from "./lengths.js";
import { type GenerationOptions, isModelSize, modelSizes } from "./options.js";
import { pointCount } from "./points.js";
import { presets, usesLora } from "./train.js";

/** LLaMA's vocabulary. */
const VOCABULARY = 32_000;
/** Characters that a token of LLaMA's tokenizer stands for in English, about. */
const CHARACTERS_PER_TOKEN = 4;

export async function describeDryRun(
  engine: Engine,
  options: GenerationOptions,
  raw: RawData,
  backbone: string,
  start: CausalDecoder | keyof typeof modelSizes,
): Promise<string> {
  const config =
    typeof start === "string"
      ? createLlamaConfig({ ...modelSizes[start], vocabSize: VOCABULARY })
      : start.config;
  const isOwn = options.heads === "per-layer";
  const { maxLength, maxNewTokens } = lengthsOf(options, { config });
  const counted = countParameters(config, isOwn);
  const tokens = raw.train.reduce((sum, row) => {
    const text = `${row.instruction} ${row.input} ${row.response}`;
    const count =
      typeof start === "string"
        ? text.length / CHARACTERS_PER_TOKEN
        : (start.tokenizer?.encode(text).length ?? 0);
    return sum + Math.min(maxLength, count);
  }, 0);
  const preset = presets[options.preset];
  const isFresh = backbone.startsWith("fresh:");
  const settings = isFresh ? preset.initialise : preset.finetune;
  const epochs = options.epochs ?? settings.epochs;
  const gigaflops = await measureProducts(engine);
  const seconds = (multiplications: number) => (2 * multiplications) / (gigaflops * 1e9);
  const heads = isOwn ? config.depth : 1;
  // Forward, and twice that backward; every layer is projected onto the vocabulary.
  const perToken = counted.blocks + config.depth * config.vocabSize * config.hidden;
  const alphas = options.methods.includes("consistentee") ? preset.alphas.length : 0;
  const prompts = raw.tasks.reduce((sum, { rows }) => sum + rows.length, 0);
  const points = options.methods.reduce(
    (sum, method) => sum + pointCount(method, options, config.depth),
    0,
  );
  const lines: readonly (readonly [string, string])[] = [
    [
      "parameters",
      `${format(counted.blocks + counted.rest - counted.heads)}${counted.heads > 0 ? `, and ${format(counted.heads)} in heads per layer` : ""}`,
    ],
    ["memory for weights", `${gibibytes(4 * (counted.blocks + counted.rest))} GiB`],
    [
      "memory to train",
      usesLora(options)
        ? `${gibibytes(4 * (counted.blocks + counted.rest + 2 * heads * config.vocabSize * config.hidden))} GiB and activations, adapters of the blocks`
        : `${gibibytes(16 * (counted.blocks + counted.rest))} GiB and activations`,
    ],
    [
      "memory of one text's keys and values",
      `${gibibytes(8 * config.depth * config.kvHeads * config.headSize * config.maxPositions)} GiB at ${config.maxPositions} tokens`,
    ],
    ["training texts", `${raw.train.length}, about ${format(tokens)} tokens`],
    ["matrix products here", `${gigaflops.toFixed(0)} GFLOP/s`],
    [
      "exits, steps",
      `${epochs * Math.ceil(raw.train.length / settings.batchSize)} of ${settings.batchSize} texts`,
    ],
    ["exits, predicted", duration(seconds(3 * epochs * tokens * perToken))],
    [
      `policies at ${alphas} alphas, predicted`,
      duration(alphas * seconds((2 + (isOwn ? 3 : 0)) * tokens * perToken)),
    ],
    [
      `recorded states of one alpha`,
      `${gibibytes(4 * tokens * config.depth * config.hidden)} GiB in files`,
    ],
    [
      `decoding ${prompts} prompts at ${points} points, predicted`,
      duration(seconds(points * prompts * maxNewTokens * perToken)),
    ],
  ];
  return [
    `Backbone ${backbone}, preset ${options.preset}:`,
    "",
    "| what | how much |",
    "| --- | --- |",
    ...lines.map(([name, value]) => `| ${name} | ${value} |`),
    "",
    `Predicted from counted operations and a product measured just now. Memory traffic, the calls themselves (most of a small model's time), timing rounds and BERTScore's encoder come on top${isModelSize(backbone) ? ". Sizes only: running needs the folder of a model of that size" : ""}. Nothing was written.`,
  ].join("\n");
}

function countParameters(
  { hidden, intermediate, depth, heads, kvHeads, headSize, vocabSize, tied }: LlamaConfig,
  ownHeads: boolean,
) {
  const attention = 2 * hidden * heads * headSize + 2 * hidden * kvHeads * headSize;
  const blocks = depth * (attention + 3 * hidden * intermediate + 2 * hidden);
  const own = ownHeads ? depth * vocabSize * hidden : 0;
  return { blocks, heads: own, rest: (tied ? 1 : 2) * vocabSize * hidden + hidden + own };
}

/** Billions of floating-point operations a second in a product of two 768-wide matrices. */
async function measureProducts(engine: Engine): Promise<number> {
  const size = 768;
  const product = engine.compile(
    ({ a, b }) => ({ c: tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D) }),
    {
      name: "product",
      inputs: {
        a: { dtype: "float32", shape: [size, size] },
        b: { dtype: "float32", shape: [size, size] },
      },
    },
  );
  const values: HostTensor = {
    dtype: "float32",
    shape: [size, size],
    data: new Float32Array(size * size).fill(0.5),
  };
  let best = 0;
  for (let round = 0; round < 6; round += 1) {
    const started = performance.now();
    await product.run({ a: values, b: values });
    const seconds = (performance.now() - started) / 1000;
    if (round > 0) best = Math.max(best, (2 * size ** 3) / seconds / 1e9);
  }
  await product.dispose();
  return best;
}

function gibibytes(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(bytes < 2 ** 30 ? 3 : 1);
}

function format(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} billion`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(2)} million`;
  return `${Math.round(count / 100) / 10} thousand`;
}

/** @file The encoder of a run: fresh from sizes, or from a folder or the hub. */
import {
  checkTokenizerFits,
  createBertConfig,
  createExitEncoder,
  createWordPieceTokenizer,
  createWordVocabulary,
  type ExitEncoder,
  loadExitEncoder,
} from "@cee/backbone";
import { resolveModel } from "@cee/backbone/hub";
import type { ExitHead } from "@cee/exit-policies";
import { modelFolder } from "@cee/model-mini";
import type { LoadedTask } from "../data/task.js";
import { BenchError, withModelHint } from "../errors.js";
import { MINI, parseFresh } from "./options.js";
import type { ProgressLine } from "./progress.js";

export interface BackboneOptions {
  /** `mini`, `fresh:<layers>x<width>`, `fresh:mini`, `fresh:<folder>`, a folder, or a hub id. */
  readonly spec: string;
  readonly task: LoadedTask;
  readonly seed: number;
  readonly maxLength: number;
  readonly hubUrl?: string | undefined;
  /** @default "linear" */
  readonly head?: ExitHead | undefined;
  readonly progress: ProgressLine;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The factor on the small preset's learning rates that suits a backbone. They were found on fresh encoders; what the weights
 * of `mini` know of two texts is lost at the full rates.
 */
export function rateFactor(spec: string): number {
  return spec === MINI ? 0.4 : 1;
}

/** Pieces of a vocabulary made for a fresh encoder, at most. */
const LARGEST_FRESH_VOCABULARY = 8192;

/** Loads or makes the encoder with fresh exit heads for the task. @throws BenchError `BAD_OPTION` */
export async function prepareBackbone(options: BackboneOptions): Promise<ExitEncoder> {
  const { spec, task, seed, hubUrl, head, progress, signal } = options;
  const { labels, regression } = task.task;
  const kind = regression ? { regression: true } : { labels };
  const fresh = spec.startsWith("fresh:") ? parseFresh(spec) : undefined;
  if (fresh && "depth" in fresh) return freshEncoder(options, fresh);
  const name = fresh?.like ?? spec;
  const folder = await resolveModel(name === MINI ? modelFolder : name, {
    ...(hubUrl === undefined ? {} : { hubUrl }),
    ...(signal === undefined ? {} : { signal }),
    onProgress: ({ file, received }) =>
      progress.update(`downloading ${file}, ${(received / 1e6).toFixed(1)} MB`),
  }).catch((cause: unknown) => {
    throw withModelHint(cause, name, [MINI]);
  });
  const encoder = await loadExitEncoder(folder, { ...kind, head, freshHeads: true, seed });
  // That the heads of pre-training are left behind is news for a folder of somebody else's only.
  if (name !== MINI) for (const note of encoder.notes) progress.print(`${spec}: ${note}`);
  if (!encoder.tokenizer)
    throw new BenchError(
      "BAD_OPTION",
      "--backbone",
      `${spec} has no tokenizer. Add its tokenizer.json or vocab.txt to the folder.`,
    );
  checkTokenizerFits(encoder.tokenizer, encoder.config, spec);
  if (!fresh) return encoder;
  // What the folder's weights are worth is seen against the same encoder without them.
  const { config, tokenizer } = encoder;
  return createExitEncoder({ config, ...kind, ...(head ? { head } : {}), seed, tokenizer });
}

function freshEncoder(
  { task, seed, maxLength, head }: BackboneOptions,
  { depth, hidden }: { readonly depth: number; readonly hidden: number },
): ExitEncoder {
  const { labels, regression } = task.task;
  const texts = task.splits.train.flatMap(({ text, pair }) =>
    pair === undefined ? [text] : [text, pair],
  );
  const tokenizer = createWordPieceTokenizer(
    createWordVocabulary(texts, LARGEST_FRESH_VOCABULARY),
    {
      lowercase: true,
    },
  );
  return createExitEncoder({
    config: createBertConfig({
      // Rounded up, so that tasks with vocabularies of similar size share one compiled graph.
      vocabSize: Math.ceil(tokenizer.vocabSize / 256) * 256,
      hidden,
      depth,
      heads: headsOf(hidden),
      maxPositions: maxLength,
    }),
    ...(regression ? { regression: true } : { labels }),
    ...(head ? { head } : {}),
    seed,
    tokenizer,
  });
}

/** Heads of 64, as in BERT; at least two. */
function headsOf(hidden: number): number {
  const heads = Math.max(2, Math.round(hidden / 64));
  return hidden % heads === 0 ? heads : 2;
}

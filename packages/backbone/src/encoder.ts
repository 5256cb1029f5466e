/** @file What a user holds: an encoder with an exit head after every layer, and how a new one is made. */
import type { HostParams } from "@cee/engine";
import type { ExitHead, ModelShape } from "@cee/exit-policies";
import type { BertConfig } from "./config.js";
import { BackboneError } from "./errors.js";
import { resolveHead } from "./heads/registry.js";
import { initBackbone, initHeads } from "./init.js";
import { checkTokenizerFits, type TextTokenizer } from "./tokenizer.js";

export interface ExitEncoder {
  readonly config: BertConfig;
  readonly shape: ModelShape;
  readonly head: ExitHead;
  /** `backbone.**` and `heads.**`. The trainer replaces the record; it is never written into. */
  params: HostParams;
  readonly tokenizer: TextTokenizer | undefined;
  /** Class names by index; `undefined` for a regression or where nobody named them. */
  readonly labels: readonly string[] | undefined;
  /** Layers whose head has been trained, ascending. */
  trainedHeads: readonly number[];
  /** What loading found worth saying, such as tensors it did not use. */
  readonly notes: readonly string[];
}

export interface TaskOptions {
  /** Number of classes; needed where neither `labels` nor the configuration says it. */
  readonly classes?: number | undefined;
  /** The answer is a number. @default false, or what the configuration says */
  readonly regression?: boolean | undefined;
  /** Class names by index. */
  readonly labels?: readonly string[] | undefined;
}

export interface CreateExitEncoderOptions extends TaskOptions {
  readonly config: BertConfig;
  /** @default "linear" */
  readonly head?: string | ExitHead;
  readonly seed: number;
  readonly tokenizer?: TextTokenizer | undefined;
}

/** Creates an encoder with fresh weights. @throws BackboneError `BAD_OPTION`, `BAD_TOKENIZER`, `UNKNOWN_HEAD` */
export function createExitEncoder(options: CreateExitEncoderOptions): ExitEncoder {
  const { config, seed, tokenizer, head = "linear" } = options;
  const backbone = initBackbone(config, seed);
  if (tokenizer) checkTokenizerFits(tokenizer, config, "createExitEncoder");
  return withFreshHeads(config, backbone, { ...options, head, seed, tokenizer });
}

/** @throws BackboneError `NOT_TRAINED` naming the layers whose head has only initial values */
export function requireTrainedHeads(encoder: ExitEncoder, who: string): void {
  const trained = new Set(encoder.trainedHeads);
  const layers = Array.from({ length: encoder.shape.depth }, (_, index) => index + 1);
  const fresh = layers.filter((layer) => !trained.has(layer));
  if (fresh.length === 0) return;
  throw new BackboneError(
    "NOT_TRAINED",
    who,
    `every exit head must be trained, got initial values at layers ${fresh.join(", ")}. Train the model first.`,
  );
}

/** Puts fresh heads on a backbone. @throws BackboneError `BAD_OPTION`, `UNKNOWN_HEAD` */
export function withFreshHeads(
  config: BertConfig,
  backbone: HostParams,
  options: TaskOptions & {
    readonly head: string | ExitHead;
    readonly seed: number;
    readonly tokenizer: TextTokenizer | undefined;
  },
): ExitEncoder {
  const { shape, labels } = resolveTask(config, options);
  const head = resolveHead(options.head);
  return {
    config,
    shape,
    head,
    params: { ...backbone, ...initHeads(head, shape, options.seed, backbone) },
    tokenizer: options.tokenizer,
    labels,
    trainedHeads: [],
    notes: [],
  };
}

/** Task and number of classes from options, else from the configuration. @throws BackboneError `BAD_OPTION` */
export function resolveTask(
  config: BertConfig,
  { classes, regression, labels }: TaskOptions,
): { shape: ModelShape; labels: readonly string[] | undefined } {
  const { depth, hidden } = config;
  const saysClasses = classes !== undefined || labels !== undefined;
  const isRegression =
    regression ?? (!saysClasses && (config.problemType === "regression" || config.classes === 1));
  if (isRegression) {
    if ((classes ?? 1) !== 1 || labels !== undefined) {
      throw new BackboneError(
        "BAD_OPTION",
        "classes",
        `a regression has one output and no labels, got ${classes ?? labels?.length}. Drop classes and labels, or regression.`,
      );
    }
    return { shape: { task: "regression", depth, hidden, classes: 1 }, labels: undefined };
  }
  const count = classes ?? labels?.length ?? config.classes;
  if (count === undefined || !Number.isInteger(count) || count < 2) {
    throw new BackboneError(
      "BAD_OPTION",
      "classes",
      `must be an integer of at least 2, got ${count ?? "nothing"}. Say how many classes there are, or regression: true.`,
    );
  }
  if (labels !== undefined && labels.length !== count) {
    throw new BackboneError(
      "BAD_OPTION",
      "labels",
      `must name ${count} classes, got ${labels.length}.`,
    );
  }
  const known = labels ?? (config.classes === count ? config.labels : undefined);
  return { shape: { task: "classification", depth, hidden, classes: count }, labels: known };
}

/** @file A BERT encoder's sizes and options, from and to a Hugging Face `config.json`. */
import { BackboneError } from "./errors.js";

/** `gelu` is the exact (erf) form; `gelu_new` the tanh approximation. */
export type BertActivation = "gelu" | "gelu_new" | "relu";
export type ProblemType = "single_label_classification" | "regression";

export interface BertConfig {
  readonly vocabSize: number;
  readonly hidden: number;
  /** Number of blocks. */
  readonly depth: number;
  readonly heads: number;
  /** Width of the feed-forward layer. */
  readonly intermediate: number;
  readonly maxPositions: number;
  readonly typeVocab: number;
  readonly layerNormEps: number;
  readonly hiddenDropout: number;
  readonly attentionDropout: number;
  /** Dropout before an exit's classifier; `undefined` means `hiddenDropout`. */
  readonly classifierDropout: number | undefined;
  /** Standard deviation of fresh weights. */
  readonly initializerRange: number;
  readonly padTokenId: number;
  readonly act: BertActivation;
  /** Class names by index, `undefined` where the file names none. */
  readonly labels: readonly string[] | undefined;
  /** Number of classes where the file says it (1 is a regression). */
  readonly classes: number | undefined;
  readonly problemType: ProblemType | undefined;
  /** Fields of the file that this package does not read; written back as they were. */
  readonly extra: Readonly<Record<string, unknown>>;
}

type Sizes = Pick<BertConfig, "vocabSize" | "hidden" | "depth" | "heads">;

const ACTIVATIONS: Readonly<Record<string, BertActivation>> = {
  gelu: "gelu",
  gelu_new: "gelu_new",
  gelu_pytorch_tanh: "gelu_new",
  relu: "relu",
};

/** Beyond this a size is a broken file, not a model; the product of two still indexes a typed array. */
const LARGEST_SIZE = 10_000_000;

/** Fills in BERT's defaults and checks the result. @throws BackboneError `BAD_CONFIG` */
export function createBertConfig(
  options: Sizes & { readonly [K in keyof BertConfig]?: BertConfig[K] | undefined },
  who = "createBertConfig",
): BertConfig {
  const config: BertConfig = {
    vocabSize: options.vocabSize,
    hidden: options.hidden,
    depth: options.depth,
    heads: options.heads,
    intermediate: options.intermediate ?? 4 * options.hidden,
    maxPositions: options.maxPositions ?? 512,
    typeVocab: options.typeVocab ?? 2,
    layerNormEps: options.layerNormEps ?? 1e-12,
    hiddenDropout: options.hiddenDropout ?? 0.1,
    attentionDropout: options.attentionDropout ?? 0.1,
    classifierDropout: options.classifierDropout,
    initializerRange: options.initializerRange ?? 0.02,
    padTokenId: options.padTokenId ?? 0,
    act: options.act ?? "gelu",
    labels: options.labels,
    classes: options.classes,
    problemType: options.problemType,
    extra: options.extra ?? {},
  };
  check(config, who);
  return config;
}

/**
 * Reads the content of a `config.json`.
 * @throws BackboneError `BAD_CONFIG`, or `UNSUPPORTED_MODEL` for another architecture or activation
 */
export function parseBertConfig(json: unknown, who: string): BertConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new BackboneError(
      "BAD_CONFIG",
      who,
      `must hold a JSON object, got ${describe(json)}. Use the config.json of a BERT model.`,
    );
  }
  const fields = { ...(json as Record<string, unknown>) };
  const take = (name: string): unknown => {
    const value = fields[name];
    delete fields[name];
    return value ?? undefined;
  };
  refuseOtherArchitectures(fields, who);

  const number = (name: string): number | undefined => {
    const value = take(name);
    if (value === undefined || typeof value === "number") return value;
    throw new BackboneError("BAD_CONFIG", who, `${name} must be a number, got ${describe(value)}.`);
  };
  const required = (name: string): number => {
    const value = number(name);
    if (value !== undefined) return value;
    throw new BackboneError(
      "BAD_CONFIG",
      who,
      `${name} is missing. Add it, or use the config.json that belongs to the weights.`,
    );
  };

  const { labels, classes } = takeLabels(take, who);
  const act = take("hidden_act") ?? "gelu";
  const known = typeof act === "string" ? ACTIVATIONS[act] : undefined;
  if (known === undefined) {
    throw new BackboneError(
      "UNSUPPORTED_MODEL",
      who,
      `hidden_act must be one of ${Object.keys(ACTIVATIONS).join(", ")}, got ${describe(act)}.`,
    );
  }
  const problemType = take("problem_type");
  if (
    problemType !== undefined &&
    problemType !== "single_label_classification" &&
    problemType !== "regression"
  ) {
    throw new BackboneError(
      "UNSUPPORTED_MODEL",
      who,
      `problem_type must be single_label_classification or regression, got ${describe(problemType)}.`,
    );
  }
  return createBertConfig(
    {
      vocabSize: required("vocab_size"),
      hidden: required("hidden_size"),
      depth: required("num_hidden_layers"),
      heads: required("num_attention_heads"),
      intermediate: number("intermediate_size"),
      maxPositions: number("max_position_embeddings"),
      typeVocab: number("type_vocab_size"),
      layerNormEps: number("layer_norm_eps"),
      hiddenDropout: number("hidden_dropout_prob"),
      attentionDropout: number("attention_probs_dropout_prob"),
      classifierDropout: number("classifier_dropout"),
      initializerRange: number("initializer_range"),
      padTokenId: number("pad_token_id"),
      act: known,
      labels,
      classes,
      problemType,
      extra: fields,
    },
    who,
  );
}

/** The content of a `config.json` that Hugging Face's classes load. */
export function toBertConfigJson(config: BertConfig): Record<string, unknown> {
  const labels =
    config.labels === undefined
      ? {}
      : {
          id2label: Object.fromEntries(config.labels.map((label, index) => [String(index), label])),
          label2id: Object.fromEntries(config.labels.map((label, index) => [label, index])),
        };
  return {
    architectures: ["BertForSequenceClassification"],
    ...config.extra,
    model_type: "bert",
    vocab_size: config.vocabSize,
    hidden_size: config.hidden,
    num_hidden_layers: config.depth,
    num_attention_heads: config.heads,
    intermediate_size: config.intermediate,
    max_position_embeddings: config.maxPositions,
    type_vocab_size: config.typeVocab,
    layer_norm_eps: config.layerNormEps,
    hidden_dropout_prob: config.hiddenDropout,
    attention_probs_dropout_prob: config.attentionDropout,
    classifier_dropout: config.classifierDropout ?? null,
    initializer_range: config.initializerRange,
    pad_token_id: config.padTokenId,
    hidden_act: config.act,
    ...labels,
    ...(config.classes === undefined || config.labels !== undefined
      ? {}
      : { num_labels: config.classes }),
    ...(config.problemType === undefined ? {} : { problem_type: config.problemType }),
  };
}

function refuseOtherArchitectures(fields: Readonly<Record<string, unknown>>, who: string): void {
  const refuse = (name: string, wanted: string): never => {
    throw new BackboneError(
      "UNSUPPORTED_MODEL",
      who,
      `${name} must be ${wanted}, got ${describe(fields[name])}. Only BERT encoders are supported.`,
    );
  };
  // The first BERT releases have no model_type.
  if (fields.model_type !== undefined && fields.model_type !== "bert") {
    refuse("model_type", '"bert"');
  }
  const positions = fields.position_embedding_type ?? "absolute";
  if (positions !== "absolute") refuse("position_embedding_type", '"absolute"');
  if (fields.is_decoder === true) refuse("is_decoder", "false");
  if (fields.add_cross_attention === true) refuse("add_cross_attention", "false");
}

function takeLabels(
  take: (name: string) => unknown,
  who: string,
): { labels: readonly string[] | undefined; classes: number | undefined } {
  const byId = take("id2label");
  const toId = take("label2id");
  const count = take("num_labels");
  const table = byId ?? toId;
  if (table === undefined) {
    if (count !== undefined && (typeof count !== "number" || !isSize(count))) {
      throw new BackboneError(
        "BAD_CONFIG",
        who,
        `num_labels must be a positive integer, got ${describe(count)}.`,
      );
    }
    return { labels: undefined, classes: count as number | undefined };
  }
  const name = byId === undefined ? "label2id" : "id2label";
  if (typeof table !== "object" || table === null || Array.isArray(table)) {
    throw new BackboneError(
      "BAD_CONFIG",
      who,
      `${name} must be an object, got ${describe(table)}.`,
    );
  }
  const entries = Object.entries(table).map(([key, value]) =>
    byId === undefined ? ([value, key] as const) : ([Number(key), String(value)] as const),
  );
  const labels = new Array<string>(entries.length).fill("");
  const seen = new Set<unknown>();
  for (const [index, label] of entries) {
    if (!Number.isInteger(index) || index < 0 || index >= entries.length || seen.has(index)) {
      throw new BackboneError(
        "BAD_CONFIG",
        who,
        `${name} must number its ${entries.length} labels 0 to ${entries.length - 1}, got ${describe(index)}.`,
      );
    }
    seen.add(index);
    labels[index] = label;
  }
  if (new Set(labels).size !== labels.length) {
    throw new BackboneError("BAD_CONFIG", who, `${name} must not name two classes alike.`);
  }
  if (count !== undefined && count !== labels.length) {
    throw new BackboneError(
      "BAD_CONFIG",
      who,
      `num_labels must be ${labels.length}, the number of labels in ${name}, got ${describe(count)}.`,
    );
  }
  return { labels, classes: labels.length };
}

function isSize(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= LARGEST_SIZE;
}

function check(config: BertConfig, who: string): void {
  const fail = (message: string): never => {
    throw new BackboneError("BAD_CONFIG", who, message);
  };
  const sizes = [
    "vocabSize",
    "hidden",
    "depth",
    "heads",
    "intermediate",
    "maxPositions",
    "typeVocab",
  ] as const;
  for (const name of sizes) {
    if (!isSize(config[name])) {
      fail(`${name} must be an integer from 1 to ${LARGEST_SIZE}, got ${describe(config[name])}.`);
    }
  }
  if (config.hidden % config.heads !== 0) {
    fail(
      `heads must divide hidden (${config.hidden}), got ${config.heads}. Each head gets hidden / heads numbers.`,
    );
  }
  for (const name of ["hiddenDropout", "attentionDropout", "classifierDropout"] as const) {
    const rate = config[name];
    if (rate !== undefined && !(rate >= 0 && rate < 1)) {
      fail(`${name} must be at least 0 and below 1, got ${describe(rate)}.`);
    }
  }
  for (const name of ["layerNormEps", "initializerRange"] as const) {
    if (!(config[name] > 0 && config[name] < 1)) {
      fail(`${name} must be above 0 and below 1, got ${describe(config[name])}.`);
    }
  }
  if (
    !Number.isInteger(config.padTokenId) ||
    config.padTokenId < 0 ||
    config.padTokenId >= config.vocabSize
  ) {
    fail(
      `padTokenId must be an id of the vocabulary (0 to ${config.vocabSize - 1}), got ${describe(config.padTokenId)}.`,
    );
  }
  if (config.classes !== undefined && !isSize(config.classes)) {
    fail(`classes must be a positive integer, got ${describe(config.classes)}.`);
  }
  if (config.labels !== undefined && config.labels.length !== config.classes) {
    fail(`labels must name ${config.classes} classes, got ${config.labels.length}.`);
  }
}

function describe(value: unknown): string {
  const text = value === undefined ? "nothing" : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** @file A LLaMA decoder's sizes and options, from a Hugging Face `config.json`. */
import { BackboneError } from "./errors.js";

export interface LlamaConfig {
  readonly vocabSize: number;
  readonly hidden: number;
  /** Number of blocks. */
  readonly depth: number;
  /** Query heads. */
  readonly heads: number;
  /** Key and value heads; each serves `heads / kvHeads` query heads. */
  readonly kvHeads: number;
  /** Width of a head. */
  readonly headSize: number;
  /** Width of the feed-forward layer. */
  readonly intermediate: number;
  readonly maxPositions: number;
  readonly rmsNormEps: number;
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number;
  /** The output projection is the embedding table. */
  readonly tied: boolean;
  /** Standard deviation of fresh weights. */
  readonly initializerRange: number;
  readonly bosTokenId: number | undefined;
  /** Any of these ends a text. */
  readonly eosTokenIds: readonly number[];
  /** Fields of the file that this package does not read. */
  readonly extra: Readonly<Record<string, unknown>>;
}

type Sizes = Pick<LlamaConfig, "vocabSize" | "hidden" | "depth" | "heads" | "intermediate">;

/** Beyond this a size is a broken file, not a model; the product of two still indexes a typed array. */
const LARGEST_SIZE = 10_000_000;
const LARGEST_DEPTH = 10_000;

/** Fills in LLaMA's defaults and checks the result. @throws BackboneError `BAD_CONFIG` */
export function createLlamaConfig(
  options: Sizes & { readonly [K in keyof LlamaConfig]?: LlamaConfig[K] | undefined },
  who = "createLlamaConfig",
): LlamaConfig {
  const config: LlamaConfig = {
    vocabSize: options.vocabSize,
    hidden: options.hidden,
    depth: options.depth,
    heads: options.heads,
    kvHeads: options.kvHeads ?? options.heads,
    headSize: options.headSize ?? options.hidden / options.heads,
    intermediate: options.intermediate,
    maxPositions: options.maxPositions ?? 2048,
    rmsNormEps: options.rmsNormEps ?? 1e-6,
    ropeTheta: options.ropeTheta ?? 10_000,
    tied: options.tied ?? false,
    initializerRange: options.initializerRange ?? 0.02,
    bosTokenId: options.bosTokenId,
    eosTokenIds: options.eosTokenIds ?? [],
    extra: options.extra ?? {},
  };
  check(config, who);
  return config;
}

/**
 * Reads the content of a `config.json` of a `LlamaForCausalLM`.
 * @throws BackboneError `BAD_CONFIG`, or `UNSUPPORTED_MODEL` for another architecture or variant
 */
export function parseLlamaConfig(json: unknown, who: string): LlamaConfig {
  if (!isObject(json)) {
    throw new BackboneError(
      "BAD_CONFIG",
      who,
      `must hold a JSON object, got ${describe(json)}. Use the config.json of a LLaMA model.`,
    );
  }
  const fields = { ...json };
  const take = (name: string): unknown => {
    const value = fields[name];
    delete fields[name];
    return value ?? undefined;
  };
  refuseOtherModels(fields, who);

  const typed = <T>(name: string, type: "number" | "boolean"): T | undefined => {
    const value = take(name);
    if (value === undefined || typeof value === type) return value as T | undefined;
    throw new BackboneError(
      "BAD_CONFIG",
      who,
      `${name} must be a ${type}, got ${describe(value)}. Use the config.json that belongs to the weights.`,
    );
  };
  const number = (name: string) => typed<number>(name, "number");
  const required = (name: string): number => {
    const value = number(name);
    if (value !== undefined) return value;
    throw new BackboneError(
      "BAD_CONFIG",
      who,
      `${name} is missing. Add it, or use the config.json that belongs to the weights.`,
    );
  };
  const eos = take("eos_token_id") ?? [];
  return createLlamaConfig(
    {
      vocabSize: required("vocab_size"),
      hidden: required("hidden_size"),
      depth: required("num_hidden_layers"),
      heads: required("num_attention_heads"),
      intermediate: required("intermediate_size"),
      kvHeads: number("num_key_value_heads"),
      headSize: number("head_dim"),
      maxPositions: number("max_position_embeddings"),
      rmsNormEps: number("rms_norm_eps"),
      ropeTheta: ropeTheta(number("rope_theta"), fields, who),
      tied: typed<boolean>("tie_word_embeddings", "boolean"),
      initializerRange: number("initializer_range"),
      bosTokenId: number("bos_token_id"),
      eosTokenIds: (Array.isArray(eos) ? eos : [eos]) as number[],
      extra: fields,
    },
    who,
  );
}

function refuseOtherModels(fields: Readonly<Record<string, unknown>>, who: string): void {
  const refuse = (name: string, wanted: string): never => {
    throw new BackboneError(
      "UNSUPPORTED_MODEL",
      who,
      `${name} must be ${wanted}, got ${describe(fields[name])}. Only plain LLaMA decoders are supported.`,
    );
  };
  if (fields.model_type !== "llama") refuse("model_type", '"llama"');
  const classes = fields.architectures ?? undefined;
  const isCausal = Array.isArray(classes) && classes.includes("LlamaForCausalLM");
  if (classes !== undefined && !isCausal) refuse("architectures", '["LlamaForCausalLM"]');
  if ((fields.hidden_act ?? "silu") !== "silu") refuse("hidden_act", '"silu"');
  for (const name of ["attention_bias", "mlp_bias"] as const)
    if ((fields[name] ?? false) !== false) refuse(name, "false");
  // Tensor-parallel checkpoints of before 2023 compute the same sums in another order.
  if ((fields.pretraining_tp ?? 1) !== 1) refuse("pretraining_tp", "1");
}

/** The base of the rotary frequencies; newer files keep it in `rope_parameters`, beside the kind of scaling. */
function ropeTheta(
  own: number | undefined,
  fields: Readonly<Record<string, unknown>>,
  who: string,
): number | undefined {
  let theta = own;
  for (const name of ["rope_scaling", "rope_parameters"] as const) {
    const rope = fields[name] ?? undefined;
    if (rope === undefined) continue;
    const kind = isObject(rope) ? (rope.rope_type ?? rope.type ?? "default") : rope;
    if (!isObject(rope) || kind !== "default") {
      throw new BackboneError(
        "UNSUPPORTED_MODEL",
        who,
        `${name} must be absent or of the type "default", got ${describe(kind)}. Only unscaled rotary positions are supported.`,
      );
    }
    const inner = rope.rope_theta ?? undefined;
    if (inner === undefined) continue;
    if (typeof inner !== "number" || (own !== undefined && own !== inner)) {
      throw new BackboneError(
        "BAD_CONFIG",
        who,
        `${name}.rope_theta must be ${own === undefined ? "a number" : `${own}, as rope_theta is`}, got ${describe(inner)}.`,
      );
    }
    theta = inner;
  }
  return theta;
}

function check(config: LlamaConfig, who: string): void {
  const fail = (message: string): never => {
    throw new BackboneError("BAD_CONFIG", who, message);
  };
  if (!isWhole(config.depth, 1, LARGEST_DEPTH))
    fail(`depth must be an integer from 1 to ${LARGEST_DEPTH}, got ${describe(config.depth)}.`);
  for (const name of ["vocabSize", "hidden", "heads", "kvHeads"] as const) {
    if (!isWhole(config[name], 1, LARGEST_SIZE))
      fail(`${name} must be an integer from 1 to ${LARGEST_SIZE}, got ${describe(config[name])}.`);
  }
  for (const name of ["headSize", "intermediate", "maxPositions"] as const) {
    if (!isWhole(config[name], 1, LARGEST_SIZE))
      fail(
        `${name} must be an integer from 1 to ${LARGEST_SIZE}, got ${describe(config[name])}${name === "headSize" ? ` (hidden ${config.hidden}, heads ${config.heads})` : ""}.`,
      );
  }
  if (config.headSize % 2 !== 0)
    fail(
      `headSize must be even, got ${config.headSize}. Rotary positions turn pairs of its numbers.`,
    );
  if (config.heads % config.kvHeads !== 0)
    fail(
      `kvHeads must divide heads (${config.heads}), got ${config.kvHeads}. Each key head serves as many query heads.`,
    );
  if (config.heads * config.headSize > LARGEST_SIZE)
    fail(
      `heads times headSize must be at most ${LARGEST_SIZE}, got ${config.heads * config.headSize}.`,
    );
  for (const name of ["rmsNormEps", "initializerRange"] as const) {
    if (!(config[name] > 0 && config[name] < 1))
      fail(`${name} must be above 0 and below 1, got ${describe(config[name])}.`);
  }
  if (!(config.ropeTheta > 1 && Number.isFinite(config.ropeTheta)))
    fail(`ropeTheta must be a number above 1, got ${describe(config.ropeTheta)}.`);
  const special = [
    ["bosTokenId", config.bosTokenId] as const,
    ...config.eosTokenIds.map((id) => ["eosTokenIds", id] as const),
  ];
  for (const [name, id] of special) {
    if (id !== undefined && !isWhole(id, 0, config.vocabSize - 1))
      fail(
        `${name} must be ids of the vocabulary (0 to ${config.vocabSize - 1}), got ${describe(id)}.`,
      );
  }
}

function isWhole(value: unknown, least: number, most: number): boolean {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  const text = value === undefined ? "nothing" : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

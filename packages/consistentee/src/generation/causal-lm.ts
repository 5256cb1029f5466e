/** @file What a program holds: a decoder with a strategy, from a folder to text. */
import {
  type CausalDecoder,
  type DecoderRunner,
  type LoadCausalDecoderOptions,
  loadCausalDecoder,
  openDecoder,
} from "@cee/backbone";
import { createRng, type Engine } from "@cee/engine";
import {
  type ExitStrategy,
  type FinishReason,
  type GeneratedToken,
  type GenerateTokensOptions,
  type GenerationStats,
  generateTokens,
  type HostParams,
  toObserver,
} from "@cee/exit-policies";
import { ConsistentEEError } from "../errors.js";
import { openEngine, type RunnerOptions } from "../serve/open-runner.js";

export interface CausalLMOptions extends RunnerOptions {
  /** Decides where tokens leave. @default full depth */
  readonly strategy?: ExitStrategy;
  /** The strategy's own trained parameters, by the names that its `params` gave them. */
  readonly strategyParams?: HostParams;
  /** Layers below the last where a token may leave. @default every layer with a strategy */
  readonly exits?: readonly number[];
  /** Keys and values of one batch may take so many bytes. @default 2 GiB */
  readonly maxCacheBytes?: number;
}

export interface GenerateOptions extends Omit<GenerateTokensOptions, "strategy" | "stopTokens"> {
  /** Another setting of the model's own strategy, such as another threshold. */
  readonly strategy?: ExitStrategy;
  /** Any of these ends a text. @default the model's own end tokens */
  readonly stopTokens?: readonly number[];
  /** Of the draws; a row's draws depend on it and the row's place alone. @default 0 */
  readonly seed?: number | string;
}

/** Text, or token ids as they are. */
export type Prompt = string | readonly number[];

export interface Generation {
  /** Without the prompt; empty where the model has no tokenizer. */
  readonly text: string;
  readonly ids: readonly number[];
  /** The layer whose head gave each token; the first comes from the prompt's pass, at full depth. */
  readonly exitLayers: readonly number[];
  /** Without the first token; NaN for a text of one token. */
  readonly meanExitLayer: number;
  readonly layers: number;
  readonly finishReason: FinishReason;
  /** Tokens where full depth's two best differ by less than 1e-4, so that rounding may decide. */
  readonly nearTies: readonly number[];
}

export interface StreamedToken extends GeneratedToken {
  /** What the token adds to the text; empty while a character is not whole, unless the text ends there. */
  readonly text: string;
}

export class CausalLM {
  #isDisposed = false;

  private constructor(
    readonly decoder: CausalDecoder,
    private readonly engine: Engine,
    private readonly runner: DecoderRunner,
    private readonly options: CausalLMOptions,
  ) {}

  /**
   * Loads a LLaMA model's folder in Hugging Face layout, or a llama2.c file.
   * @throws BackboneError what `loadCausalDecoder` and `openDecoder` refuse
   */
  static async fromPretrained(
    path: string,
    options: CausalLMOptions & LoadCausalDecoderOptions = {},
  ): Promise<CausalLM> {
    return CausalLM.open(await loadCausalDecoder(path, options), options);
  }

  /** Compiles a decoder that is in memory. @throws ConsistentEEError `NOT_TRAINED` */
  static async open(decoder: CausalDecoder, options: CausalLMOptions = {}): Promise<CausalLM> {
    refuseUntrained(options);
    const engine = await openEngine(options);
    try {
      const { strategy, strategyParams, exits, maxCacheBytes } = options;
      const observer = strategy && toObserver(strategy, strategyParams);
      const runner = await openDecoder(engine, decoder, { observer, exits, maxCacheBytes });
      return new CausalLM(decoder, engine, runner, options);
    } catch (error) {
      await engine.dispose();
      throw error;
    }
  }

  /** Texts that are being generated, and the bytes of keys and values that they hold. */
  get inUse(): { readonly batches: number; readonly cacheBytes: number } {
    return { batches: this.runner.openPasses, cacheBytes: this.runner.cacheBytes };
  }

  async generate(prompt: Prompt, options?: GenerateOptions): Promise<Generation> {
    const { rows } = await this.generateBatch([prompt], options);
    return rows[0] as Generation;
  }

  /**
   * Generates behind several prompts at once; greedily, each row gets what it gets alone. Draws depend on a row's place in the
   * batch.
   */
  async generateBatch(
    prompts: readonly Prompt[],
    options: GenerateOptions = {},
  ): Promise<{ readonly rows: readonly Generation[]; readonly stats: GenerationStats }> {
    const tokens: GeneratedToken[][] = prompts.map(() => []);
    const loop = this.#loop(prompts, options);
    for (;;) {
      const { value, done } = await loop.next();
      if (!done) {
        tokens[value.row]?.push(value);
        continue;
      }
      const rows = tokens.map((row, index) =>
        this.#toGeneration(row, value.finishReasons[index] as FinishReason),
      );
      return { rows, stats: value };
    }
  }

  /** Tokens as they become certain. Leaving the loop, or aborting the signal, frees what the text held. */
  async *stream(
    prompt: Prompt,
    options: GenerateOptions = {},
  ): AsyncGenerator<StreamedToken, void> {
    const ids: number[] = [];
    // Only what is new and the tokens of the piece before are decoded: the latter say how the former begin.
    let [before, after] = [0, 0];
    for await (const token of this.#loop([prompt], options)) {
      ids.push(token.id);
      const known = this.#decode(ids.slice(before, after), before);
      const whole = this.#decode(ids.slice(before), before);
      // A character may be spread over several tokens; its first ones decode to a replacement character.
      if (whole.endsWith("\uFFFD") && token.finishReason === undefined) {
        yield { ...token, text: "" };
        continue;
      }
      [before, after] = [after, ids.length];
      yield { ...token, text: whole.slice(known.length) };
    }
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    await this.runner.dispose();
    await this.engine.dispose();
  }

  #loop(
    prompts: readonly Prompt[],
    { seed = 0, ...options }: GenerateOptions,
  ): AsyncGenerator<GeneratedToken, GenerationStats> {
    if (this.#isDisposed)
      throw new ConsistentEEError(
        "DISPOSED",
        "generate",
        "the model was disposed of. Open it again.",
      );
    const own = this.options.strategy;
    const strategy = options.strategy ?? own;
    if (strategy && strategy.name !== own?.name)
      throw new ConsistentEEError(
        "BAD_OPTION",
        "strategy",
        `the model was opened for ${own?.name ?? "full depth"}, got ${strategy.name}. Open it with that strategy; only its settings may change.`,
      );
    if (strategy && own) refuseCompiledChange(own, strategy);
    const random = createRng(seed);
    return generateTokens(
      this.runner,
      prompts.map((prompt, row) => ({
        ids: typeof prompt === "string" ? this.#encode(prompt) : prompt,
        random: random.fork(`row ${row}`).next,
      })),
      {
        stopTokens: this.decoder.config.eosTokenIds,
        ...options,
        ...(strategy ? { strategy } : {}),
      },
    );
  }

  #encode(text: string): readonly number[] {
    const { tokenizer } = this.decoder;
    if (tokenizer) return tokenizer.encode(text);
    throw new ConsistentEEError(
      "NO_TOKENIZER",
      "generate",
      "the model came without a tokenizer. Put its tokenizer.json (of a llama2.c model its tokenizer.bin) beside it, or pass token ids.",
    );
  }

  /** @param place of the first id in its text */
  #decode(ids: readonly number[], place = 0): string {
    const { tokenizer, config } = this.decoder;
    // The opening token in front keeps a first word's space, which decoders strip, from depending on where the text is cut.
    const lead = config.bosTokenId === undefined || place > 0 ? [] : [config.bosTokenId];
    return tokenizer?.decode([...lead, ...ids]) ?? "";
  }

  #toGeneration(tokens: readonly GeneratedToken[], finishReason: FinishReason): Generation {
    const ids = tokens.map(({ id }) => id);
    const counted = tokens.filter(({ isFromPrompt }) => !isFromPrompt);
    return {
      text: this.#decode(ids),
      ids,
      exitLayers: tokens.map(({ layer }) => layer),
      meanExitLayer: counted.reduce((sum, { layer }) => sum + layer, 0) / counted.length,
      layers: this.decoder.shape.depth,
      finishReason,
      nearTies: tokens.filter(({ isNearTie }) => isNearTie).map(({ position }) => position),
    };
  }
}

/** A policy that nobody trained decides at random. @throws ConsistentEEError `NOT_TRAINED` */
function refuseUntrained({ strategy, strategyParams }: CausalLMOptions): void {
  if (!strategy?.definition.params || strategyParams) return;
  throw new ConsistentEEError(
    "NOT_TRAINED",
    "strategy",
    `${strategy.name} decides with parameters of its own, got none. Pass strategyParams, as training gave them.`,
  );
}

/**
 * What `observe` may read is compiled into the model when it is opened; the knob and what calibration sets are not.
 * @throws ConsistentEEError `BAD_OPTION` naming the option
 */
function refuseCompiledChange(opened: ExitStrategy, asked: ExitStrategy): void {
  const { knob, calibrated = [] } = opened.definition;
  const free = new Set([...calibrated, ...(knob ? [knob.option] : [])]);
  const names = new Set([...Object.keys(opened.options), ...Object.keys(asked.options)]);
  for (const name of names) {
    const [before, now] = [opened.options[name], asked.options[name]].map((value) =>
      JSON.stringify(value),
    );
    if (before === now || free.has(name)) continue;
    throw new ConsistentEEError(
      "BAD_OPTION",
      "strategy",
      `${opened.name}'s ${name} was fixed at ${before} when the model was opened, got ${now}. Open the model with it; a call may change ${[...free].join(", ") || "nothing"}.`,
    );
  }
}

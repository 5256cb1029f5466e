/** @file What a service holds: a model with its exits and a strategy, from a folder to answers. */
import { type ExitEncoder, openEncoder, type TokenBatch, toBatch } from "@cee/backbone";
import { createEngine, type Engine, type EngineOptions } from "@cee/engine";
import { classify, type ExitRunner, type ExitStrategy, toObserver } from "@cee/exit-policies";
import { abortable } from "./abortable.js";
import { chunks } from "./chunks.js";
import { ConsistentEEError } from "./errors.js";
import {
  completeParts,
  type EarlyExitParts,
  type LoadPartsOptions,
  loadParts,
  saveEarlyExitModel,
} from "./model-folder.js";
import {
  type ClassifyInput,
  type Prediction,
  type PreparedRow,
  type PrepareOptions,
  prepareRow,
  refuseMixture,
  type TextPair,
  toPrediction,
} from "./requests.js";

export interface ModelOptions {
  /** Of the engine. @default "auto" */
  readonly runtime?: EngineOptions["runtime"];
  /** ONNX Runtime's execution provider, with the processor for what it cannot run. @default "cpu" */
  readonly device?: string;
  /** Of ONNX Runtime, within one operation. @default the processors available to this process */
  readonly threads?: number;
  /** Requests of one call that run together. @default 32 */
  readonly maxBatch?: number;
  /** Tokens, special ones included. @default the positions that the model has */
  readonly maxLength?: number;
  /** What happens to longer texts; a truncated one says so in its answer. @default "truncate" */
  readonly tooLong?: "truncate" | "refuse";
}

export interface FromPretrainedOptions extends ModelOptions, LoadPartsOptions {}

export interface ClassifyOptions {
  /** Depth budget: what has not left before this layer is answered there. @default the model's depth */
  readonly maxLayer?: number;
  /** Ends the call between two layers; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

type Settings = Required<Pick<ModelOptions, "maxBatch">> & PrepareOptions;

export class EarlyExitModel {
  readonly #parts: Required<EarlyExitParts>;
  readonly #settings: Settings;
  readonly #engine: Engine;
  readonly #runner: ExitRunner<TokenBatch>;
  readonly #running = new Set<Promise<unknown>>();
  #disposal: Promise<void> | undefined;

  private constructor(
    parts: Required<EarlyExitParts>,
    settings: Settings,
    engine: Engine,
    runner: ExitRunner<TokenBatch>,
  ) {
    this.#parts = parts;
    this.#settings = settings;
    this.#engine = engine;
    this.#runner = runner;
  }

  /**
   * Loads what `saveEarlyExitModel` wrote, from a folder or a Hugging Face hub id; the strategy's files may also stand in
   * `strategy/`.
   * @throws ConsistentEEError `NO_EXITS`, `NO_STRATEGY`, `NO_TOKENIZER`, `MODEL_MISMATCH`, `BAD_OPTION`, and what loading
   * the files throws
   */
  static async fromPretrained(
    folderOrId: string,
    options: FromPretrainedOptions = {},
  ): Promise<EarlyExitModel> {
    return EarlyExitModel.fromParts(await loadParts(folderOrId, options), options);
  }

  /**
   * Opens a model that is in memory, such as one just trained.
   * @throws ConsistentEEError `NO_TOKENIZER`, `MODEL_MISMATCH`, `BAD_OPTION`; ExitStrategyError `NOT_TRAINED`,
   * `TASK_UNSUPPORTED`
   */
  static async fromParts(
    parts: EarlyExitParts,
    options: ModelOptions = {},
  ): Promise<EarlyExitModel> {
    const complete = completeParts(parts);
    const { encoder, strategy, params, reports } = complete;
    const settings = settingsOf(encoder, options);
    const { runtime, threads, device } = options;
    const engine = await createEngine({
      ...(runtime !== undefined && { runtime }),
      ...(threads !== undefined && { threads }),
      ...(device !== undefined && { providers: device === "cpu" ? ["cpu"] : [device, "cpu"] }),
    });
    try {
      const trained = { heads: encoder.trainedHeads, strategy: reports.length > 0 };
      const observer = toObserver(strategy, params);
      const runner = await openEncoder(engine, encoder, encoder.params, observer, { trained });
      return new EarlyExitModel(complete, settings, engine, runner);
    } catch (error) {
      await engine.dispose();
      throw error;
    }
  }

  get strategy(): ExitStrategy {
    return this.#parts.strategy;
  }

  /** Class names by index; `undefined` where nobody named them. */
  get labels(): readonly string[] | undefined {
    return this.#parts.encoder.labels;
  }

  /** Layers of the whole model. */
  get layers(): number {
    return this.#parts.encoder.shape.depth;
  }

  /**
   * Classifies one text or pair, or a list of them: each leaves at its own layer and later layers run on the others.
   * A list is always a list of requests; one pair alone is `{ text, pair }`.
   * @throws ConsistentEEError `BAD_INPUT` naming the request, before anything runs; `NOT_FINITE`; `DISPOSED`.
   * ExitStrategyError `INVALID_OPTIONS`
   */
  classify(input: string | TextPair, options?: ClassifyOptions): Promise<Prediction>;
  classify(inputs: readonly ClassifyInput[], options?: ClassifyOptions): Promise<Prediction[]>;
  async classify(
    input: string | TextPair | readonly ClassifyInput[],
    options: ClassifyOptions = {},
  ): Promise<Prediction | Prediction[]> {
    if (Array.isArray(input)) return this.#track(this.#classifyAll(input, options));
    const one = input as string | TextPair;
    const [answer] = await this.#track(this.#classifyAll([one], options));
    return answer as Prediction;
  }

  /**
   * Answers requests in their order as they come: those that are there together run together, up to `maxBatch`. What came
   * before a request that is refused is answered first.
   * @throws what {@link classify} throws, and what `inputs` throws
   */
  async *stream(
    inputs: Iterable<ClassifyInput> | AsyncIterable<ClassifyInput>,
    options: ClassifyOptions = {},
  ): AsyncGenerator<Prediction, void, undefined> {
    this.#refuseDisposed("stream");
    let first: boolean | undefined;
    let count = 0;
    for await (const { items, failure } of chunks(
      inputs,
      this.#settings.maxBatch,
      options.signal,
    )) {
      this.#refuseDisposed("stream");
      const start = performance.now();
      const rows: PreparedRow[] = [];
      let refused = failure;
      for (const input of items) {
        const who = `request ${count}`;
        count += 1;
        try {
          const row = prepareRow(input, who, this.#settings);
          first ??= row.isPair;
          refuseMixture(row.isPair, first, who);
          rows.push(row);
        } catch (cause) {
          refused = { cause };
          break;
        }
      }
      if (rows.length > 0 && !options.signal?.aborted)
        yield* await this.#track(this.#run(rows, options, start));
      if (refused) throw refused.cause;
      options.signal?.throwIfAborted();
    }
  }

  /** Writes the model to a folder. @throws what `saveEarlyExitModel` throws; ConsistentEEError `DISPOSED` */
  async save(folder: string): Promise<void> {
    this.#refuseDisposed("save");
    await saveEarlyExitModel(this.#parts, folder);
  }

  /** Ends the sessions when the calls in progress are done; later calls are refused. Safe to call twice. */
  dispose(): Promise<void> {
    this.#disposal ??= this.#end();
    return this.#disposal;
  }

  async #end(): Promise<void> {
    await Promise.allSettled(this.#running);
    await this.#runner.dispose();
    await this.#engine.dispose();
  }

  async #classifyAll(
    inputs: readonly ClassifyInput[],
    options: ClassifyOptions,
  ): Promise<Prediction[]> {
    this.#refuseDisposed("classify");
    options.signal?.throwIfAborted();
    const begun = performance.now();
    const rows = inputs.map((input, index) =>
      prepareRow(input, `request ${index}`, this.#settings),
    );
    rows.forEach((row, index) => {
      refuseMixture(row.isPair, rows[0]?.isPair === true, `request ${index}`);
    });
    // Neighbours in length share a batch, so that little of it is padding.
    const order = rows.map((_, index) => index);
    order.sort((a, b) => lengthOf(rows[a]) - lengthOf(rows[b]));
    const answers: Prediction[] = [];
    const { maxBatch } = this.#settings;
    for (let at = 0; at < order.length; at += maxBatch) {
      const members = order.slice(at, at + maxBatch);
      const batch = members.map((index) => rows[index] as PreparedRow);
      const start = at === 0 ? begun : performance.now();
      const made = await this.#run(batch, options, start);
      members.forEach((index, position) => {
        answers[index] = made[position] as Prediction;
      });
    }
    return answers;
  }

  /** One batch. */
  async #run(
    rows: readonly PreparedRow[],
    { maxLayer, signal }: ClassifyOptions,
    start: number,
  ): Promise<Prediction[]> {
    const { encoder, strategy } = this.#parts;
    const { tokenizer } = this.#settings;
    const outcome = await classify(
      abortable(this.#runner, signal),
      toBatch(rows, { padId: tokenizer.padId }),
      strategy,
      maxLayer === undefined ? {} : { maxLayer },
    );
    const milliseconds = performance.now() - start;
    return rows.map(({ truncated }, row) =>
      toPrediction(encoder, outcome, row, { milliseconds, truncated }),
    );
  }

  /** `dispose` waits for what is in progress. */
  async #track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    try {
      return await work;
    } finally {
      this.#running.delete(work);
    }
  }

  #refuseDisposed(who: string): void {
    if (this.#disposal)
      throw new ConsistentEEError(
        "DISPOSED",
        who,
        "must not be called on a model that was disposed of, got one that was. Load it again.",
      );
  }
}

function settingsOf(
  { config, tokenizer }: ExitEncoder,
  { maxBatch = 32, maxLength = config.maxPositions, tooLong = "truncate" }: ModelOptions,
): Settings {
  if (!tokenizer)
    throw new ConsistentEEError(
      "NO_TOKENIZER",
      "EarlyExitModel",
      "the model must have a tokenizer to read texts, got none. Add its tokenizer.json or vocab.txt to the folder.",
    );
  if (!Number.isInteger(maxBatch) || maxBatch < 1)
    throw badOption("maxBatch", `must be a whole number from 1, got ${maxBatch}.`);
  // Room for the special tokens of a pair and a token of each of its texts.
  const least = tokenizer.encode(["", ""], { maxLength: Number.MAX_SAFE_INTEGER }).ids.length + 2;
  if (!Number.isInteger(maxLength) || maxLength < least || maxLength > config.maxPositions)
    throw badOption(
      "maxLength",
      `must be a whole number from ${least} to ${config.maxPositions}, the model's positions, got ${maxLength}.`,
    );
  if (tooLong !== "truncate" && tooLong !== "refuse")
    throw badOption("tooLong", `must be "truncate" or "refuse", got ${String(tooLong)}.`);
  return { maxBatch, maxLength, tooLong, tokenizer };
}

function badOption(who: string, message: string): ConsistentEEError {
  return new ConsistentEEError("BAD_OPTION", who, message);
}

function lengthOf(row: PreparedRow | undefined): number {
  return row?.ids.length ?? 0;
}

/** @file What a service holds: a model with its exits and a strategy, from a folder to answers. */
import type { ExitEncoder } from "@cee/backbone";
import { checkHost, type ExitStrategy, type RowAnswer } from "@cee/exit-policies";
import { chunks } from "./chunks.js";
import { ConsistentEEError } from "./errors.js";
import { type ExportedModel, type ExportOptions, exportParts } from "./export/export-model.js";
import {
  type CompleteParts,
  completeParts,
  type EarlyExitParts,
  type LoadPartsOptions,
  loadParts,
  saveEarlyExitModel,
} from "./model-folder.js";
import {
  type Health,
  Monitor,
  type MonitorDefaults,
  type MonitorOptions,
} from "./monitor/monitor.js";
import type { OperatingPoint } from "./operating-point.js";
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
import { type SelectThresholdOptions, selectThreshold } from "./select-threshold.js";
import { type OpenedRunner, openRunner, type RunnerOptions } from "./serve/open-runner.js";
import { RequestQueue } from "./serve/request-queue.js";
import { runBatch } from "./serve/run-batch.js";
import { Ticket } from "./serve/ticket.js";

export interface ModelOptions extends RunnerOptions, MonitorOptions {
  /** Requests that run together at most, whichever calls they come from. @default 32 */
  readonly maxBatch?: number;
  /** Milliseconds that a request may wait for others while the device is idle. @default 0 */
  readonly maxWait?: number;
  /** Requests that may wait for the device before further ones are refused. @default 1024 */
  readonly maxQueue?: number;
  /** Tokens, special ones included. @default the positions that the model has */
  readonly maxLength?: number;
  /** What happens to longer texts; a truncated one says so in its answer. @default "truncate" */
  readonly tooLong?: "truncate" | "refuse";
}

export interface FromPretrainedOptions extends ModelOptions, LoadPartsOptions {}

export interface ClassifyOptions {
  /** Depth budget: what has not left before this layer is answered there. @default the model's depth */
  readonly maxLayer?: number;
  /** Ends the call, at the latest before the next layer; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface DisposeOptions {
  /** What becomes of requests without an answer: they are answered first, or refused as `DISPOSED`. @default "finish" */
  readonly pending?: "finish" | "reject";
}

interface Settings extends PrepareOptions {
  readonly maxBatch: number;
  readonly maxWait: number;
  readonly maxQueue: number;
}

export class EarlyExitModel {
  #parts: CompleteParts;
  readonly #settings: Settings;
  readonly #opened: OpenedRunner;
  readonly #monitor: Monitor;
  readonly #queue: RequestQueue<Ticket<Prediction>>;
  /** Requests without an answer, waiting or running. */
  readonly #open = new Set<Ticket<Prediction>>();
  #disposal: Promise<void> | undefined;

  private constructor(
    parts: CompleteParts,
    settings: Settings,
    opened: OpenedRunner,
    monitor: Monitor,
  ) {
    this.#parts = parts;
    this.#settings = settings;
    this.#opened = opened;
    this.#monitor = monitor;
    this.#queue = new RequestQueue(settings, (batch) => this.#run(batch));
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
    const settings = settingsOf(complete.encoder, options);
    const monitor = new Monitor(options, monitorDefaults(complete));
    return new EarlyExitModel(complete, settings, await openRunner(complete, options), monitor);
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

  /** What was chosen for this model, on which rows and with which guarantee; `undefined` where nothing was. */
  get operatingPoint(): OperatingPoint | undefined {
    return this.#parts.operatingPoint;
  }

  /** Requests that wait for the device. */
  get waiting(): number {
    return this.#queue.waiting;
  }

  /** Whether the model exits early, and what the audit and the drift check found last. */
  get health(): Health {
    return this.#monitor.health;
  }

  /** Ends a fall-back to full depth. @returns whether there was one */
  resetFallback(): boolean {
    return this.#monitor.reset();
  }

  /**
   * Classifies one text or pair, or a list of them. Requests of all calls are gathered into batches of similar length; each
   * is answered as soon as it leaves its batch, and later layers run on the others.
   * A list is always a list of requests; one pair alone is `{ text, pair }`.
   * @throws ConsistentEEError `BAD_INPUT` naming the request, before anything runs; `QUEUE_FULL`, `NOT_FINITE`, `DISPOSED`.
   * ExitStrategyError `INVALID_OPTIONS`
   */
  classify(input: string | TextPair, options?: ClassifyOptions): Promise<Prediction>;
  classify(inputs: readonly ClassifyInput[], options?: ClassifyOptions): Promise<Prediction[]>;
  async classify(
    input: string | TextPair | readonly ClassifyInput[],
    options: ClassifyOptions = {},
  ): Promise<Prediction | Prediction[]> {
    const isList = Array.isArray(input);
    const inputs = (isList ? input : [input]) as readonly ClassifyInput[];
    this.#refuseDisposed("classify");
    this.#check(options);
    const arrived = performance.now();
    const rows = inputs.map((one, index) => prepareRow(one, `request ${index}`, this.#settings));
    rows.forEach((row, index) => {
      refuseMixture(row.isPair, rows[0]?.isPair === true, `request ${index}`);
    });
    const tickets = this.#enqueue(rows, options, arrived);
    try {
      const answers = await Promise.all(tickets.map(({ answer }) => answer));
      return isList ? answers : (answers[0] as Prediction);
    } catch (error) {
      // The call has failed: the device need not finish the rest of it.
      for (const ticket of tickets) this.#giveUp(ticket, error, "failed");
      throw error;
    }
  }

  /**
   * Like `classify` with a list, but a request that cannot be answered fails alone: every entry says how its request ended.
   * @throws ConsistentEEError `QUEUE_FULL`, `DISPOSED`; ExitStrategyError `INVALID_OPTIONS`
   */
  async settle(
    inputs: readonly ClassifyInput[],
    options: ClassifyOptions = {},
  ): Promise<PromiseSettledResult<Prediction>[]> {
    this.#refuseDisposed("settle");
    this.#check(options);
    const arrived = performance.now();
    let first: boolean | undefined;
    const prepared = inputs.map((input, index) => {
      const who = `request ${index}`;
      try {
        const row = prepareRow(input, who, this.#settings);
        first ??= row.isPair;
        refuseMixture(row.isPair, first, who);
        return row;
      } catch (reason) {
        return { reason };
      }
    });
    const tickets = this.#enqueue(
      prepared.filter((one): one is PreparedRow => !("reason" in one)),
      options,
      arrived,
    );
    let next = 0;
    return Promise.allSettled(
      prepared.map((one) =>
        "reason" in one
          ? Promise.reject(one.reason)
          : (tickets[next++] as Ticket<Prediction>).answer,
      ),
    );
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
    this.#check({ ...(options.maxLayer !== undefined && { maxLayer: options.maxLayer }) });
    let first: boolean | undefined;
    let count = 0;
    for await (const { items, failure } of chunks(
      inputs,
      this.#settings.maxBatch,
      options.signal,
    )) {
      this.#refuseDisposed("stream");
      const arrived = performance.now();
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
      if (rows.length > 0) await this.#queue.room(rows.length);
      this.#refuseDisposed("stream");
      if (rows.length > 0 && !options.signal?.aborted) {
        const tickets = this.#enqueue(rows, options, arrived);
        try {
          for (const { answer } of tickets) yield await answer;
        } finally {
          // The reader may have left.
          for (const ticket of tickets)
            this.#giveUp(ticket, new Error("the stream ended"), "aborted");
        }
      }
      if (refused) throw refused.cause;
      options.signal?.throwIfAborted();
    }
  }

  /**
   * Chooses the knob from held-out rows and uses it from now on: the fastest value that keeps to `maxLoss` with
   * `confidence`, without any assumption on the distribution, or the slowest one whose predicted p95 is within `p95Ms`.
   * Where the rows do not support a guarantee, the model runs at full depth and `note` says why.
   * `save` stores the choice.
   * @throws ConsistentEEError `BAD_OPTION`, `BAD_INPUT`, `DISPOSED`; ExitStrategyError `INVALID_OPTIONS`, `BAD_RECORD`
   */
  async selectThreshold(options: SelectThresholdOptions): Promise<OperatingPoint> {
    this.#refuseDisposed("selectThreshold");
    const { threads } = this.#opened.engine;
    return this.#queue.alone(async () => {
      const { parts, point } = await selectThreshold(this.#parts, this.#opened.runner, options, {
        ...this.#settings,
        threads,
      });
      this.#monitor.restart(monitorDefaults(parts));
      this.#parts = parts;
      return point;
    });
  }

  /** Writes the model to a folder. @throws what `saveEarlyExitModel` throws; ConsistentEEError `DISPOSED` */
  async save(folder: string): Promise<void> {
    this.#refuseDisposed("save");
    await saveEarlyExitModel(this.#parts, folder);
  }

  /**
   * Writes the model as ONNX with its exits inside, at the knob that is in use.
   * @throws BackboneError `NOT_EXPORTABLE`, `WRITE_FAILED`; ConsistentEEError `BAD_OPTION`, `DISPOSED`
   */
  exportOnnx(file: string, options?: ExportOptions): ExportedModel {
    this.#refuseDisposed("exportOnnx");
    return exportParts(this.#parts, file, options);
  }

  /** Ends the sessions when no request is left; later calls are refused. Safe to call twice. */
  dispose({ pending = "finish" }: DisposeOptions = {}): Promise<void> {
    this.#disposal ??= this.#end();
    if (pending === "reject")
      for (const ticket of this.#open) this.#giveUp(ticket, disposed("classify"), "failed");
    return this.#disposal;
  }

  async #end(): Promise<void> {
    await this.#queue.drained();
    await this.#opened.runner.dispose();
    await this.#opened.single?.dispose();
    await this.#opened.engine.dispose();
  }

  #enqueue(
    rows: readonly PreparedRow[],
    { maxLayer, signal }: ClassifyOptions,
    arrived: number,
  ): Ticket<Prediction>[] {
    const tickets = rows.map((row) => {
      const isWhole = (maxLayer ?? this.layers) >= this.layers;
      return new Ticket<Prediction>(row, maxLayer, arrived, isWhole && this.#monitor.draws());
    });
    try {
      this.#queue.push(tickets);
    } catch (error) {
      for (const ticket of tickets) this.#giveUp(ticket, error, "failed");
      throw error;
    }
    for (const ticket of tickets) this.#open.add(ticket);
    if (signal) {
      const abort = () => {
        for (const ticket of tickets) this.#giveUp(ticket, signal.reason, "aborted");
      };
      signal.addEventListener("abort", abort, { once: true });
      void Promise.allSettled(tickets.map(({ answer }) => answer)).then(() =>
        signal.removeEventListener("abort", abort),
      );
    }
    return tickets;
  }

  #run(batch: readonly Ticket<Prediction>[]): Promise<void> {
    const { encoder, strategy, operatingPoint } = this.#parts;
    const isNumber = encoder.shape.task === "regression";
    const monitor = this.#monitor;
    // Within a batch all rows are treated alike, whatever trips meanwhile.
    const atFullDepth = monitor.isAtFullDepth;
    return runBatch(batch, {
      runner: this.#opened.runner,
      single: this.#opened.single,
      strategy,
      padId: this.#settings.tokenizer.padId,
      atFullDepth,
      toAnswer: ({ arrived, row }, answer) =>
        toPrediction(encoder, answer, {
          milliseconds: performance.now() - arrived,
          truncated: row.truncated,
        }),
      onSettled: (ticket, answer, error) => {
        this.#open.delete(ticket);
        this.#tell(ticket, answer ? "answered" : "failed", answer, error, atFullDepth);
        const isWhole = (ticket.maxLayer ?? this.layers) >= this.layers;
        // Where full depth was chosen with the model, there is no normal distribution of exits to drift from.
        if (answer && isWhole && !operatingPoint?.isFullDepth)
          monitor.countExit((ticket.left ?? answer).layer);
      },
      onCompared: (_, early, full) =>
        monitor.countAudit(early.layer, early.prediction, full.prediction, isNumber),
    });
  }

  /** Fails a request that still has no answer. */
  #giveUp(ticket: Ticket<Prediction>, reason: unknown, outcome: "failed" | "aborted"): void {
    if (!ticket.isOpen) return;
    ticket.reject(reason);
    this.#open.delete(ticket);
    this.#queue.remove(ticket);
    this.#tell(ticket, outcome, undefined, reason, this.#monitor.isAtFullDepth);
  }

  #tell(
    { row, arrived, started, batchSize, length, left }: Ticket<Prediction>,
    outcome: "answered" | "failed" | "aborted",
    answer: RowAnswer | undefined,
    error: unknown,
    atFullDepth: boolean,
  ): void {
    const now = performance.now();
    this.#monitor.announce("onRequest", {
      outcome,
      exitLayer: answer?.layer,
      strategyLayer: left?.layer,
      layers: this.layers,
      milliseconds: now - arrived,
      queueMilliseconds: (started || now) - arrived,
      batchSize,
      tokens: length,
      truncated: row.truncated,
      label: answer && (this.labels?.[answer.prediction] ?? undefined),
      atFullDepth,
      error,
    });
  }

  #check({ maxLayer, signal }: ClassifyOptions): void {
    signal?.throwIfAborted();
    if (maxLayer !== undefined) checkHost(this.strategy, this.#parts.encoder.shape, { maxLayer });
  }

  #refuseDisposed(who: string): void {
    if (this.#disposal) throw disposed(who);
  }
}

function disposed(who: string): ConsistentEEError {
  return new ConsistentEEError(
    "DISPOSED",
    who,
    "must not be called on a model that was disposed of, got one that was. Load it again.",
  );
}

function monitorDefaults({ encoder, operatingPoint }: CompleteParts): MonitorDefaults {
  const { guarantee } = operatingPoint ?? {};
  const hasAgreement = guarantee?.kind === "risk" && guarantee.loss === "agreement";
  return {
    layers: encoder.shape.depth,
    reference: operatingPoint?.exits,
    minAgreement: hasAgreement ? 1 - guarantee.maxLoss : undefined,
    fullDepthBecause: operatingPoint?.isFullDepth ? operatingPoint.note : undefined,
  };
}

function settingsOf(
  { config, tokenizer }: ExitEncoder,
  {
    maxBatch = 32,
    maxWait = 0,
    maxQueue = 1024,
    maxLength = config.maxPositions,
    tooLong = "truncate",
  }: ModelOptions,
): Settings {
  if (!tokenizer)
    throw new ConsistentEEError(
      "NO_TOKENIZER",
      "EarlyExitModel",
      "the model must have a tokenizer to read texts, got none. Add its tokenizer.json or vocab.txt to the folder.",
    );
  for (const [name, count] of Object.entries({ maxBatch, maxQueue }))
    if (!Number.isInteger(count) || count < 1)
      throw badOption(name, `must be a whole number from 1, got ${count}.`);
  if (!(maxWait >= 0 && maxWait <= 60_000))
    throw badOption("maxWait", `must be milliseconds from 0 to 60000, got ${maxWait}.`);
  // Room for the special tokens of a pair and a token of each of its texts.
  const least = tokenizer.encode(["", ""], { maxLength: Number.MAX_SAFE_INTEGER }).ids.length + 2;
  if (!Number.isInteger(maxLength) || maxLength < least || maxLength > config.maxPositions)
    throw badOption(
      "maxLength",
      `must be a whole number from ${least} to ${config.maxPositions}, the model's positions, got ${maxLength}.`,
    );
  if (tooLong !== "truncate" && tooLong !== "refuse")
    throw badOption("tooLong", `must be "truncate" or "refuse", got ${String(tooLong)}.`);
  return { maxBatch, maxWait, maxQueue, maxLength, tooLong, tokenizer };
}

function badOption(who: string, message: string): ConsistentEEError {
  return new ConsistentEEError("BAD_OPTION", who, message);
}

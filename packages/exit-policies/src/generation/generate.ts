/**
 * @file The token loop: rows of a batch grow token by token, and each token leaves at its own layer.
 *
 * V = vocabulary, H = hidden size.
 */
import { ExitStrategyError } from "../errors.js";
import { allFinite, checkHost, decideRow, type TrainedParts } from "../outcome.js";
import { never } from "../strategies/never.js";
import type { ExitStrategy, RowState } from "../strategy.js";
import {
  acceptOrReplace,
  checkSampling,
  draw,
  likeliest,
  nextTokenProbabilities,
  type SamplingOptions,
  topTwoGap,
} from "./sampling.js";
import type { TokenAdvance, TokenPass, TokenRunner } from "./token-model.js";

/**
 * What becomes of the keys and values of layers that a token skipped:
 * - `copy`: computed at once from the state it left with (the papers' state copying);
 * - `recompute`: computed exactly, together with those of other such tokens, when a later token goes that deep;
 * - `verify`: as `recompute`, and a token that left early is a draft until full depth has confirmed or replaced it.
 */
export type KeyValues = "copy" | "recompute" | "verify";

export interface TokenPrompt {
  readonly ids: ArrayLike<number>;
  /** Numbers of [0, 1) that this row's draws use; needed where the temperature is above 0. */
  readonly random?: () => number;
}

/** A token that left early, as full depth sees it. */
export interface DeepComparison {
  readonly row: number;
  /** Index of the token among the generated ones. */
  readonly position: number;
  /** What was observed where it left. */
  readonly observed: Float32Array;
  readonly shallowToken: number;
  /** The likeliest token of full depth. */
  readonly deepToken: number;
}

export interface GenerateTokensOptions extends SamplingOptions {
  /** @default full depth */
  readonly strategy?: ExitStrategy;
  /** @default "copy" */
  readonly keyValues?: KeyValues;
  /** @default 128 */
  readonly maxNewTokens?: number;
  /** Any of these ends a text; it is the text's last token. */
  readonly stopTokens?: readonly number[];
  /** Drafts before full depth is asked, with `verify`. @default 4 */
  readonly draftLength?: number;
  /** Ends the loop before the next layer; it then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** What was trained. @default what the model says, else taken on trust */
  readonly trained?: TrainedParts;
  /** Told of tokens that left early whenever full depth catches up with them (`recompute` and `verify`). */
  readonly onDeep?: (comparison: DeepComparison) => void;
}

export interface GeneratedToken {
  readonly row: number;
  /** Index among the row's generated tokens. */
  readonly position: number;
  readonly id: number;
  /** Layer whose head gave it. */
  readonly layer: number;
  /** The prompt's own pass gave it: always at full depth, and not part of mean exit layers. */
  readonly isFromPrompt: boolean;
  /** Full depth's two highest logits are closer than 1e-4, so that rounding may decide; only known at full depth. */
  readonly isNearTie: boolean;
  /** Why the row ends with this token; `undefined` where it goes on. */
  readonly finishReason: FinishReason | undefined;
}

export type FinishReason = "stop" | "length" | "positions";

export interface GenerationStats {
  /** Mean over generated tokens, those of the prompt's pass left out; NaN where there are none. */
  readonly meanExitLayer: number;
  /** Tokens whose answer came from each layer, layer 1 first, those of the prompt's pass left out. */
  readonly exitHistogram: readonly number[];
  /** Blocks run on tokens behind the prompts, drafts that were dropped included. */
  readonly tokenLayers: number;
  /** Drafts that full depth was asked about, and those it confirmed. */
  readonly drafted: number;
  readonly accepted: number;
  /** Exits whose numbers were not all finite; none of them let a token go. */
  readonly nonFinite: number;
  /** Per row. */
  readonly finishReasons: readonly FinishReason[];
}

const NEAR_TIE = 1e-4;
const PREFILL_TOKENS = 256;

interface Draft {
  readonly id: number;
  readonly layer: number;
  readonly probabilities: Float64Array;
  readonly observed: Float32Array;
}

interface Row {
  readonly index: number;
  readonly random: () => number;
  /** The prompt and what was generated. */
  readonly context: number[];
  /** Most tokens it may generate. */
  readonly limit: number;
  readonly limitReason: FinishReason;
  generated: number;
  /** The newest token, not run yet. */
  next: number;
  /** Tokens that left early since full depth was last there. */
  early: Draft[];
  finished: FinishReason | undefined;
}

/**
 * Generates behind every prompt and gives each token as soon as it is certain; returns the loop's figures. Leaving the
 * loop early frees the cache.
 * @throws ExitStrategyError `INVALID_OPTIONS`, `BAD_PROMPT`, `NOT_FINITE`, `STRATEGY_THREW`, `BAD_VERDICT` and what a
 * host refuses at its start
 */
export async function* generateTokens(
  runner: TokenRunner,
  prompts: readonly TokenPrompt[],
  options: GenerateTokensOptions = {},
): AsyncGenerator<GeneratedToken, GenerationStats> {
  const settings = resolve(runner, options);
  const rows = prompts.map((prompt, index) => startRow(runner, prompt, index, settings));
  options.signal?.throwIfAborted();
  const maxTokens = Math.max(
    1,
    ...rows.map(({ context, limit }) => Math.min(context.length + limit, runner.positions)),
  );
  const pass = runner.begin(rows.length, { maxTokens });
  const loop = new TokenLoop(runner, pass, rows, settings);
  try {
    yield* loop.prefill();
    while (rows.some(({ finished }) => finished === undefined)) yield* loop.step();
    return loop.stats();
  } finally {
    pass.dispose();
  }
}

interface Settings extends GenerateTokensOptions {
  readonly strategy: ExitStrategy;
  readonly keyValues: KeyValues;
  readonly maxNewTokens: number;
  readonly draftLength: number;
  readonly stops: ReadonlySet<number>;
}

function resolve(runner: TokenRunner, options: GenerateTokensOptions): Settings {
  const { strategy = never(), keyValues = "copy", maxNewTokens = 128, draftLength = 4 } = options;
  const trained = options.trained ?? runner.trained;
  checkHost(strategy, runner.shape, trained ? { trained: trainedAt(runner, trained) } : {});
  checkSampling(options);
  const refuse = (name: string, wanted: string, got: unknown): never => {
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      "generate",
      `${name} must be ${wanted}, got ${String(got)}.`,
    );
  };
  if (!["copy", "recompute", "verify"].includes(keyValues))
    refuse("keyValues", '"copy", "recompute" or "verify"', keyValues);
  for (const [name, value] of Object.entries({ maxNewTokens, draftLength }))
    if (!Number.isInteger(value) || value < 1) refuse(name, "a whole number from 1", value);
  const { stopTokens = [] } = options;
  for (const id of stopTokens)
    if (!Number.isInteger(id) || id < 0 || id >= runner.shape.classes)
      refuse("stopTokens", `ids of the vocabulary (0 to ${runner.shape.classes - 1})`, id);
  return { ...options, strategy, keyValues, maxNewTokens, draftLength, stops: new Set(stopTokens) };
}

/** Heads of layers where no token may leave are never asked, so they need no training. */
function trainedAt({ exits, shape }: TokenRunner, trained: TrainedParts): TrainedParts {
  const layers = Array.from({ length: shape.depth }, (_, index) => index + 1);
  const heads = layers.filter((layer) => trained.heads.includes(layer) || !exits.includes(layer));
  return { ...trained, heads };
}

function startRow(
  runner: TokenRunner,
  { ids, random }: TokenPrompt,
  index: number,
  settings: Settings,
): Row {
  const refuse = (message: string): never => {
    throw new ExitStrategyError("BAD_PROMPT", `prompt ${index + 1}`, message);
  };
  const context = Array.from(ids);
  if (context.length === 0)
    refuse("must hold at least one token, got none. Start with the token that opens a text.");
  if (context.length > runner.positions)
    refuse(
      `must hold at most ${runner.positions} tokens, the positions that the model has, got ${context.length}. Shorten it.`,
    );
  for (const id of context)
    if (!Number.isInteger(id) || id < 0 || id >= runner.shape.classes)
      refuse(`must hold ids of the vocabulary (0 to ${runner.shape.classes - 1}), got ${id}.`);
  if ((settings.temperature ?? 0) > 0 && !random)
    refuse("needs a seeded source of random numbers, got none. Pass random, or temperature 0.");
  // The last token of a text is never run, so one more fits than there are positions.
  const room = runner.positions + 1 - context.length;
  return {
    index,
    random: random ?? (() => 0),
    context,
    limit: Math.min(settings.maxNewTokens, room),
    limitReason: settings.maxNewTokens <= room ? "length" : "positions",
    generated: 0,
    next: 0,
    early: [],
    finished: undefined,
  };
}

/** Where a token left. */
interface Answer {
  readonly layer: number;
  readonly out: TokenAdvance;
  readonly logits: Float32Array;
}

class TokenLoop {
  readonly #depth: number;
  readonly #histogram: number[];
  #tokenLayers = 0;
  #drafted = 0;
  #accepted = 0;
  #nonFinite = 0;

  constructor(
    private readonly runner: TokenRunner,
    private readonly pass: TokenPass,
    private readonly rows: readonly Row[],
    private readonly settings: Settings,
  ) {
    this.#depth = runner.shape.depth;
    this.#histogram = new Array<number>(this.#depth).fill(0);
  }

  /** Runs the prompts at full depth; each row's first token comes from there. */
  async *prefill(): AsyncGenerator<GeneratedToken, void> {
    // One row after the other: prompts of other lengths would make a row pay for padding.
    for (const row of this.rows) {
      let out: TokenAdvance | undefined;
      // In pieces, since scores grow with the square of their length.
      for (let start = 0; start < row.context.length; start += PREFILL_TOKENS) {
        this.pass.append(row.index, row.context.slice(start, start + PREFILL_TOKENS));
        for (const layer of this.runner.exits) {
          this.settings.signal?.throwIfAborted();
          [out] = await this.pass.advance([row.index], layer);
        }
      }
      const last = out as TokenAdvance;
      const logits = last.logits ?? (await this.#project(this.#depth, [lastState(last)]))[0];
      this.#checkLogits(row, this.#depth, logits as Float32Array);
      const id = this.#draw(row, logits as Float32Array);
      yield* this.#emit(row, id, this.#depth, logits, true);
    }
  }

  /** One token further in every unfinished row, or, with `verify`, one draft. */
  async *step(): AsyncGenerator<GeneratedToken, void> {
    const live = this.rows.filter(({ finished }) => finished === undefined);
    for (const row of live) this.pass.append(row.index, [row.next]);
    const answers = await this.#run(live);
    if (this.settings.keyValues === "copy") {
      const early = live.filter(({ index }) => (answers.get(index) as Answer).layer < this.#depth);
      if (early.length > 0) await this.pass.copyUp(early.map(({ index }) => index));
    }
    for (const row of live) {
      const answer = answers.get(row.index) as Answer;
      this.#checkLogits(row, answer.layer, answer.logits);
      if (this.settings.keyValues === "verify") yield* this.#draftOrVerify(row, answer);
      else yield* this.#accept(row, answer);
    }
  }

  /** Runs the rows' newest tokens until each has left. */
  async #run(live: readonly Row[]): Promise<ReadonlyMap<number, Answer>> {
    const answers = new Map<number, Answer>();
    const states = new Map<number, RowState>();
    let running = live.map(({ index }) => index);
    let previous = 0;
    for (const layer of this.runner.exits) {
      if (running.length === 0) break;
      this.settings.signal?.throwIfAborted();
      const outs = await this.pass.advance(running, layer);
      const leaving: TokenAdvance[] = [];
      for (const out of outs) {
        this.#tokenLayers += out.count * (layer - previous);
        const row = this.rows[out.row] as Row;
        if (layer === this.#depth || this.#leaves(row, layer, out, states)) leaving.push(out);
      }
      const unprojected = leaving.filter(({ logits }) => logits === undefined);
      const projected = await this.#project(layer, unprojected.map(lastState));
      for (const out of leaving) {
        const logits = out.logits ?? (projected[unprojected.indexOf(out)] as Float32Array);
        answers.set(out.row, { layer, out, logits });
      }
      running = running.filter((index) => !answers.has(index));
      previous = layer;
    }
    return answers;
  }

  #leaves(row: Row, layer: number, out: TokenAdvance, states: Map<number, RowState>): boolean {
    const { strategy } = this.settings;
    if (this.#mustVerify(row)) return false;
    const { observed, logits } = out;
    const isSound =
      allFinite(observed, 0, observed.length) &&
      (logits === undefined || allFinite(logits, 0, logits.length));
    if (!isSound) {
      this.#nonFinite += 1;
      return false;
    }
    const site = {
      layer,
      depth: this.#depth,
      task: "generation" as const,
      position: row.generated + (this.settings.keyValues === "verify" ? row.early.length : 0),
    };
    const { exit, state } = decideRow(strategy, observed.slice(), states.get(row.index), {
      site,
      options: strategy.options,
    });
    states.set(row.index, state);
    return exit;
  }

  /** Whether full depth has to look at the drafts now. */
  #mustVerify({ early, generated, limit }: Row): boolean {
    if (this.settings.keyValues !== "verify") return false;
    const last = early.at(-1);
    return (
      early.length >= this.settings.draftLength ||
      generated + early.length + 1 >= limit ||
      (last !== undefined && this.settings.stops.has(last.id))
    );
  }

  /** `copy` and `recompute`: the token stands as it left. */
  async *#accept(row: Row, { layer, out, logits }: Answer): AsyncGenerator<GeneratedToken, void> {
    const { keyValues, onDeep } = this.settings;
    const id = this.#draw(row, logits);
    if (keyValues === "recompute" && onDeep) {
      if (layer < this.#depth)
        row.early.push({ id, layer, probabilities: NONE, observed: out.observed.slice() });
      else await this.#compare(row, out);
    }
    yield* this.#emit(row, id, layer, layer === this.#depth ? logits : undefined, false);
  }

  async #compare(row: Row, out: TokenAdvance): Promise<void> {
    const early = row.early.splice(0);
    const width = this.runner.shape.hidden;
    const behind = Math.max(0, out.count - 1 - early.length);
    const states = early.map((_, index) =>
      out.states.subarray((behind + index) * width, (behind + index + 1) * width),
    );
    const deep = await this.#project(this.#depth, states);
    this.#reportDeep(row, row.generated - early.length, early, deep);
  }

  /** Tells what full depth says of tokens that left early, the first of them at `position`. */
  #reportDeep(
    row: Row,
    position: number,
    early: readonly Draft[],
    deep: readonly Float32Array[],
  ): void {
    const { onDeep } = this.settings;
    if (!onDeep) return;
    early.forEach(({ id, observed }, index) => {
      onDeep({
        row: row.index,
        position: position + index,
        observed,
        shallowToken: id,
        deepToken: likeliest(deep[index] as Float32Array),
      });
    });
  }

  /** `verify`: an early answer is a draft; at full depth all drafts are confirmed up to the first that is replaced. */
  async *#draftOrVerify(
    row: Row,
    { layer, out, logits }: Answer,
  ): AsyncGenerator<GeneratedToken, void> {
    const drafted = row.early.map(({ id }) => id);
    if (layer < this.#depth) {
      const probabilities = this.#probabilities(row, logits, drafted);
      const id = draw(probabilities, row.random());
      row.early.push({ id, layer, probabilities, observed: out.observed.slice() });
      row.next = id;
      return;
    }
    const early = row.early.splice(0);
    const width = this.runner.shape.hidden;
    const states = early.map((_, index) => out.states.subarray(index * width, (index + 1) * width));
    const deep = await this.#project(this.#depth, states);
    this.#reportDeep(row, row.generated, early, deep);
    for (const [index, draft] of early.entries()) {
      const full = deep[index] as Float32Array;
      this.#checkLogits(row, this.#depth, full);
      const probabilities = this.#probabilities(row, full, []);
      const { id, isAccepted } = acceptOrReplace(
        draft.id,
        draft.probabilities,
        probabilities,
        row.random,
      );
      this.#drafted += 1;
      if (isAccepted) this.#accepted += 1;
      else this.pass.truncate(row.index, out.first + index + 1);
      yield* this.#emit(row, id, isAccepted ? draft.layer : this.#depth, full, false);
      if (!isAccepted || row.finished !== undefined) return;
    }
    yield* this.#emit(row, this.#draw(row, logits), layer, logits, false);
  }

  async *#emit(
    row: Row,
    id: number,
    layer: number,
    fullLogits: Float32Array | undefined,
    isFromPrompt: boolean,
  ): AsyncGenerator<GeneratedToken, void> {
    const position = row.generated;
    row.context.push(id);
    row.generated += 1;
    row.next = id;
    if (!isFromPrompt) this.#histogram[layer - 1] = (this.#histogram[layer - 1] as number) + 1;
    if (this.settings.stops.has(id)) row.finished = "stop";
    else if (row.generated >= row.limit) row.finished = row.limitReason;
    if (row.finished !== undefined) this.pass.release(row.index);
    const isNearTie = fullLogits !== undefined && topTwoGap(fullLogits) < NEAR_TIE;
    const finishReason = row.finished;
    yield { row: row.index, position, id, layer, isFromPrompt, isNearTie, finishReason };
  }

  #probabilities(row: Row, logits: Float32Array, drafted: readonly number[]): Float64Array {
    const context = drafted.length === 0 ? row.context : [...row.context, ...drafted];
    return nextTokenProbabilities(logits, context, this.settings);
  }

  #draw(row: Row, logits: Float32Array): number {
    const { temperature = 0, repetitionPenalty = 1 } = this.settings;
    if (temperature === 0 && repetitionPenalty === 1) return likeliest(logits);
    return draw(this.#probabilities(row, logits, []), row.random());
  }

  /** Logits of single tokens' states, each `[H]`. */
  async #project(layer: number, states: readonly Float32Array[]): Promise<Float32Array[]> {
    if (states.length === 0) return [];
    const { hidden, classes } = this.runner.shape;
    const all = new Float32Array(states.length * hidden);
    states.forEach((state, index) => {
      all.set(state, index * hidden);
    });
    const logits = await this.pass.project(layer, all);
    return states.map((_, index) => logits.subarray(index * classes, (index + 1) * classes));
  }

  #checkLogits(row: Row, layer: number, logits: Float32Array): void {
    const bad = logits.findIndex((logit) => !Number.isFinite(logit));
    if (bad < 0) return;
    throw new ExitStrategyError(
      "NOT_FINITE",
      `prompt ${row.index + 1}`,
      `the logits of token ${row.generated + 1} must be finite, got ${logits[bad]} for id ${bad} at layer ${layer}. Check the weights.`,
    );
  }

  stats(): GenerationStats {
    const tokens = this.#histogram.reduce((sum, count) => sum + count, 0);
    const layers = this.#histogram.reduce((sum, count, index) => sum + count * (index + 1), 0);
    return {
      meanExitLayer: layers / tokens,
      exitHistogram: this.#histogram,
      tokenLayers: this.#tokenLayers,
      drafted: this.#drafted,
      accepted: this.#accepted,
      nonFinite: this.#nonFinite,
      finishReasons: this.rows.map(({ finished }) => finished as FinishReason),
    };
  }
}

const NONE = new Float64Array(0);

function lastState({ states, count }: TokenAdvance): Float32Array {
  return states.subarray(((count - 1) * states.length) / count);
}

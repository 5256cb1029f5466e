/**
 * @file What every host returns, and what every host checks before it starts.
 *
 * N = rows, T = exits (layers), C = classes.
 */
import { show } from "./define.js";
import { ExitStrategyError } from "./errors.js";
import {
  API_VERSION,
  type DecideContext,
  type ExitStrategy,
  type ModelShape,
  type RowState,
  type Task,
} from "./strategy.js";

/** Where each row left and what it was told. */
export interface ExitOutcome {
  readonly rows: number;
  /** Layer of the answer per row, counted from 1, shape `[N]`. */
  readonly exitLayers: Int32Array;
  /** The answer before softmax, shape `[N, C]`. */
  readonly logits: Float32Array;
  /** Class index (ties go to the lowest; -1 when a logit is NaN) or the regression value, shape `[N]`. */
  readonly predictions: Float32Array;
  /** Exits reached whose observed values or logits held a number that is not finite; none of them let a row go. */
  readonly nonFinite: number;
}

export interface SweepPoint extends ExitOutcome {
  /** Value of the knob. */
  readonly value: number;
}

/** Whether the parts of a model that decide were ever trained; written by the trainer. */
export interface TrainedParts {
  /** Layers whose exit head was trained. */
  readonly heads: readonly number[];
  /** Whether the strategy's own parameters were. */
  readonly strategy: boolean;
}

export interface HostOptions {
  /**
   * Depth budget: a row that has not exited before this layer is answered there.
   * @default the model's depth
   */
  readonly maxLayer?: number;
  /**
   * What was trained; an answer from a head or a module that never was is refused.
   * @default what the model says, else taken on trust
   */
  readonly trained?: TrainedParts;
}

/**
 * Refuses what cannot run, and gives the layer where every row is answered at the latest.
 * @throws ExitStrategyError `API_MISMATCH`, `TASK_UNSUPPORTED`, `NOT_TRAINED`, `INVALID_OPTIONS`
 */
export function checkHost(
  strategy: ExitStrategy,
  shape: ModelShape,
  { maxLayer = shape.depth, trained }: HostOptions = {},
): number {
  const { name, definition } = strategy;
  checkApiVersion(name, strategy.apiVersion);
  const tasks: readonly Task[] = definition.tasks;
  if (!tasks.includes(shape.task))
    throw new ExitStrategyError(
      "TASK_UNSUPPORTED",
      name,
      `is made for ${tasks.join(" and ")}, got a model for ${shape.task}: ${reasons[shape.task]}. Choose a strategy whose tasks name ${shape.task}.`,
    );
  if (!Number.isInteger(maxLayer) || maxLayer < 1)
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      name,
      `maxLayer must be a whole number from 1, got ${show(maxLayer)}. Leave it out for full depth.`,
    );
  const last = Math.min(maxLayer, shape.depth);
  if (trained) checkTrained(strategy, trained, last);
  return last;
}

/** @throws ExitStrategyError `API_MISMATCH` */
export function checkApiVersion(who: string, version: unknown): void {
  if (version === API_VERSION) return;
  const isNewer = typeof version === "number" && version > API_VERSION;
  throw new ExitStrategyError(
    "API_MISMATCH",
    who,
    `was made for version ${show(version)} of the strategy contract, this host speaks ${API_VERSION}. Upgrade ${isNewer ? "@cee/exit-policies" : "the strategy's package"}.`,
  );
}

const reasons: Record<Task, string> = {
  classification: "its rule does not read class probabilities",
  regression: "a single value has no classes to be certain or to agree about",
  generation: "its rule does not decide token by token",
};

function checkTrained({ name, definition }: ExitStrategy, trained: TrainedParts, last: number) {
  const missing = Array.from({ length: last }, (_, index) => index + 1).filter(
    (layer) => !trained.heads.includes(layer),
  );
  if (missing.length > 0)
    throw new ExitStrategyError(
      "NOT_TRAINED",
      name,
      `would take answers from exit heads that were never trained, at layer${missing.length > 1 ? "s" : ""} ${missing.join(", ")}. Train the model with its exits first.`,
    );
  if (definition.params && !trained.strategy)
    throw new ExitStrategyError(
      "NOT_TRAINED",
      name,
      "its own parameters were never trained, so its decisions would be arbitrary. Run its training phases first.",
    );
}

/** The answer in a row of logits, shape `[C]` at `offset`. */
export function predictionOf(
  task: Task,
  logits: Float32Array,
  offset: number,
  classes: number,
): number {
  if (task === "regression") return logits[offset] as number;
  let best = 0;
  let highest = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < classes; index += 1) {
    const value = logits[offset + index] as number;
    if (Number.isNaN(value)) return -1;
    if (value > highest) {
      highest = value;
      best = index;
    }
  }
  return best;
}

/** Whether `length` numbers from `offset` are all finite. */
export function allFinite(values: Float32Array, offset: number, length: number): boolean {
  for (let index = offset; index < offset + length; index += 1)
    if (!Number.isFinite(values[index] as number)) return false;
  return true;
}

/** Asks a strategy about one row. @throws ExitStrategyError `STRATEGY_THREW`, `BAD_VERDICT` */
export function decideRow(
  strategy: ExitStrategy,
  observed: Float32Array,
  state: RowState | undefined,
  context: DecideContext<ExitStrategy["options"]>,
): { readonly exit: boolean; readonly state: RowState } {
  const { definition } = strategy;
  const { layer } = context.site;
  try {
    const verdict = definition.decide(observed, state ?? definition.start(), context);
    if (typeof verdict?.exit !== "boolean" || verdict.state === undefined)
      throw badVerdict(strategy, layer, verdict);
    return verdict;
  } catch (cause) {
    throw decideFailed(strategy, layer, cause);
  }
}

/** What a strategy did wrong at a layer, by name. */
export function decideFailed(strategy: ExitStrategy, layer: number, cause: unknown): Error {
  if (cause instanceof ExitStrategyError) return cause;
  const text = cause instanceof Error ? cause.message : String(cause);
  return new ExitStrategyError(
    "STRATEGY_THREW",
    strategy.name,
    `decide threw at layer ${layer}: ${text}`,
    { cause },
  );
}

/** Complains of a verdict that is no `{ exit: boolean, state }`. */
export function badVerdict(strategy: ExitStrategy, layer: number, verdict: unknown): Error {
  return new ExitStrategyError(
    "BAD_VERDICT",
    strategy.name,
    `decide must return { exit: boolean, state } at layer ${layer}, got ${verdict instanceof Promise ? "a promise" : show(verdict)}. Decide synchronously and always return both.`,
  );
}

/**
 * @file The contract between an early-exit host and an exit strategy.
 *
 * Shapes: B = live rows, C = classes (or vocabulary), H = hidden size, F = head features, K = values observed per row.
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs";
import type { HostParams } from "./host-tensor.js";
import type { ExitRecord } from "./record.js";
import type { PhasePlan } from "./training.js";

/** Hosts refuse strategies made for another version; new optional members do not change it. */
export const API_VERSION = 1;

export type Task = "classification" | "regression" | "generation";

/** What a host can offer at an exit. A strategy pays only for what it lists in `needs`. */
export interface Signals {
  /** Exit-head output before softmax (regression: the value), shape `[B, C]`. */
  readonly logits: Tensor2D;
  /** Softmax of `logits`, shape `[B, C]`. */
  readonly probs: Tensor2D;
  /** Pooled `[CLS]` vector (encoder) or final-norm'ed last token (decoder), shape `[B, H]`. */
  readonly pooled: Tensor2D;
  /** Raw block output at the deciding position, shape `[B, H]`. */
  readonly hidden: Tensor2D;
  /** What the exit head calls its features (its last inner layer; `pooled` for a linear head), shape `[B, F]`. */
  readonly features: Tensor2D;
}
export type SignalName = keyof Signals;

/** A layer where a decision is taken. Layers count from 1; the embedding output is never an exit. */
export interface LayerSite {
  readonly layer: number;
  readonly depth: number;
  readonly task: Task;
}

/** Where and when a decision is taken. */
export interface ExitSite extends LayerSite {
  /** Index of the token being generated; 0 outside generation. */
  readonly position: number;
}

export interface ModelShape {
  readonly task: Task;
  /** Number of blocks, L in the papers. */
  readonly depth: number;
  readonly hidden: number;
  /** Number of classes; 1 for regression. */
  readonly classes: number;
}

/** What the state of a row may be: numbers by name, so that it can live on the host, in a tensor and in a file. */
export type RowState = Readonly<Record<string, number>>;

/** Per-row verdict. Returning `state` (not mutating it) is what makes offline replay exact. */
export interface Verdict<TState extends RowState> {
  readonly exit: boolean;
  readonly state: TState;
}

/** The dial a benchmark may sweep without retraining. */
export interface Knob<TOptions> {
  readonly option: keyof TOptions & string;
  readonly grid: readonly number[];
  readonly direction: "higher-is-faster" | "lower-is-faster";
  /**
   * Promises that a row which exits at some value exits with the same observation at every faster one. For rules without
   * state, sweeps then search for that value instead of trying all.
   * @default false
   */
  readonly isMonotone?: boolean;
}

/** Tensors that travel with the rows from exit to exit; the first axis is the row. */
export type Carry = Tensor | readonly Carry[] | { readonly [key: string]: Carry };

/** What `observe` returns: the numbers alone, or with an answer that replaces the head's and a carry. */
export type Observation =
  | Tensor1D
  | Tensor2D
  | {
      /** Shape `[B]` or `[B, K]`. */
      readonly values: Tensor1D | Tensor2D;
      /** Replaces the exit head's logits as the answer given here (ensembles), shape `[B, C]`. */
      readonly logits?: Tensor2D;
      readonly carry?: Carry;
    };

export interface ObserveContext<TParam extends string, TOptions> {
  readonly site: LayerSite;
  /** The strategy's own parameters, by the names that `params` gave them. */
  readonly params: Readonly<Record<TParam, Tensor>>;
  /** Options without the knob and without anything that calibration changes: reading one of those throws. */
  readonly options: TOptions;
  /** What `observe` returned as `carry` at the layer before; `undefined` at layer 1. */
  readonly carry: Carry | undefined;
}

export interface DecideContext<TOptions> {
  readonly site: ExitSite;
  readonly options: TOptions;
}

type Output<TSchema extends StandardSchemaV1> = StandardSchemaV1.InferOutput<TSchema>;
type Input<TSchema extends StandardSchemaV1> = StandardSchemaV1.InferInput<TSchema>;

export interface ExitStrategyDefinition<
  TName extends string,
  TSchema extends StandardSchemaV1,
  TNeeds extends SignalName,
  TState extends RowState,
  TParam extends string,
> {
  readonly name: TName;
  readonly options: TSchema;
  readonly needs: readonly TNeeds[];
  readonly tasks: readonly Task[];
  readonly knob?: Knob<Output<TSchema>>;
  /** Options that `calibrate` sets; like the knob, `observe` may not read them. */
  readonly calibrated?: readonly (keyof Output<TSchema> & string)[];

  /** Device side: turns signals into `[B]` or `[B, K]` numbers. Traced; runs inside `tf.tidy`. */
  observe(
    now: Pick<Signals, TNeeds>,
    context: ObserveContext<TParam, Output<TSchema>>,
  ): Observation;
  /** State of a row before its first exit. */
  start(): TState;
  /** Host side, one row at a time: pure, synchronous, never called at the last layer. */
  decide(
    observed: Float32Array,
    state: TState,
    context: DecideContext<Output<TSchema>>,
  ): Verdict<TState>;
  /** The same decision as a tensor function, for exits inside a graph: `observed` is `[B, K]`, `exit` is bool `[B]`. */
  decideTensor?(
    observed: Tensor2D,
    state: { readonly [K in keyof TState]: Tensor1D },
    context: {
      readonly site: LayerSite;
      /** Numeric options are scalars, so that a threshold can be an input of the graph. */
      readonly options: { readonly [K in keyof Output<TSchema>]: Tensor };
    },
  ): { readonly exit: Tensor1D; readonly state: { readonly [K in keyof TState]: Tensor1D } };

  /** Creates the parameters this strategy owns; `seed` makes them reproducible. */
  params?(
    shape: ModelShape,
    options: Output<TSchema>,
    seed: number,
  ): Readonly<Record<TParam, HostParams[string]>>;
  /** How the model and `params` are trained; omitted means weighted cross-entropy on every exit. */
  phases?(shape: ModelShape, options: Output<TSchema>): PhasePlan;
  /** Picks options from a held-out record, e.g. temperatures or a risk-controlled threshold. */
  calibrate?(record: ExitRecord, options: Output<TSchema>): Partial<Output<TSchema>>;
}

// biome-ignore lint/suspicious/noExplicitAny: a host treats every strategy alike; only its author knows these types
export type AnyDefinition = ExitStrategyDefinition<string, any, any, any, any>;

/** A configured strategy, ready for a host. */
export interface ExitStrategy {
  readonly apiVersion: number;
  readonly name: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly definition: AnyDefinition;
}

export interface ExitStrategyFactory<
  TName extends string,
  TSchema extends StandardSchemaV1,
  TNeeds extends SignalName,
  TState extends RowState,
  TParam extends string,
> {
  (
    ...args: Record<never, never> extends Input<TSchema>
      ? [options?: Input<TSchema>]
      : [options: Input<TSchema>]
  ): ExitStrategy;
  readonly strategyName: TName;
  /** Version of the contract that the factory was made for. */
  readonly apiVersion: number;
  readonly definition: ExitStrategyDefinition<TName, TSchema, TNeeds, TState, TParam>;
}

/**
 * @file What a host needs of a model. Structural: `@cee/backbone` implements it without importing this package at run time.
 *
 * N = rows of the input, B = live rows, T = layers, C = classes, K = values observed per row.
 */
import type { Tensor } from "@tensorflow/tfjs";
import type { HostParams } from "./host-tensor.js";
import type { TrainedParts } from "./outcome.js";
import type { Carry, LayerSite, ModelShape, Observation, SignalName, Signals } from "./strategy.js";

/** The device side of a configured strategy, as a model compiles it into its layers. */
export interface Observer {
  /** For messages. */
  readonly name: string;
  readonly needs: readonly SignalName[];
  readonly params: HostParams;
  observe(
    now: Partial<Signals>,
    context: {
      readonly site: LayerSite;
      readonly params: Readonly<Record<string, Tensor>>;
      readonly carry: Carry | undefined;
    },
  ): Observation;
}

/** One layer's numbers for the live rows, in the order of `liveRows`. */
export interface LayerOutput {
  /** Shape `[B, K]`. */
  readonly observed: Float32Array;
  readonly observedWidth: number;
  /** The answer a row would get here, before softmax, shape `[B, C]`. */
  readonly logits: Float32Array;
}

/** Every layer's numbers for all rows. */
export interface FullOutput {
  readonly rows: number;
  /** Shape `[N, T, K]`. */
  readonly observed: Float32Array;
  readonly observedWidth: number;
  /** Shape `[N, T, C]`. */
  readonly logits: Float32Array;
}

/** A forward pass that advances one block per call. Rows keep their original numbering. */
export interface ExitPass {
  /** Indices into the input, ascending. */
  readonly liveRows: readonly number[];
  /** Layers run so far. */
  readonly layer: number;
  /** Runs the next block on the live rows. */
  advance(): Promise<LayerOutput>;
  /** Keeps only these of the live rows (indices into the input); later blocks no longer pay for the others. */
  keep(rows: readonly number[]): void;
  /** Frees everything the pass still holds; safe to call twice. */
  dispose(): void;
}

/** A model compiled together with one observer. */
export interface ExitRunner<TInput> {
  readonly shape: ModelShape;
  /** What was trained, where the model knows; hosts refuse answers from the rest. */
  readonly trained?: TrainedParts;
  /** Runs all layers at once. */
  full(input: TInput): Promise<FullOutput>;
  /** Starts a pass that can stop early. */
  begin(input: TInput): Promise<ExitPass>;
  dispose(): Promise<void>;
}

export interface ExitModel<TInput> {
  readonly shape: ModelShape;
  /** Compiles the layers with what the observer computes at each of them. */
  open(observer: Observer): Promise<ExitRunner<TInput>>;
}

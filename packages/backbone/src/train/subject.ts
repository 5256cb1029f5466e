/**
 * @file What the trainer needs to know of a kind of model, so that encoders and decoders share one loop.
 *
 * A _text_ is what a data set holds, a _row_ what a loss averages over: an encoder's text is one row, a decoder's text
 * one row for every token that is to be learned. B = rows of a batch, H = hidden size, L = layers.
 */
import type { Engine, HostParams, HostTensor, SpecTree, TensorParams } from "@cee/engine";
import type { ModelShape, Observer, Signals, TokenTensors, TrainedParts } from "@cee/exit-policies";
import type * as tf from "@tensorflow/tfjs";
import type { RecordedSignal } from "../runner/open.js";
import type { Recording } from "./recording.js";

export interface TrainingSubject<TText> {
  readonly shape: ModelShape;
  readonly head: { readonly name: string; readonly readsFirstToken?: boolean };
  /** Plain JSON of everything but the parameters that a training depends on. */
  readonly identity: unknown;
  /** Specs of what `feed` gives. */
  readonly inputs: Readonly<Record<string, SpecTree>>;
  /** The symbol of the axis that counts rows. */
  readonly rowAxis: string;
  /** Held-out texts may lack labels. @throws BackboneError `BAD_INPUT` naming the text */
  check(text: TText, use: "train" | "held-out"): void;
  /** What tells a text from another. */
  digest(text: TText): readonly (string | Int32Array)[];
  /** Tokens, for batches with little padding. */
  length(text: TText): number;
  /** Labels of the rows of a text, class index or target. */
  labels(text: TText): Float32Array;
  /** A padded batch. */
  feed(texts: readonly TText[]): Readonly<Record<string, HostTensor>>;
  /** The signals of every exit; with a seed, dropout is on. Traced. */
  signals(
    params: TensorParams,
    batch: Readonly<Record<string, tf.Tensor>>,
    seed: tf.Tensor1D | undefined,
  ): readonly Signals[];
  /** The same from recorded states `[B, L, H]`, where heads read nothing else. Traced. */
  signalsOfStates(params: TensorParams, hidden: tf.Tensor3D): readonly Signals[];
  /** The batch for losses that run the encoder their own way. */
  tokens?(batch: Readonly<Record<string, tf.Tensor>>): TokenTensors;
  /** Signals that a record phase can be fed from, of those that it needs. */
  recorded(needs: readonly RecordedSignal[]): readonly RecordedSignal[];
  recorder(
    engine: Engine,
    params: HostParams,
    observer: Observer,
    signals: readonly RecordedSignal[],
  ): Recorder<TText>;
  /** Layers whose exits stand on parameters that were trained. */
  trainedHeads(
    before: TrainedParts | undefined,
    params: HostParams,
    isReached: (prefix: string) => boolean,
  ): readonly number[];
}

/** Full passes with the weights of the moment, dropout off. */
export interface Recorder<TText> {
  run(params: HostParams, texts: readonly TText[], options: RecorderOptions): Promise<Recording>;
  dispose(): Promise<void>;
}

export interface RecorderOptions {
  /** Texts per pass. */
  readonly batchSize: number;
  readonly folder?: string | undefined;
  readonly memoryLimit?: number | undefined;
  readonly log?: ((line: string) => void) | undefined;
  /** Texts done. */
  readonly onProgress?: ((texts: number, total: number) => void) | undefined;
}

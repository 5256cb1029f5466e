/**
 * @file What one full-depth pass over a data set leaves behind; every strategy and knob value is replayed from it.
 *
 * N = rows, T = exits (layers), C = classes, K = values observed per row.
 */
import type { ModelShape } from "./strategy.js";

export interface ExitRecord {
  readonly shape: ModelShape;
  readonly ids: readonly string[];
  /** Class index or regression target per row, shape `[N]`; NaN where unknown. */
  readonly labels: Float32Array;
  /** The answer that a row would get at each exit, before softmax, shape `[N, T, C]`; empty where there are `tokens`. */
  readonly logits: Float32Array;
  /** Of a decoder, whose rows are tokens and whose logits would be as large as its vocabulary: what stands for them. */
  readonly tokens?: {
    /** Cross-entropy of the right token in nats, shape `[N, T]`. */
    readonly losses: Float32Array;
    /** The likeliest token, shape `[N, T]`. */
    readonly answers: Float32Array;
  };
  /** Values observed per row and exit, shape `[N, T, K]`. */
  readonly observed: Float32Array;
  /** K */
  readonly observedWidth: number;
}

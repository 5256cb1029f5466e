/**
 * @file What the token loop needs of a decoder. Structural: `@cee/backbone` implements it without importing this package
 * at run time.
 *
 * H = hidden size, V = vocabulary, K = values observed, n = tokens that moved.
 */
import type { TrainedParts } from "../outcome.js";
import type { ModelShape } from "../strategy.js";

/** What a row's tokens became at a layer. */
export interface TokenAdvance {
  readonly row: number;
  /** Place in the row of the first token that moved; those behind it moved too. */
  readonly first: number;
  /** Tokens that moved: more than one where earlier ones had stopped at the layer before. */
  readonly count: number;
  /** Their states, before the final norm, shape `[n, H]`. */
  readonly states: Float32Array;
  /** What was observed of the last one, shape `[K]`; empty where nothing observes. */
  readonly observed: Float32Array;
  /** The last one's logits where they were computed on the way, shape `[V]`. */
  readonly logits: Float32Array | undefined;
}

/**
 * Texts that grow token by token. Every token stands at a layer, and none deeper than the one before it, so the tokens
 * that stopped at the same layer are always the last ones.
 */
export interface TokenPass {
  /** Tokens in a row. */
  length(row: number): number;
  /** Puts tokens behind a row's others, not run yet. */
  append(row: number, ids: ArrayLike<number>): void;
  /**
   * Runs, in each of the rows, every token that stands at the exit before `layer`, exactly, up to `layer`. Their keys and
   * values are kept.
   */
  advance(rows: readonly number[], layer: number): Promise<readonly TokenAdvance[]>;
  /** Logits of `states` (`[n, H]`, of the exit after `layer`), shape `[n, V]`. */
  project(layer: number, states: Float32Array): Promise<Float32Array>;
  /** Fills the keys and values of the layers that the rows' last tokens skipped, from the states they stopped with. */
  copyUp(rows: readonly number[]): Promise<void>;
  /** Forgets all but the first `length` tokens of a row. */
  truncate(row: number, length: number): void;
  /** Frees a row that has ended. */
  release(row: number): void;
  /** Frees everything; safe to call twice. */
  dispose(): void;
}

export interface TokenPassOptions {
  /** Tokens that a row may come to hold; what the cache needs for them is checked before anything is reserved. */
  readonly maxTokens: number;
}

/** A decoder compiled together with one observer. */
export interface TokenRunner {
  readonly shape: ModelShape;
  /** Layers where a token may stop, ascending; the last is the model's depth. */
  readonly exits: readonly number[];
  /** Longest text that the model can hold. */
  readonly positions: number;
  readonly trained?: TrainedParts;
  /** Starts `rows` empty texts. */
  begin(rows: number, options: TokenPassOptions): TokenPass;
  dispose(): Promise<void>;
}

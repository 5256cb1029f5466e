/**
 * @file How a method says what it trains; one trainer (`fit` of `@cee/backbone`) executes it.
 *
 * Shapes: B = rows of the batch, S = padded length, C = classes, H = hidden size, K = side values per row.
 */
import type { Scalar, Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs";
import type { ExitRecord } from "./record.js";
import type { ModelShape, Signals } from "./strategy.js";

/** What a loss sees of one optimiser step. Runs traced: branch on nothing that changes from step to step. */
export interface TrainingStep {
  readonly shape: ModelShape;
  /** One entry per exit, first layer first. Read only what you use: unread signals cost nothing. */
  readonly exits: readonly Signals[];
  /** Class index (as float32) or regression target, shape `[B]`. */
  readonly labels: Tensor1D;
  /** The strategy's own parameters by the names that its `params` gave them. */
  readonly params: Readonly<Record<string, Tensor>>;
  /** What `prepare` returned for the rows of this batch, shape `[B, K]`. */
  readonly side: Tensor2D | undefined;
  /** 1 / B, fed: a mean over rows is `sum * perRow`, so that no batch size is baked into the graph. */
  readonly perRow: Scalar;
  /** Share of the phase's optimiser steps done, in `[0, 1)`. */
  readonly progress: Scalar;
  /** Optimiser step within the phase. */
  readonly step: Scalar;
  /** Every parameter by path, for a loss that runs the encoder its own way; nothing in a record phase. */
  readonly weights?: Readonly<Record<string, Tensor>>;
  /** The batch for the same: `ids`, `types` and `mask`, `[B, S]`, and `positions`, `[S]`; nothing in a record phase. */
  readonly tokens?: TokenTensors;
  /** Fresh for every step: the seed for `uniform` and `dropout` of `@cee/engine`, int32 `[2]`. */
  readonly seed: Tensor1D;
}

/** A padded batch on the device. */
export interface TokenTensors {
  /** int32 `[B, S]` */
  readonly ids: Tensor2D;
  /** Token types, int32 `[B, S]`. */
  readonly types: Tensor2D;
  /** 1 for a token, 0 for padding, float32 `[B, S]`. */
  readonly mask: Tensor2D;
  /** 0, 1, … S - 1, int32 `[S]`. */
  readonly positions: Tensor1D;
}

export type PhaseLoss = (step: TrainingStep) => Scalar;

export interface TrainingPhase {
  /** Unique within the plan, e.g. `initialise`, `policy-1`. */
  readonly name: string;
  /**
   * Parameter paths that are updated, with `*` for one segment and `**` for any number:
   * `backbone.**`, `heads.*.classifier.*`, `strategy.**`. Everything else stays bit for bit as it was.
   */
  readonly trains: readonly string[];
  /**
   * `data` runs the encoder on batches of inputs; `record` reads recorded signals (dropout off) and may train
   * `strategy.**`, and `heads.**` where the head reads the first token only: heads that are trained run on the recorded
   * `hidden`, so that the loss sees what they say at each step.
   * @default "data"
   */
  readonly source?: "data" | "record";
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Share of the steps with linear warm-up. @default 0 */
  readonly warmup?: number;
  /** After warm-up. @default "linear" (to zero) */
  readonly schedule?: "linear" | "constant";
  /** @default 0 */
  readonly weightDecay?: number;
  /** Global gradient norm. @default 1 */
  readonly clipNorm?: number;
  /** @default true for `data`, always off for `record` */
  readonly dropout?: boolean;
  /** The loss, or several by name. */
  readonly losses: Readonly<Record<string, PhaseLoss>>;
  /** Picks the loss of a step, on the host. @default the only loss */
  pick?(step: number, stepInEpoch: number): string;
  /** Gets each loss's gradients by parameter path and returns those to apply; every loss is then computed at every step. */
  combine?(
    gradients: Readonly<Record<string, Readonly<Record<string, Tensor>>>>,
  ): Readonly<Record<string, Tensor>>;
  /** Runs once before the phase, dropout off: side data per row of `record.ids`, shape `[N, K]`. */
  prepare?(record: ExitRecord): { readonly width: number; readonly values: Float32Array };
  /**
   * `best` keeps the epoch with the best `score` on the held-out rows, `last` the final one.
   * @default "last"
   */
  readonly select?: "best" | "last";
  /** A figure of merit on the held-out rows, higher is better; needed for `select: "best"`. */
  score?(record: ExitRecord): number;
  /** Numbers for the plan and the log, from the held-out rows after the phase. */
  measure?(record: ExitRecord): Readonly<Record<string, number>>;
}

/** What a plan learns about a phase that has run. JSON, so that a resumed run can replay it. */
export interface PhaseReport {
  readonly phase: string;
  readonly steps: number;
  /** Mean loss of the last epoch. */
  readonly loss: number;
  /** What `measure` returned. */
  readonly measures: Readonly<Record<string, number>>;
}

/** Phases in order; a plan may look at each report before it decides what comes next. */
export type PhasePlan = Generator<TrainingPhase, void, PhaseReport>;

/** @file What the speed benchmark measured, as it stands in `speed.json`. Times are milliseconds. */
import type { RatioInterval } from "./rounds.js";

/** One system at one setting, in every round. */
export interface Timed {
  readonly system: string;
  readonly rounds: readonly number[];
  readonly median: number;
  /** Time over that of the system that is compared with; 1 for that system itself. */
  readonly ratio: RatioInterval;
}

/** Batch 1, every row forced to leave at one layer; compared with the model that ends there. */
export interface DepthPart {
  readonly width: number;
  readonly layer: number;
  readonly timed: readonly Timed[];
}

/** Rows of a batch that leave at their own layers; compared with full depth. */
export interface MixedPart {
  readonly width: number;
  readonly batch: number;
  readonly meanExitLayer: number;
  /** Layers over mean exit layer. */
  readonly idealGain: number;
  readonly timed: readonly (Timed & {
    /** Full depth's time over this one's, as a share of the ideal gain. */
    readonly efficiency: RatioInterval;
  })[];
}

/** Full depth without exits; compared with Transformers.js where it is installed. */
export interface FullPart {
  readonly width: number;
  readonly batch: number;
  readonly timed: readonly Timed[];
}

/** Sentences of different lengths, tokenised, to answers; compared with Transformers.js. */
export interface ThroughputPart {
  readonly width: number;
  readonly data: string;
  readonly sentences: number;
  readonly timed: readonly (Timed & { readonly sentencesPerSecond: number })[];
}

/** How much of a run the strategy's decisions on the host take. */
export interface DecidePart {
  readonly width: number;
  readonly strategy: string;
  /** Share of the run's time, from 0 to 1. */
  readonly share: RatioInterval;
}

/** Latency of single requests that come at their own times. */
export interface LatencyPart {
  readonly model: string;
  readonly system: string;
  /** `closed`: the next request comes when the last is answered; else arrivals are Poisson at this share of capacity. */
  readonly load: "closed" | number;
  readonly requests: number;
  readonly p50: RatioInterval;
  readonly p95: RatioInterval;
  readonly p99: RatioInterval;
  readonly meanExitLayer: number;
  /** Share of requests with the right answer; `null` where nobody knows it. */
  readonly accuracy: number | null;
}

export interface MemoryPart {
  readonly calls: readonly [from: number, to: number];
  /** Resident bytes after forced garbage collection, at both. */
  readonly resident: readonly [number, number];
  readonly tensors: readonly [number, number];
}

export interface SpeedBar {
  readonly name: string;
  readonly value: number;
  /** The end of the 95 % interval that is nearer to the limit. */
  readonly better: number;
  readonly limit: string;
  readonly isMet: boolean;
}

export interface SpeedResults {
  readonly format: 1;
  readonly command: string;
  readonly date: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly depths: readonly DepthPart[];
  readonly mixed: readonly MixedPart[];
  readonly full: readonly FullPart[];
  readonly throughput: readonly ThroughputPart[];
  readonly decide: readonly DecidePart[];
  readonly latency: readonly LatencyPart[];
  readonly memory: MemoryPart | undefined;
  readonly bars: readonly SpeedBar[];
  readonly notes: readonly string[];
}

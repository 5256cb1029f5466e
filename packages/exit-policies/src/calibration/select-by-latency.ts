/**
 * @file Chooses the slowest, and so most careful, knob value whose predicted latency meets a target.
 *
 * N = rows, T = exits (layers), R = rounds of measurement.
 */
import { withOptions } from "../define.js";
import { ExitStrategyError } from "../errors.js";
import type { ExitRecord } from "../record.js";
import type { ExitStrategy } from "../strategy.js";
import { candidatesOf } from "./candidates.js";

/** Measured times of single requests of about one length. */
export interface LengthCosts {
  /** Longest request, in tokens, that this entry stands for. */
  readonly length: number;
  /** Milliseconds from the start of a request until the answer of each layer, one list of T per round, shape `[R, T]`. */
  readonly untilLayer: readonly (readonly number[])[];
}

/** What one machine takes; ascending by length. */
export interface CostModel {
  readonly lengths: readonly LengthCosts[];
}

export interface LatencyOptions {
  /** Target for 95 of 100 requests, in milliseconds. */
  readonly p95Ms: number;
  /** Tokens of each row, special ones included, shape `[N]`. */
  readonly tokens: ArrayLike<number>;
  readonly costs: CostModel;
  /** @default the knob's own grid */
  readonly grid?: readonly number[];
}

export interface LatencySelection {
  readonly kind: "latency";
  readonly strategy: ExitStrategy;
  readonly value: number | undefined;
  readonly p95Ms: number;
  /** Predicted for the chosen value. */
  readonly predictedP95Ms: number;
  /** Whether that is within the target; otherwise the fastest value was chosen. */
  readonly isMet: boolean;
  readonly note: string;
  readonly rows: number;
  /** Every candidate, slowest first. */
  readonly candidates: readonly {
    readonly value: number | undefined;
    readonly predictedP95Ms: number;
  }[];
  readonly exitLayers: Int32Array;
}

/**
 * Predicts each value's 95th percentile from the rows' lengths and exits and from what the machine took in each round, and
 * takes the slowest value that meets the target. One request at a time: what waits in a queue comes on top.
 * @throws ExitStrategyError `INVALID_OPTIONS`, and what replaying throws
 */
export function selectByLatency(
  record: ExitRecord,
  strategy: ExitStrategy,
  { p95Ms, tokens, costs, grid }: LatencyOptions,
): LatencySelection {
  const refuse = (message: string): never => {
    throw new ExitStrategyError("INVALID_OPTIONS", "selectThreshold", message);
  };
  const rows = record.ids.length;
  if (!(p95Ms > 0)) refuse(`p95Ms must be a time above 0, got ${p95Ms}.`);
  if (rows === 0) refuse("needs at least one held-out row, got none.");
  if (tokens.length !== rows) refuse(`tokens must hold ${rows} lengths, got ${tokens.length}.`);
  checkCosts(costs, record.shape.depth, refuse);
  const places = Array.from(tokens, (length) => {
    const found = costs.lengths.findIndex((entry) => length <= entry.length);
    return found >= 0 ? found : costs.lengths.length - 1;
  });
  const predicted = candidatesOf(record, strategy, grid).map((candidate) => ({
    candidate,
    p95: percentile(
      places.flatMap((place, row) =>
        (costs.lengths[place] as LengthCosts).untilLayer.map(
          (round) => round[(candidate.exitLayers[row] as number) - 1] as number,
        ),
      ),
      0.95,
    ),
  }));
  const meeting = predicted.find(({ p95 }) => p95 <= p95Ms);
  const fastest = predicted.reduce((a, b) => (b.p95 < a.p95 ? b : a));
  const { candidate, p95 } = meeting ?? fastest;
  const { knob } = strategy.definition;
  const where = knob ? `${knob.option} ${candidate.value}` : strategy.name;
  return {
    kind: "latency",
    strategy: knob ? withOptions(strategy, { [knob.option]: candidate.value }) : strategy,
    value: candidate.value,
    p95Ms,
    predictedP95Ms: p95,
    isMet: meeting !== undefined,
    note: meeting
      ? `${where}: predicted p95 ${p95.toFixed(2)} ms, at most ${p95Ms} ms.`
      : `${where}, the fastest: predicted p95 ${p95.toFixed(2)} ms misses ${p95Ms} ms. Set a depth budget (maxLayer), shorten texts, or take a smaller model.`,
    rows,
    candidates: predicted.map((one) => ({
      value: one.candidate.value,
      predictedP95Ms: one.p95,
    })),
    exitLayers: candidate.exitLayers,
  };
}

/** The smallest number that at least this share of all numbers does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] as number;
}

function checkCosts(costs: CostModel, depth: number, refuse: (message: string) => never): void {
  if (costs.lengths.length === 0) refuse("the cost model must have at least one length, got none.");
  let before = 0;
  for (const { length, untilLayer } of costs.lengths) {
    if (!(length > before))
      refuse(`the cost model's lengths must ascend, got ${length} after ${before}.`);
    before = length;
    if (untilLayer.length === 0 || untilLayer.some((round) => round.length !== depth))
      refuse(`each round at length ${length} must give a time for each of ${depth} layers.`);
  }
}

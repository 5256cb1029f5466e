/** @file Chooses a model's knob from held-out rows: with a guarantee on the loss, or by predicted latency. */
import { cpus } from "node:os";
import type { TokenBatch } from "@cee/backbone";
import {
  type ExitRunner,
  type LatencySelection,
  type RiskOptions,
  type RiskSelection,
  selectByLatency,
  selectByRisk,
  summarise,
} from "@cee/exit-policies";
import { measureCosts } from "./cost-model.js";
import { ConsistentEEError } from "./errors.js";
import { type HeldOutRow, prepareHeldOut, recordHeldOut } from "./held-out.js";
import type { CompleteParts } from "./model-folder.js";
import { digestOf, type LatencyPrediction, type OperatingPoint } from "./operating-point.js";
import { type PrepareOptions, prepareRow } from "./requests.js";

interface HeldOut {
  /** Rows that served neither training nor any earlier choice. */
  readonly rows: readonly HeldOutRow[];
}

/** The fastest value that loses at most `maxLoss` against full depth, with `confidence`. */
export interface SelectByRiskOptions extends HeldOut, RiskOptions {
  readonly p95Ms?: never;
}

/** The slowest value whose predicted 95th percentile of a single request's latency is at most `p95Ms`. */
export interface SelectByLatencyOptions extends HeldOut {
  readonly p95Ms: number;
  readonly grid?: readonly number[];
  /** Measured rounds per length. @default 15 */
  readonly rounds?: number;
  readonly maxLoss?: never;
}

export type SelectThresholdOptions = SelectByRiskOptions | SelectByLatencyOptions;

interface Setting extends PrepareOptions {
  readonly maxBatch: number;
  readonly maxWait: number;
  readonly threads: number;
}

/** @throws ConsistentEEError `BAD_OPTION`, `BAD_INPUT`; ExitStrategyError `INVALID_OPTIONS`, `BAD_RECORD` */
export async function selectThreshold(
  parts: CompleteParts,
  runner: ExitRunner<TokenBatch>,
  options: SelectThresholdOptions,
  setting: Setting,
): Promise<{ readonly parts: CompleteParts; readonly point: OperatingPoint }> {
  const { encoder, strategy } = parts;
  const { p95Ms, maxLoss } = options;
  if ((p95Ms === undefined) === (maxLoss === undefined))
    throw new ConsistentEEError(
      "BAD_OPTION",
      "selectThreshold",
      `needs either maxLoss or p95Ms, got ${p95Ms === undefined ? "neither" : "both"}. Ask for one of them.`,
    );
  const prepared = prepareHeldOut(options.rows, encoder.labels, encoder.shape.classes, setting);
  const { padId } = setting.tokenizer;
  const { record, tokens } = await recordHeldOut(runner, prepared, {
    maxBatch: setting.maxBatch,
    padId,
  });
  let selection: RiskSelection | LatencySelection;
  if (options.maxLoss !== undefined) selection = selectByRisk(record, strategy, options);
  else {
    const { rounds = 15 } = options;
    if (!Number.isInteger(rounds) || rounds < 1)
      throw new ConsistentEEError(
        "BAD_OPTION",
        "rounds",
        `must be a whole number from 1, got ${rounds}.`,
      );
    const costs = await measureCosts(runner, prepared.rows, {
      padId,
      rounds,
      extra: setting.maxWait,
      prepare: (index) => {
        const { text, pair } = options.rows[index] as HeldOutRow;
        return prepareRow(pair === undefined ? text : { text, pair }, `row ${index}`, setting);
      },
    });
    selection = selectByLatency(record, strategy, { ...options, tokens, costs });
  }
  const { knob } = selection.strategy.definition;
  const { name, options: chosen } = selection.strategy;
  const point: OperatingPoint = {
    strategy: { name, options: chosen },
    knob:
      knob && selection.value !== undefined ? { name: knob.option, value: selection.value } : null,
    isFullDepth: selection.kind === "risk" && selection.isFullDepth,
    note: selection.note,
    guarantee: guaranteeOf(selection, setting.threads),
    data: { rows: options.rows.length, sha256: digestOf(options.rows) },
    exits: summarise(selection.exitLayers, encoder.shape.depth).histogram,
  };
  return { parts: { ...parts, strategy: selection.strategy, operatingPoint: point }, point };
}

function guaranteeOf(
  selection: RiskSelection | LatencySelection,
  threads: number,
): OperatingPoint["guarantee"] {
  if (selection.kind === "risk") {
    const { kind, maxLoss, confidence, loss, rowsNeeded, tested } = selection;
    return { kind, maxLoss, confidence, loss, rowsNeeded, tested };
  }
  const { kind, p95Ms, predictedP95Ms, isMet, candidates } = selection;
  const machine: LatencyPrediction["machine"] = {
    processor: cpus()[0]?.model ?? "unknown",
    threads,
  };
  return { kind, p95Ms, predictedP95Ms, isMet, candidates, machine };
}

/**
 * @file Evaluates strategies on a record: the rule runs as it would live, without the model.
 *
 * N = rows, T = exits (layers), C = classes, K = values observed per row.
 */
import { withOptions } from "./define.js";
import { ExitStrategyError } from "./errors.js";
import {
  badVerdict,
  checkHost,
  decideFailed,
  type ExitOutcome,
  type HostOptions,
  type SweepPoint,
} from "./outcome.js";
import type { ExitRecord } from "./record.js";
import { checkRecord, decideContexts, exitSites, type RecordView, viewOf } from "./record-view.js";
import { answersAt, searchSweep } from "./search-sweep.js";
import type { AnyDefinition, ExitSite, ExitStrategy, RowState } from "./strategy.js";

/**
 * Replays one configured strategy over every row.
 * @throws ExitStrategyError `STRATEGY_THREW`, `BAD_VERDICT`, `BAD_RECORD` and what a host refuses at its start
 */
export function replay(
  record: ExitRecord,
  strategy: ExitStrategy,
  options: HostOptions = {},
): ExitOutcome {
  return replayer(record, strategy, options)(strategy);
}

/**
 * Replays differently configured strategies over one record, each through its `decide`; all must observe alike, such as
 * one strategy at many values of its knob. What depends on the record alone is worked out once.
 * @throws ExitStrategyError as {@link replay} does
 */
export function replayAll(
  record: ExitRecord,
  strategies: readonly ExitStrategy[],
  options: HostOptions = {},
): readonly ExitOutcome[] {
  const [first] = strategies;
  if (!first) return [];
  const run = replayer(record, first, options);
  return strategies.map((strategy) => {
    if (strategy.definition !== first.definition) checkHost(strategy, record.shape, options);
    return run(strategy);
  });
}

/**
 * Replays one strategy at many values of its knob.
 * @throws ExitStrategyError `INVALID_OPTIONS` when the strategy has no knob or refuses a value
 */
export function replaySweep(
  record: ExitRecord,
  strategy: ExitStrategy,
  values: readonly number[],
  options: HostOptions = {},
): readonly SweepPoint[] {
  const knob = strategy.definition.knob;
  if (!knob)
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      strategy.name,
      "has no knob to sweep. Replay it once with replay().",
    );
  const configured = values.map((value) => withOptions(strategy, { [knob.option]: value }));
  if (knob.isMonotone && Object.keys(strategy.definition.start()).length === 0) {
    checkRecord(record, strategy.name);
    const last = checkHost(strategy, record.shape, options);
    return searchSweep(viewOf(record), configured, values, exitSites(record.shape, last));
  }
  const run = replayer(record, strategy, options);
  return configured.map((one, index) => ({ value: values[index] as number, ...run(one) }));
}

/** What does not depend on the options is worked out once per record. */
function replayer(
  record: ExitRecord,
  strategy: ExitStrategy,
  options: HostOptions,
): (configured: ExitStrategy) => ExitOutcome {
  checkRecord(record, strategy.name);
  const last = checkHost(strategy, record.shape, options);
  const view = viewOf(record);
  const sites = exitSites(record.shape, last);
  return (configured) => replayOnce(view, configured, sites, last);
}

function replayOnce(
  { record, isBad, predictions }: RecordView,
  strategy: ExitStrategy,
  sites: readonly ExitSite[],
  last: number,
): ExitOutcome {
  const { observed, observedWidth: width, shape, ids } = record;
  const { depth } = shape;
  const rows = ids.length;
  const definition: AnyDefinition = strategy.definition;
  const contexts = decideContexts(strategy, sites);
  const exitLayers = new Int32Array(rows);
  // One array for every call: a view per row and layer would cost more than the decisions.
  const values = new Float32Array(width);
  let nonFinite = 0;
  let layer = 1;
  try {
    for (let row = 0; row < rows; row += 1) {
      let cell = row * depth;
      let state: RowState | undefined;
      for (layer = 1; layer < last; layer += 1, cell += 1) {
        if (isBad[cell] === 1) {
          nonFinite += 1;
          continue;
        }
        if (width === 1) values[0] = observed[cell] as number;
        else
          for (let index = 0, from = cell * width; index < width; index += 1)
            values[index] = observed[from + index] as number;
        const verdict = definition.decide(
          values,
          state ?? definition.start(),
          contexts[layer - 1] as never,
        );
        if (verdict.exit === true) break;
        if (verdict.exit !== false || verdict.state === undefined)
          throw badVerdict(strategy, layer, verdict);
        state = verdict.state;
      }
      if (layer === last) nonFinite += isBad[cell] as number;
      exitLayers[row] = layer;
    }
  } catch (cause) {
    throw decideFailed(strategy, layer, cause);
  }
  return { rows, exitLayers, ...answersAt(exitLayers, record, predictions), nonFinite };
}

/**
 * @file Evaluates strategies on a record: the rule runs as it would live, without the model.
 *
 * N = rows, T = exits (layers), C = classes, K = values observed per row.
 */
import { withOptions } from "./define.js";
import { ExitStrategyError } from "./errors.js";
import {
  allFinite,
  badVerdict,
  checkHost,
  decideFailed,
  type ExitOutcome,
  type HostOptions,
  predictionOf,
} from "./outcome.js";
import type { ExitRecord } from "./record.js";
import type { AnyDefinition, DecideContext, ExitSite, ExitStrategy, RowState } from "./strategy.js";

export interface SweepPoint extends ExitOutcome {
  /** Value of the knob. */
  readonly value: number;
}

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
  const run = replayer(record, strategy, options);
  return values.map((value) => ({
    value,
    ...run(withOptions(strategy, { [knob.option]: value })),
  }));
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

interface RecordView {
  readonly record: ExitRecord;
  /** 1 where an observed value or a logit is not finite, shape `[N, T]`. */
  readonly isBad: Uint8Array;
  /** Shape `[N, T]`. */
  readonly predictions: Float32Array;
}

function viewOf(record: ExitRecord): RecordView {
  const { shape, observed, observedWidth, logits, ids } = record;
  const cells = ids.length * shape.depth;
  const isBad = new Uint8Array(cells);
  const predictions = new Float32Array(cells);
  for (let cell = 0; cell < cells; cell += 1) {
    const isSound =
      allFinite(observed, cell * observedWidth, observedWidth) &&
      allFinite(logits, cell * shape.classes, shape.classes);
    isBad[cell] = isSound ? 0 : 1;
    predictions[cell] = predictionOf(shape.task, logits, cell * shape.classes, shape.classes);
  }
  return { record, isBad, predictions };
}

function replayOnce(
  { record, isBad, predictions }: RecordView,
  strategy: ExitStrategy,
  sites: readonly ExitSite[],
  last: number,
): ExitOutcome {
  const { observed, observedWidth: width, shape, ids } = record;
  const { depth, classes } = shape;
  const rows = ids.length;
  const definition: AnyDefinition = strategy.definition;
  const contexts = decideContexts(strategy, sites);
  const exitLayers = new Int32Array(rows);
  const chosen = new Float32Array(rows);
  const logits = new Float32Array(rows * classes);
  // One array for every call: a view per row and layer would cost more than the decisions.
  const values = new Float32Array(width);
  let nonFinite = 0;
  let layer = 1;
  try {
    for (let row = 0; row < rows; row += 1) {
      const base = row * depth;
      let state: RowState | undefined;
      for (layer = 1; layer <= last; layer += 1) {
        const cell = base + layer - 1;
        if (isBad[cell] === 1) {
          nonFinite += 1;
          continue;
        }
        if (layer === last) break;
        const offset = cell * width;
        for (let index = 0; index < width; index += 1)
          values[index] = observed[offset + index] as number;
        state ??= definition.start();
        const verdict = definition.decide(values, state, contexts[layer - 1] as never);
        if (verdict.exit === true) break;
        if (verdict.exit !== false || verdict.state === undefined)
          throw badVerdict(strategy, layer, verdict);
        state = verdict.state;
      }
      const exit = Math.min(layer, last);
      exitLayers[row] = exit;
      chosen[row] = predictions[base + exit - 1] as number;
      const from = (base + exit - 1) * classes;
      for (let index = 0; index < classes; index += 1)
        logits[row * classes + index] = record.logits[from + index] as number;
    }
  } catch (cause) {
    throw decideFailed(strategy, layer, cause);
  }
  return { rows, exitLayers, logits, predictions: chosen, nonFinite };
}

/** The places where a decision is taken, up to `last`. */
export function exitSites(shape: ExitRecord["shape"], last: number): readonly ExitSite[] {
  return Array.from({ length: last }, (_, index) =>
    Object.freeze({ layer: index + 1, depth: shape.depth, task: shape.task, position: 0 }),
  );
}

/** What `decide` is given at each site. */
export function decideContexts(
  { options }: ExitStrategy,
  sites: readonly ExitSite[],
): readonly DecideContext<ExitStrategy["options"]>[] {
  return sites.map((site) => Object.freeze({ site, options }));
}

/** @throws ExitStrategyError `BAD_RECORD` when the arrays do not fit the shape */
export function checkRecord(record: ExitRecord, who: string): void {
  const { shape, ids, labels, logits, observed, observedWidth } = record;
  const cells = ids.length * shape.depth;
  const expected = {
    labels: [labels.length, ids.length],
    logits: [logits.length, cells * shape.classes],
    observed: [observed.length, cells * observedWidth],
  };
  for (const [field, [got, wanted]] of Object.entries(expected))
    if (got !== wanted)
      throw new ExitStrategyError(
        "BAD_RECORD",
        who,
        `the record's ${field} must hold ${wanted} numbers for ${ids.length} rows of ${shape.depth} layers, got ${got}. Record again.`,
      );
  if (observedWidth < 1 || shape.depth < 1 || shape.classes < 1)
    throw new ExitStrategyError(
      "BAD_RECORD",
      who,
      `the record must have layers, classes and observed values, got ${shape.depth}, ${shape.classes} and ${observedWidth}. Record again.`,
    );
}

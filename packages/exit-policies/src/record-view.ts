/**
 * @file What replaying needs of a record besides its numbers, worked out once, and the places where decisions are taken.
 *
 * N = rows, T = exits (layers), C = classes, K = values observed per row.
 */
import { ExitStrategyError } from "./errors.js";
import { allFinite, predictionOf } from "./outcome.js";
import type { ExitRecord } from "./record.js";
import type { DecideContext, ExitSite, ExitStrategy } from "./strategy.js";

export interface RecordView {
  readonly record: ExitRecord;
  /** 1 where an observed value or a logit is not finite, shape `[N, T]`. */
  readonly isBad: Uint8Array;
  /** Shape `[N, T]`. */
  readonly predictions: Float32Array;
}

export function viewOf(record: ExitRecord): RecordView {
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

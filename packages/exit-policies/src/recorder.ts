/**
 * @file Makes the record that every strategy and knob value is replayed from.
 *
 * N = rows of the data set, T = exits, C = classes, K = values observed per row.
 */
import { ExitStrategyError } from "./errors.js";
import type { ExitRunner, FullOutput } from "./model.js";
import type { ExitRecord } from "./record.js";
import { checkRecord } from "./record-view.js";

export interface RecordedRows {
  /** One per row, in the order of the batches. */
  readonly ids: readonly string[];
  /** Class index or regression target per row; NaN where unknown. */
  readonly labels: ArrayLike<number>;
  /** Called after each batch with the rows done so far. */
  readonly onProgress?: (rows: number) => void;
}

/**
 * Runs every batch to full depth and keeps each exit's answer and observations.
 * @throws ExitStrategyError `BAD_RECORD` when ids, labels and batches do not fit together
 */
export async function record<TInput>(
  runner: ExitRunner<TInput>,
  batches: Iterable<TInput> | AsyncIterable<TInput>,
  { ids, labels, onProgress }: RecordedRows,
): Promise<ExitRecord> {
  const { depth, classes } = runner.shape;
  const rows = ids.length;
  const refuse: (message: string) => never = (message) => {
    throw new ExitStrategyError("BAD_RECORD", "record", message);
  };
  if (labels.length !== rows)
    refuse(`ids and labels must name the same rows, got ${rows} and ${labels.length}.`);
  const logits = new Float32Array(rows * depth * classes);
  let observed = new Float32Array(0);
  let width = 0;
  let done = 0;
  for await (const batch of batches) {
    const output: FullOutput = await runner.full(batch);
    if (done + output.rows > rows)
      refuse(`the batches hold more rows than the ${rows} ids. Pass one id per row.`);
    if (width === 0) {
      width = output.observedWidth;
      observed = new Float32Array(rows * depth * width);
    }
    if (output.observedWidth !== width)
      refuse(`every batch must give ${width} values per row, got ${output.observedWidth}.`);
    const cells = output.rows * depth;
    if (output.logits.length !== cells * classes || output.observed.length !== cells * width)
      refuse(
        `a batch of ${output.rows} rows must give [${output.rows}, ${depth}, ${classes}] logits and [${output.rows}, ${depth}, ${width}] values, got ${output.logits.length} and ${output.observed.length} numbers.`,
      );
    logits.set(output.logits, done * depth * classes);
    observed.set(output.observed, done * depth * width);
    done += output.rows;
    onProgress?.(done);
  }
  if (done !== rows) refuse(`the batches hold ${done} rows, got ${rows} ids. Pass one id per row.`);
  const made: ExitRecord = {
    shape: runner.shape,
    ids: [...ids],
    labels: Float32Array.from(labels),
    logits,
    observed,
    // A record without rows still says how wide it is.
    observedWidth: Math.max(width, 1),
  };
  checkRecord(made, "record");
  return made;
}

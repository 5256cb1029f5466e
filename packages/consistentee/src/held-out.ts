/** @file Held-out rows for choosing a threshold: from texts with labels to a record of every exit. N = rows. */
import { type TokenBatch, toBatch } from "@cee/backbone";
import { type ExitRecord, type ExitRunner, type FullOutput, record } from "@cee/exit-policies";
import { ConsistentEEError } from "./errors.js";
import { type PreparedRow, type PrepareOptions, prepareRow, refuseMixture } from "./requests.js";

/** A text or pair with its right answer. */
export interface HeldOutRow {
  readonly text: string;
  readonly pair?: string;
  /** Name or index of the class, or a regression's value; some selections do without. */
  readonly label?: string | number;
}

export interface PreparedHeldOut {
  readonly rows: readonly PreparedRow[];
  /** NaN where unknown. */
  readonly labels: Float32Array;
}

/** @throws ConsistentEEError `BAD_INPUT` naming the row */
export function prepareHeldOut(
  rows: readonly HeldOutRow[],
  labels: readonly string[] | undefined,
  classes: number,
  options: PrepareOptions,
): PreparedHeldOut {
  const prepared = rows.map((row, index) => {
    const who = `row ${index}`;
    const { text, pair } = (row ?? {}) as HeldOutRow;
    return prepareRow(pair === undefined ? text : { text, pair }, who, options);
  });
  prepared.forEach(({ isPair }, index) => {
    refuseMixture(isPair, prepared[0]?.isPair === true, `row ${index}`);
  });
  return {
    rows: prepared,
    labels: Float32Array.from(rows, ({ label }, index) =>
      toLabel(label, labels, classes, `row ${index}`),
    ),
  };
}

/** @throws ConsistentEEError `BAD_INPUT` */
export function toLabel(
  label: string | number | undefined,
  labels: readonly string[] | undefined,
  classes: number,
  who: string,
): number {
  if (label === undefined) return Number.NaN;
  const index = typeof label === "string" ? (labels?.indexOf(label) ?? -1) : label;
  const isGood =
    classes === 1
      ? typeof label === "number" && Number.isFinite(label)
      : Number.isInteger(index) && index >= 0 && index < classes;
  if (!isGood)
    throw new ConsistentEEError(
      "BAD_INPUT",
      who,
      `its label must be ${classes === 1 ? "a number" : `an index from 0 to ${classes - 1}${labels ? ` or one of ${labels.join(", ")}` : ""}`}, got ${JSON.stringify(label)}. Correct or drop it.`,
    );
  return index;
}

export interface HeldOutRecord {
  readonly record: ExitRecord;
  /** Tokens per row, in the record's order, shape `[N]`. */
  readonly tokens: readonly number[];
}

/** Runs every row to full depth, layer by layer as serving does; rows come out ordered by length. */
export async function recordHeldOut(
  runner: ExitRunner<TokenBatch>,
  { rows, labels }: PreparedHeldOut,
  { maxBatch, padId }: { readonly maxBatch: number; readonly padId: number },
): Promise<HeldOutRecord> {
  const order = rows.map((_, index) => index);
  const lengthOf = (index: number) => (rows[index] as PreparedRow).ids.length;
  order.sort((a, b) => lengthOf(a) - lengthOf(b) || a - b);
  function* batches() {
    for (let from = 0; from < order.length; from += maxBatch)
      yield toBatch(
        order.slice(from, from + maxBatch).map((index) => rows[index] as PreparedRow),
        { padId },
      );
  }
  const made = await record(
    { ...runner, full: (batch) => fullByLayers(runner, batch) },
    batches(),
    {
      ids: order.map(String),
      labels: order.map((index) => labels[index] as number),
    },
  );
  return { record: made, tokens: order.map(lengthOf) };
}

/** A full pass on the layers' own programs: a serving model need not compile the whole model a second time. */
async function fullByLayers(
  runner: ExitRunner<TokenBatch>,
  batch: TokenBatch,
): Promise<FullOutput> {
  const { depth, classes } = runner.shape;
  const { rows } = batch;
  const logits = new Float32Array(rows * depth * classes);
  let observed = new Float32Array(0);
  let observedWidth = 1;
  const pass = await runner.begin(batch);
  try {
    for (let index = 0; index < depth; index += 1) {
      const output = await pass.advance();
      if (index === 0) {
        observedWidth = output.observedWidth;
        observed = new Float32Array(rows * depth * observedWidth);
      }
      const width = observedWidth;
      for (let row = 0; row < rows; row += 1) {
        const cell = row * depth + index;
        logits.set(output.logits.subarray(row * classes, (row + 1) * classes), cell * classes);
        observed.set(output.observed.subarray(row * width, (row + 1) * width), cell * width);
      }
    }
  } finally {
    pass.dispose();
  }
  return { rows, observed, observedWidth, logits };
}

/**
 * @file Full passes over a data set with the weights of the moment: what phases and selections are fed from.
 *
 * N = rows, T = layers, C = classes, K = values observed per row.
 */
import type { HostParams } from "@cee/engine";
import type { ExitRecord, ModelShape } from "@cee/exit-policies";
import { toBatch } from "../runner/batch.js";
import type { FullProgram } from "../runner/open.js";
import { planPass } from "./batches.js";
import type { TrainingRow } from "./fit.js";
import type { RecordedSignal } from "./phase-program.js";
import { createStateStore, type StateStore } from "./state-store.js";

export interface Recording {
  readonly record: ExitRecord;
  readonly states: Readonly<Partial<Record<RecordedSignal, StateStore>>>;
}

export interface RecordingOptions {
  readonly shape: ModelShape;
  readonly params: HostParams;
  readonly rows: readonly TrainingRow[];
  readonly batchSize: number;
  readonly padId: number;
  /** Signals kept besides logits and observations. */
  readonly signals?: readonly RecordedSignal[];
  readonly folder?: string | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

/** Runs every row once at full depth, dropout off. */
export async function recordRows(
  program: FullProgram,
  { shape, params, rows, batchSize, padId, signals = [], folder, log }: RecordingOptions,
): Promise<Recording> {
  const { depth, classes, hidden } = shape;
  const logits = new Float32Array(rows.length * depth * classes);
  let observed = new Float32Array(0);
  let observedWidth = 0;
  const states: Partial<Record<RecordedSignal, StateStore>> = {};
  for (const name of signals)
    states[name] = createStateStore({
      rows: rows.length,
      width: depth * hidden,
      folder: folder && `${folder}/${name}`,
      log,
    });
  const lengths = rows.map((row) => row.ids.length);
  for (const batch of planPass(lengths, batchSize)) {
    const output = await program.run(
      params,
      toBatch(
        batch.map((row) => rows[row] as TrainingRow),
        { padId },
      ),
    );
    if (observed.length === 0) {
      observedWidth = output.observedWidth;
      observed = new Float32Array(rows.length * depth * observedWidth);
    }
    batch.forEach((row, index) => {
      copyRow(output.logits, index, logits, row, depth * classes);
      copyRow(output.observed, index, observed, row, depth * observedWidth);
      for (const name of signals) {
        const { width, data } = output.extra[name] as { width: number; data: Float32Array };
        states[name]?.put(row, data.subarray(index * depth * width, (index + 1) * depth * width));
      }
    });
  }
  return {
    record: {
      shape,
      ids: rows.map((row) => row.id),
      labels: Float32Array.from(rows, (row) => row.label),
      logits,
      observed,
      observedWidth,
    },
    states,
  };
}

function copyRow(
  from: Float32Array,
  fromRow: number,
  to: Float32Array,
  toRow: number,
  width: number,
): void {
  to.set(from.subarray(fromRow * width, (fromRow + 1) * width), toRow * width);
}

/**
 * @file Full passes over a data set with the weights of the moment: what phases and selections are fed from.
 *
 * N = rows, T = layers, C = classes, K = values observed per row.
 */
import type { HostParams } from "@cee/engine";
import type { ExitRecord, ModelShape } from "@cee/exit-policies";
import { toBatch } from "../runner/batch.js";
import type { FullProgram, RecordedSignal } from "../runner/open.js";
import { planPass } from "./batches.js";
import type { TrainingRow } from "./fit.js";
import { createStateStore, type StateStore } from "./state-store.js";

export interface Recording {
  readonly record: ExitRecord;
  /** All layers of a row together, layer after layer. */
  readonly states: Readonly<Partial<Record<RecordedSignal, StateStore>>>;
}

export interface RecordingOptions {
  readonly shape: ModelShape;
  readonly params: HostParams;
  readonly rows: readonly TrainingRow[];
  readonly batchSize: number;
  readonly padId: number;
  /** Signals kept besides answers and observations. */
  readonly signals?: readonly RecordedSignal[];
  readonly folder?: string | undefined;
  /** Signals up to this size in bytes, each, stay in memory. @default 512 MiB */
  readonly memoryLimit?: number | undefined;
  readonly log?: ((line: string) => void) | undefined;
  readonly onProgress?: ((rows: number, total: number) => void) | undefined;
}

/** Runs every row once at full depth, dropout off. */
export async function recordRows(
  program: FullProgram,
  options: RecordingOptions,
): Promise<Recording> {
  const { shape, params, rows, batchSize, padId, signals = [] } = options;
  const { depth, classes } = shape;
  const logits = new Float32Array(rows.length * depth * classes);
  let observed = new Float32Array(0);
  // A record without rows still says how wide it is.
  let observedWidth = 1;
  const states: Partial<Record<RecordedSignal, StateStore>> = {};
  const lengths = rows.map((row) => row.ids.length);
  let done = 0;
  try {
    for (const batch of planPass(lengths, batchSize)) {
      const tokens = toBatch(
        batch.map((row) => rows[row] as TrainingRow),
        { padId },
      );
      const output = await program.run(params, tokens);
      if (observed.length === 0) {
        observedWidth = output.observedWidth;
        observed = new Float32Array(rows.length * depth * observedWidth);
      }
      for (const name of signals) {
        const { width, data } = output.extra[name] as { width: number; data: Float32Array };
        // How wide a head's features are is known only now.
        states[name] ??= createStateStore({
          rows: rows.length,
          width: depth * width,
          folder: options.folder && `${options.folder}/${name}`,
          memoryLimit: options.memoryLimit,
          log: options.log,
        });
        for (const [index, row] of batch.entries())
          states[name].put(row, data.subarray(index * depth * width, (index + 1) * depth * width));
      }
      batch.forEach((row, index) => {
        copyRow(output.logits, index, logits, row, depth * classes);
        copyRow(output.observed, index, observed, row, depth * observedWidth);
      });
      done += batch.length;
      options.onProgress?.(done, rows.length);
    }
  } catch (error) {
    disposeStates(states);
    throw error;
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

/** Frees the memory, or deletes the files. */
export function disposeStates(states: Recording["states"]): void {
  for (const store of Object.values(states)) store?.dispose();
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

/**
 * @file Sweeps a rule without state whose knob is monotone: per row and layer, the slowest value that lets the row go is
 * searched for, so that the cost grows with the logarithm of the number of values.
 *
 * N = rows, T = exits (layers), C = classes, K = values observed per row, V = values of the knob.
 */
import { badVerdict, decideFailed, type SweepPoint } from "./outcome.js";
import { decideContexts, type RecordView } from "./record-view.js";
import type { ExitSite, ExitStrategy } from "./strategy.js";

/** Gives what replaying each of the configured strategies gives. */
export function searchSweep(
  { record, isBad, predictions }: RecordView,
  configured: readonly ExitStrategy[],
  values: readonly number[],
  sites: readonly ExitSite[],
): readonly SweepPoint[] {
  const { shape, ids, observed, observedWidth: width } = record;
  const last = sites.length;
  // From the slowest value to the fastest; a rank is a place in this order.
  const sign = configured[0]?.definition.knob?.direction === "higher-is-faster" ? 1 : -1;
  const order = values
    .map((_, index) => index)
    .sort((a, b) => sign * ((values[a] as number) - (values[b] as number)));
  const ranked = order.map((index) => configured[index] as ExitStrategy);
  const contexts = ranked.map((strategy) => decideContexts(strategy, sites));
  const exits = ranked.map(() => new Int32Array(ids.length));
  // How many bad exits the ranks up to here reached and no faster one did, shape `[V]`.
  const badUpTo = new Int32Array(values.length);
  const scratch = new Float32Array(width);
  const state = configured[0]?.definition.start() ?? {};

  const isExit = (rank: number, layer: number): boolean => {
    const strategy = ranked[rank] as ExitStrategy;
    try {
      const verdict = strategy.definition.decide(
        scratch,
        state,
        contexts[rank]?.[layer - 1] as never,
      );
      if (typeof verdict?.exit !== "boolean" || verdict.state === undefined)
        throw badVerdict(strategy, layer, verdict);
      return verdict.exit;
    } catch (cause) {
      throw decideFailed(strategy, layer, cause);
    }
  };

  for (let row = 0; row < ids.length; row += 1) {
    // Ranks from here on have left at an earlier layer.
    let staying = values.length;
    for (let layer = 1; layer <= last && staying > 0; layer += 1) {
      const cell = row * shape.depth + layer - 1;
      let from = 0;
      if (isBad[cell] === 1) badUpTo[staying - 1] = (badUpTo[staying - 1] as number) + 1;
      if (layer < last) {
        if (isBad[cell] === 1) continue;
        scratch.set(observed.subarray(cell * width, (cell + 1) * width));
        from = firstRank(staying, (rank) => isExit(rank, layer));
      }
      for (let rank = from; rank < staying; rank += 1) (exits[rank] as Int32Array)[row] = layer;
      staying = from;
    }
  }

  const nonFinite = new Int32Array(values.length);
  for (let rank = values.length - 1, sum = 0; rank >= 0; rank -= 1) {
    sum += badUpTo[rank] as number;
    nonFinite[rank] = sum;
  }
  const points: SweepPoint[] = new Array(values.length);
  order.forEach((index, rank) => {
    const exitLayers = exits[rank] as Int32Array;
    points[index] = {
      value: values[index] as number,
      rows: ids.length,
      exitLayers,
      ...answersAt(exitLayers, record, predictions),
      nonFinite: nonFinite[rank] as number,
    };
  });
  return points;
}

/** The lowest of the ranks below `count` that exits, if those above it do as well; `count` if none does. */
function firstRank(count: number, isExit: (rank: number) => boolean): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isExit(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The answers that rows get at their exits. */
export function answersAt(
  exitLayers: Int32Array,
  { shape, logits: all }: RecordView["record"],
  predictions: Float32Array,
): { readonly logits: Float32Array; readonly predictions: Float32Array } {
  const { depth, classes } = shape;
  const logits = new Float32Array(exitLayers.length * classes);
  const chosen = new Float32Array(exitLayers.length);
  for (let row = 0; row < exitLayers.length; row += 1) {
    const cell = row * depth + (exitLayers[row] as number) - 1;
    chosen[row] = predictions[cell] as number;
    for (let index = 0; index < classes; index += 1)
      logits[row * classes + index] = all[cell * classes + index] as number;
  }
  return { logits, predictions: chosen };
}

/**
 * @file A pass that may stop early: one block at a time, on the rows that are still alive.
 *
 * N = rows of the input, B = live rows, S = length, H = hidden size, C = classes, K = values per row.
 */
import type { CompiledFunction, HostTensor, HostTree } from "@cee/engine";
import type { ExitPass, LayerOutput, ModelShape } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { keepRows } from "./compact.js";

/** What travels between layers besides the hidden states; the first axis of every tensor is the row. */
export interface Carried {
  readonly head: HostTree | undefined;
  readonly observer: HostTree | undefined;
}

/** What a layer is handed. */
export interface PassState {
  /** Shape `[B, S, H]`. */
  readonly hidden: HostTensor;
  /** Shape `[B, S]`. */
  readonly mask: HostTensor;
  readonly carried: Carried;
}

type LayerResult = {
  readonly [key: string]: HostTree;
  readonly hidden: HostTensor;
  readonly values: HostTensor;
  readonly logits: HostTensor;
};

/** Runs one layer's program. */
export async function runLayer(
  program: CompiledFunction,
  { hidden, mask, carried }: PassState,
): Promise<{ readonly next: PassState; readonly output: LayerOutput }> {
  const inputs: Record<string, HostTree> = { hidden, mask };
  if (carried.head !== undefined) inputs.headCarry = carried.head;
  if (carried.observer !== undefined) inputs.observerCarry = carried.observer;
  const result = await program.run<LayerResult>(inputs);
  return {
    next: {
      hidden: result.hidden,
      mask,
      carried: { head: result.headCarry, observer: result.observerCarry },
    },
    output: {
      observed: result.values.data as Float32Array,
      observedWidth: result.values.shape[1] as number,
      logits: result.logits.data as Float32Array,
    },
  };
}

/** Starts a pass from the embeddings of its rows. */
export function encoderPass(
  shape: ModelShape,
  rows: number,
  start: PassState,
  layers: readonly CompiledFunction[],
  /** Values observed per row. */
  observedWidth: number,
): ExitPass {
  let live = Array.from({ length: rows }, (_, row) => row);
  let layer = 0;
  let state: PassState | undefined = start;
  let isRunning = false;
  return {
    get liveRows() {
      return live;
    },
    get layer() {
      return layer;
    },
    async advance() {
      if (!state)
        throw new BackboneError("DISPOSED", "pass", "the pass was disposed. Begin another.");
      if (layer === shape.depth)
        throw new BackboneError(
          "NO_MORE_LAYERS",
          "pass",
          `all ${shape.depth} layers have run. Stop at the last layer.`,
        );
      refuseWhileRunning(isRunning, "advance");
      if (live.length === 0) {
        layer += 1;
        return { observed: new Float32Array(0), observedWidth, logits: new Float32Array(0) };
      }
      isRunning = true;
      try {
        const { next, output } = await runLayer(layers[layer] as CompiledFunction, state);
        layer += 1;
        // Disposed of meanwhile: what the layer made is not kept.
        if (state) state = next;
        return output;
      } finally {
        isRunning = false;
      }
    },
    keep(kept) {
      if (!state) return;
      refuseWhileRunning(isRunning, "keep");
      const positions = positionsOf(live, kept);
      if (positions.length === live.length) return;
      const { hidden, mask, carried } = state;
      state = {
        hidden: keepRows(hidden, positions),
        mask: keepRows(mask, positions),
        carried: {
          head: carried.head && keepRows(carried.head, positions),
          observer: carried.observer && keepRows(carried.observer, positions),
        },
      };
      live = [...kept];
    },
    dispose() {
      state = undefined;
      live = [];
    },
  };
}

function refuseWhileRunning(isRunning: boolean, what: string): void {
  if (isRunning)
    throw new BackboneError(
      "BAD_ROWS",
      "pass",
      `${what}() was called while a layer was running. Await advance() first.`,
    );
}

/** Where the kept rows stand among the live ones. */
function positionsOf(live: readonly number[], kept: readonly number[]): number[] {
  const where = new Map(live.map((row, position) => [row, position]));
  let last = -1;
  return kept.map((row) => {
    const position = where.get(row);
    if (position === undefined || position <= last)
      throw new BackboneError(
        "BAD_ROWS",
        "pass",
        `row ${row} ${position === undefined ? "is not live" : "is out of order or named twice"}. Keep a subset of the live rows, in ascending order.`,
      );
    last = position;
    return position;
  });
}

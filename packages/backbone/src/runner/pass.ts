/**
 * @file A pass that may stop early: one block at a time, on the rows that are still alive.
 *
 * N = rows of the input, B = live rows, S = length, H = hidden size, C = classes, K = values per row.
 */
import type { CompiledFunction, HostTensor, HostTree } from "@cee/engine";
import type { ExitPass, LayerOutput, ModelShape } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import type { batchInputs } from "./batch.js";
import { keepRows, keepRowsInPlace } from "./compact.js";

/** What the first layer's program takes: it has the embeddings in it. */
export type Start = ReturnType<typeof batchInputs>;

/** What the programs of later layers take; the first axis of every tensor is the row. */
export interface HandedOn {
  readonly [key: string]: HostTree;
  /** Shape `[B, S, H]`. */
  readonly hidden: HostTensor;
  /** Shape `[B, S]`. */
  readonly mask: HostTensor;
  /** What is added to attention scores, `[B, 1, 1, S]`: made once, by the first layer. */
  readonly bias: HostTensor;
}

export type PassState = Start | HandedOn;

/** Hidden states are absent after the last layer, the bias after all but the first. */
type LayerResult = Partial<Record<"hidden" | "bias" | "headCarry" | "observerCarry", HostTree>> & {
  readonly [key: string]: HostTree;
  readonly values: HostTensor;
  readonly logits: HostTensor;
};

/** Runs one layer's program. */
export async function runLayer(
  program: CompiledFunction,
  state: PassState,
): Promise<{ readonly next: HandedOn; readonly output: LayerOutput }> {
  const result = await program.run<LayerResult>(state as Readonly<Record<string, HostTree>>);
  const { hidden, headCarry, observerCarry } = result;
  return {
    next: {
      hidden: hidden as HostTensor,
      mask: state.mask,
      bias: (result.bias ?? (state as HandedOn).bias) as HostTensor,
      ...(headCarry !== undefined && { headCarry }),
      ...(observerCarry !== undefined && { observerCarry }),
    },
    output: {
      observed: result.values.data as Float32Array,
      observedWidth: result.values.shape[1] as number,
      logits: result.logits.data as Float32Array,
    },
  };
}

/** Starts a pass from the tokens of its rows. */
export function encoderPass(
  shape: ModelShape,
  start: Start,
  layers: readonly CompiledFunction[],
  /** Values observed per row. */
  observedWidth: number,
): ExitPass {
  const rows = start.ids.shape[0] as number;
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
      state = keepState(state, positions);
      live = [...kept];
    },
    dispose() {
      state = undefined;
      live = [];
    },
  };
}

function keepState(state: PassState, positions: readonly number[]): PassState {
  if (!("hidden" in state)) {
    const { positions: places, ...rows } = state;
    return { ...keepRows(rows, positions), positions: places };
  }
  const { hidden, ...others } = state;
  return {
    ...(keepRows(others, positions) as HandedOn),
    hidden: keepRowsInPlace(hidden, positions),
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

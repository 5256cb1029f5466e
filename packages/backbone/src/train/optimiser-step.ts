/**
 * @file One optimiser step on the host: what is fed, in which buffers, and in how many parts.
 *
 * Shapes: B = rows of the batch, T = layers, K = side values per row.
 */
import { createRng, type HostParams, type HostTensor, type HostTree } from "@cee/engine";
import type { TrainingPhase } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { copyParams, zerosLike } from "./params.js";
import { lossOfStep } from "./phase-check.js";
import type { PhaseProgram } from "./phase-program.js";
import type { Recording } from "./recording.js";
import type { TextRows } from "./text-rows.js";

/** What stays the same from step to step of a phase. */
export interface Feed {
  readonly phase: TrainingPhase;
  /** The phase's number in the plan, from 0. */
  readonly index: number;
  readonly program: PhaseProgram;
  readonly frozen: HostParams;
  readonly texts: TextRows;
  /** Signals of a record phase. */
  readonly states: Recording["states"];
  readonly side: HostTensor | undefined;
  readonly depth: number;
  /** Optimiser steps of the phase. */
  readonly total: number;
  readonly seed: number;
  readonly microBatch: number | undefined;
}

/** Two sets of arrays that a step reads from and writes to in turn. */
export interface Buffers {
  current: ParamSet;
  spare: ParamSet;
  readonly loss: HostTensor;
  readonly norm: HostTensor;
  swap(): void;
}
interface ParamSet {
  readonly trained: HostParams;
  readonly m: HostParams;
  readonly v: HostParams;
}

export function createBuffers(
  trained: HostParams,
  moments: { readonly m: HostParams; readonly v: HostParams } | undefined,
): Buffers {
  const scalarOf = (): HostTensor => ({ dtype: "float32", shape: [], data: new Float32Array(1) });
  return {
    current: {
      trained: copyParams(trained),
      m: moments ? copyParams(moments.m) : zerosLike(trained),
      v: moments ? copyParams(moments.v) : zerosLike(trained),
    },
    spare: { trained: zerosLike(trained), m: zerosLike(trained), v: zerosLike(trained) },
    loss: scalarOf(),
    norm: scalarOf(),
    swap() {
      [this.current, this.spare] = [this.spare, this.current];
    },
  };
}

type StepOutput = {
  readonly [key: string]: HostTree;
  readonly loss: HostTensor;
  readonly norm: HostTensor;
};
type AccumulateOutput = {
  readonly [key: string]: HostTree;
  readonly gradients: Readonly<Record<string, HostParams>>;
  readonly loss: HostTensor;
};

/**
 * One optimiser step, in one program where the batch fits and accumulated where it does not; returns the loss.
 * @param batch texts, or rows in a record phase
 */
export async function optimiserStep(
  feed: Feed,
  buffers: Buffers,
  batch: readonly number[],
  position: { readonly step: number; readonly stepInEpoch: number; readonly epoch: number },
): Promise<number> {
  const { phase, program, frozen, total } = feed;
  const { step } = position;
  const name = lossOfStep(phase, step, position.stepInEpoch);
  const learningRate = learningRateAt(phase, step, total);
  const scalars = scalarTree({
    learningRate,
    adamStep: step + 1,
    perRow: 1 / rowsOf(feed, batch).length,
    progress: step / total,
    step,
  });
  const micro = Math.min(feed.microBatch ?? batch.length, batch.length);
  let loss = 0;
  let norm = 0;
  if (micro === batch.length) {
    const result = await program.step(name).run<StepOutput>(
      {
        ...buffers.current,
        frozen,
        ...batchTree(feed, batch),
        scalars,
        seed: seedAt(feed, step, 0),
      },
      { into: { ...buffers.spare, loss: buffers.loss, norm: buffers.norm } },
    );
    loss = result.loss.data[0] as number;
    norm = result.norm.data[0] as number;
  } else {
    let gradients: Readonly<Record<string, HostParams>> = Object.fromEntries(
      program.parts.map((part) => [part, zerosLike(buffers.current.trained)]),
    );
    for (let at = 0; at < batch.length; at += micro) {
      const part = batch.slice(at, at + micro);
      const result = await program.accumulate(name).run<AccumulateOutput>({
        trained: buffers.current.trained,
        frozen,
        gradients,
        ...batchTree(feed, part),
        scalars,
        seed: seedAt(feed, step, at / micro),
      });
      gradients = result.gradients;
      loss += result.loss.data[0] as number;
    }
    const result = await program
      .apply()
      .run<StepOutput>(
        { ...buffers.current, gradients, scalars },
        { into: { ...buffers.spare, norm: buffers.norm } },
      );
    norm = result.norm.data[0] as number;
  }
  if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
    const what = Number.isFinite(loss)
      ? `the gradient norm is ${norm}`
      : `the loss ${phase.combine ? "" : `"${name}" `}is ${loss}`;
    throw diverged(phase, what, position, total);
  }
  buffers.swap();
  return loss;
}

/** The error of a training that left the finite numbers. */
export function diverged(
  phase: TrainingPhase,
  what: string,
  { step, epoch }: { readonly step: number; readonly epoch: number },
  total: number,
): BackboneError {
  return new BackboneError(
    "NAN_LOSS",
    phase.name,
    `${what} at step ${step + 1} of ${total} (epoch ${epoch + 1}), where the learning rate is ${learningRateAt(phase, step, total)}. Lower the learning rate, now ${phase.learningRate} at its highest; the checkpoint written before is intact.`,
  );
}

/** Linear warm-up, then linear decay to zero or a constant rate. */
function learningRateAt(phase: TrainingPhase, step: number, total: number): number {
  const warmup = Math.round((phase.warmup ?? 0) * total);
  if (step < warmup) return (phase.learningRate * (step + 1)) / warmup;
  if (phase.schedule === "constant") return phase.learningRate;
  return phase.learningRate * ((total - step) / Math.max(1, total - warmup));
}

/** The rows of a batch: its own in a record phase, those of its texts otherwise. */
function rowsOf({ phase, texts }: Feed, batch: readonly number[]): readonly number[] {
  return phase.source === "record" ? batch : texts.rowsOf(batch);
}

/** What the batch feeds: tokens, or recorded signals. */
function batchTree(feed: Feed, batch: readonly number[]): Record<string, HostTree> {
  const { texts, side, states, depth } = feed;
  const rows = rowsOf(feed, batch);
  const tree: Record<string, HostTree> = {
    labels: {
      dtype: "float32",
      shape: [rows.length],
      data: Float32Array.from(rows, (row) => texts.labels[row] as number),
    },
  };
  if (side) {
    const width = side.shape[1] as number;
    tree.side = {
      dtype: "float32",
      shape: [rows.length, width],
      data: gatherRows(side.data as Float32Array, width, rows),
    };
  }
  if (feed.phase.source !== "record") {
    tree.batch = texts.feed(batch);
    return tree;
  }
  tree.batch = Object.fromEntries(
    Object.entries(states).map(([name, store]): [string, HostTensor] => {
      return [
        name,
        {
          dtype: "float32",
          shape: [batch.length, depth, store.width / depth],
          data: store.gather(batch),
        },
      ];
    }),
  );
  return tree;
}

function gatherRows(source: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const result = new Float32Array(rows.length * width);
  rows.forEach((row, index) => {
    result.set(source.subarray(row * width, (row + 1) * width), index * width);
  });
  return result;
}

function scalarTree(values: Record<string, number>): Record<string, HostTensor> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      { dtype: "float32", shape: [], data: new Float32Array([value]) },
    ]),
  );
}

/** A fresh pair of words for every step and micro-batch. */
function seedAt({ seed, index }: Feed, step: number, part: number): HostTensor {
  const rng = createRng(seed).fork(`dropout/${index}/${step}/${part}`);
  const word = () => rng.int(2 ** 31 - 1);
  return { dtype: "int32", shape: [2], data: new Int32Array([word(), word()]) };
}

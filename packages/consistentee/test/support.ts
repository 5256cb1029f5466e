/** @file Synthetic records whose loss falls with depth, and a small trainer for recorded policy phases. */
import {
  adamw,
  type CompiledFunction,
  createEngine,
  createRng,
  type HostParams,
  type HostTensor,
  type TensorParams,
  valueAndGrads,
} from "@cee/engine";
import type { ExitRecord, ModelShape, PhaseLoss, TrainingPhase } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { policyLogits, policyParams } from "../src/index.js";

export const shape: ModelShape = { task: "classification", depth: 6, hidden: 8, classes: 2 };

export interface Recorded {
  readonly record: ExitRecord;
  /** Pooled state of each layer, `[N, H]`, first layer first. */
  readonly states: readonly Float32Array[];
}

/**
 * Rows of hardness 1 to L: the loss falls at every layer, and the row is answered correctly from the layer of its hardness on.
 * The state shows the hardness, one component per value, with noise.
 */
export function graded(rows: number, seed: number): Recorded {
  const rng = createRng(seed);
  const { depth, hidden, classes } = shape;
  const logits = new Float32Array(rows * depth * classes);
  const labels = new Float32Array(rows);
  const states = Array.from({ length: depth }, () => new Float32Array(rows * hidden));
  for (let row = 0; row < rows; row += 1) {
    const hardness = (row % depth) + 1;
    const label = rng.int(2);
    labels[row] = label;
    for (let index = 0; index < depth; index += 1) {
      // Rises by 0.8 per layer and changes sign between the layers hardness - 1 and hardness.
      const margin = 0.8 * (index + 1 - hardness) + 0.4;
      logits[(row * depth + index) * classes + label] = margin;
      for (let unit = 0; unit < hidden; unit += 1)
        (states[index] as Float32Array)[row * hidden + unit] =
          (unit === hardness - 1 ? 1 : 0) + 0.1 * rng.normal();
    }
  }
  return {
    record: {
      shape,
      ids: Array.from({ length: rows }, (_, row) => `row-${row}`),
      labels,
      logits,
      observed: new Float32Array(rows * depth),
      observedWidth: 1,
    },
    states,
  };
}

export interface PolicyTrainer {
  /** Runs a record phase, and returns the record with the policy's logits as observations. */
  train(rows: Recorded, phase: TrainingPhase, options?: { steps?: number }): Promise<ExitRecord>;
  dispose(): Promise<void>;
}

/**
 * Adam on all rows at once, compiled. The step of the first phase serves all: what differs between alphas and rewards
 * is side data.
 */
export async function policyTrainer(model: ModelShape, width = 16): Promise<PolicyTrainer> {
  const engine = await createEngine({ threads: 1 });
  const start = policyParams(model, width, 3);
  const zeros = Object.fromEntries(
    Object.entries(start).map(([name, { shape: dims, data }]) => [
      name,
      { dtype: "float32", shape: dims, data: new Float32Array(data.length) } as const,
    ]),
  );
  const steps = new Map<string, CompiledFunction>();
  const stateSpecs = Array.from({ length: model.depth }, () => ({
    dtype: "float32" as const,
    shape: ["batch", model.hidden],
  }));
  const scalar = { dtype: "float32", shape: [] } as const;
  const logitsOf = engine.compile(
    ({ params, states }) =>
      policyLogits(params as TensorParams, (states as tf.Tensor2D[]).slice(0, -1)),
    { name: "logits", inputs: { params: specsOf(start), states: stateSpecs } },
  );

  const compile = (phase: TrainingPhase, sideWidth: number) => {
    const [name, loss] = Object.entries(phase.losses)[0] as [string, PhaseLoss];
    return engine.compile(
      ({ params, m, v, states, side, perRow, step, seed }) => {
        const { loss: value, gradients } = valueAndGrads(
          (trained) =>
            loss({
              shape: model,
              exits: (states as tf.Tensor2D[]).map((pooled) => ({ pooled }) as never),
              labels: undefined as never,
              params: trained,
              side,
              perRow,
              progress: perRow,
              step,
              seed,
            }),
          params as TensorParams,
          { unreached: "error" },
        );
        const next = adamw({
          params,
          gradients,
          state: { m, v },
          learningRate: tf.scalar(0.03),
          step: tf.add(step, 1),
          weightDecay: 0,
        });
        return { params: next.params, ...next.state, loss: value };
      },
      {
        name,
        inputs: {
          params: specsOf(start),
          m: specsOf(start),
          v: specsOf(start),
          states: stateSpecs,
          side: { dtype: "float32", shape: ["batch", sideWidth] },
          perRow: scalar,
          step: scalar,
          seed: { dtype: "int32", shape: [2] },
        },
      },
    );
  };

  return {
    async train({ record, states }, phase, { steps: count = 200 } = {}) {
      const side = phase.prepare?.(record) as { width: number; values: Float32Array };
      const rows = record.ids.length;
      // The caller names phases of different graphs differently.
      const key = phase.name;
      let step = steps.get(key);
      if (!step) {
        step = compile(phase, side.width);
        steps.set(key, step);
      }
      const host = (data: Float32Array, dims: number[]) =>
        ({ dtype: "float32", shape: dims, data }) as const;
      const inputs = {
        states: states.map((state) => host(state, [rows, model.hidden])),
        side: host(side.values, [rows, side.width]),
        perRow: host(Float32Array.of(1 / rows), []),
      };
      let trained: { params: HostParams; m: HostParams; v: HostParams } = {
        params: start,
        m: zeros,
        v: zeros,
      };
      for (let index = 0; index < count; index += 1) {
        const { params, m, v } = trained;
        trained = await step.run({
          ...inputs,
          params,
          m,
          v,
          step: host(Float32Array.of(index), []),
          seed: { dtype: "int32", shape: [2], data: Int32Array.of(index, 7) },
        });
      }
      const { data: logits } = await logitsOf.run<HostTensor>({
        params: trained.params,
        states: inputs.states,
      });
      const { depth } = model;
      const observed = new Float32Array(rows * depth);
      for (let row = 0; row < rows; row += 1)
        observed.set(logits.subarray(row * (depth - 1), (row + 1) * (depth - 1)), row * depth);
      return { ...record, observed };
    },
    async dispose() {
      await engine.dispose();
    },
  };
}

function specsOf(params: HostParams): Record<string, { dtype: "float32"; shape: number[] }> {
  return Object.fromEntries(
    Object.entries(params).map(([name, { shape: dims }]) => [
      name,
      { dtype: "float32", shape: [...dims] },
    ]),
  );
}

/** Exit layer of every row under the rule of inference. */
export function exitsOf(record: ExitRecord): number[] {
  const { depth } = record.shape;
  return record.ids.map((_, row) => {
    const logits = record.observed.subarray(row * depth, (row + 1) * depth - 1);
    const index = logits.findIndex((logit) => logit > 0);
    return index === -1 ? depth : index + 1;
  });
}

export function mean(values: ArrayLike<number>): number {
  return Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
}

/** Uniform numbers in [0, 1) of the given shape. */
export function uniformTensor(dims: readonly number[], seed: string): tf.Tensor {
  const rng = createRng(seed);
  const size = dims.reduce((product, dim) => product * dim, 1);
  return tf.tensor(
    Float32Array.from({ length: size }, () => rng.next()),
    [...dims],
  );
}

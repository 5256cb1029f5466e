/** @file Synthetic records whose loss falls with depth, and a small trainer for recorded policy phases. */
import { createRng, type HostParams } from "@cee/engine";
import type { ExitRecord, ModelShape, TrainingPhase, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { policyLogits } from "../src/index.js";

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

/** Runs a record phase with Adam on all rows at once, and returns the record with the policy's logits as observations. */
export function trainPolicy(
  { record, states }: Recorded,
  phase: TrainingPhase,
  params: HostParams,
  { steps = 150, learningRate = 0.03 } = {},
): ExitRecord {
  const side = phase.prepare?.(record) as { width: number; values: Float32Array };
  const rows = record.ids.length;
  const { depth, hidden } = record.shape;
  const loss = Object.values(phase.losses)[0] as (step: TrainingStep) => tf.Scalar;
  const optimizer = tf.train.adam(learningRate);
  const variables: Record<string, tf.Variable> = {};
  for (const [name, host] of Object.entries(params))
    variables[name] = tf.variable(tf.tensor(host.data, [...host.shape]));
  const pooled = states.map((state) => tf.tensor2d(state, [rows, hidden]));
  const sideTensor = tf.tensor2d(side.values, [rows, side.width]);
  const labels = tf.tensor1d(record.labels);
  try {
    for (let step = 0; step < steps; step += 1)
      tf.tidy(() => {
        optimizer.minimize(
          () =>
            loss({
              shape: record.shape,
              exits: pooled.map((state) => ({ pooled: state }) as never),
              labels,
              params: variables,
              side: sideTensor,
              perRow: tf.scalar(1 / rows),
              progress: tf.scalar(step / steps),
              step: tf.scalar(step),
              seed: tf.tensor1d([step, 7], "int32"),
            }),
          false,
          Object.values(variables),
        );
      });
    const observed = new Float32Array(rows * depth);
    const logits = tf.tidy(() =>
      policyLogits(variables, pooled.slice(0, depth - 1)).dataSync<"float32">(),
    );
    for (let row = 0; row < rows; row += 1)
      observed.set(logits.subarray(row * (depth - 1), (row + 1) * (depth - 1)), row * depth);
    return { ...record, observed };
  } finally {
    tf.dispose([pooled, sideTensor, labels, Object.values(variables)]);
    optimizer.dispose();
  }
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

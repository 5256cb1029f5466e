/** @file Gradients of a multi-exit loss over the whole encoder, compiled, against TensorFlow.js's `cpu` backend. */
import {
  createEngine,
  createRng,
  type Engine,
  type HostParams,
  type HostTensor,
  type TensorParams,
  valueAndGrads,
} from "@cee/engine";
import type * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { batchInputs, batchSpecs, toBatch } from "../src/runner/batch.js";
import { specsOf } from "../src/runner/open.js";
import { type BatchTensors, exitSignals } from "../src/runner/signals.js";
import { tinyBert } from "../src/testing.js";
import { allExits, inventRows } from "./helpers/tiny-training.js";

const engines: Engine[] = [];
beforeAll(async () => {
  engines.push(await createEngine({ runtime: "eager", backend: "cpu" }));
  engines.push(await createEngine({ threads: 2 }));
});
afterAll(async () => {
  for (const engine of engines) await engine.dispose();
});

const model = tinyBert({ depth: 12, hidden: 8, spread: 0.2 });
const specs = {
  batch: batchSpecs,
  params: specsOf(model.params),
  labels: { dtype: "float32", shape: ["batch"] },
  perRow: { dtype: "float32", shape: [] },
  seed: { dtype: "int32", shape: [2] },
} as const;

interface Inputs {
  readonly batch: BatchTensors;
  readonly params: TensorParams;
  readonly labels: tf.Tensor1D;
  readonly perRow: tf.Scalar;
  readonly seed: tf.Tensor1D;
}

const program = (engine: Engine, isTraining: boolean) =>
  engine.compile(
    ({ batch, params, seed, ...step }: Inputs) => {
      const { loss, gradients } = valueAndGrads(
        (trained) =>
          allExits({
            ...step,
            exits: exitSignals(model, trained, batch, isTraining ? { seed } : undefined),
          } as never),
        params,
      );
      return { loss, gradients };
    },
    { name: "gradients", inputs: specs },
  );

describe.each([
  ["without dropout", false],
  ["with dropout", true],
])("gradients of a 12-layer multi-exit loss, %s", (_, isTraining) => {
  it("agree with the eager ones at sizes that were not traced", async () => {
    const [eager, compiled] = engines.map((engine) => program(engine, isTraining)) as [
      ReturnType<typeof program>,
      ReturnType<typeof program>,
    ];
    const sizes: readonly (readonly [rows: number, longest: number])[] = isTraining
      ? [[3, 6]]
      : [
          [1, 3],
          [2, 9],
          [5, 7],
        ];
    for (const [count, longest] of sizes) {
      const rows = inventRows(count, `size-${count}`, longest);
      const seed = createRng(count);
      const inputs = {
        batch: batchInputs(toBatch(rows)),
        params: model.params,
        labels: {
          dtype: "float32",
          shape: [count],
          data: Float32Array.from(rows, ({ label }) => label),
        },
        perRow: { dtype: "float32", shape: [], data: Float32Array.of(1 / count) },
        seed: { dtype: "int32", shape: [2], data: Int32Array.of(seed.int(999), seed.int(999)) },
      } as const;
      type Output = { readonly loss: HostTensor; readonly gradients: HostParams };
      const expected = await eager.run<Output>(inputs);
      const actual = await compiled.run<Output>(inputs);
      expect(actual.loss.data).toBeAllclose(expected.loss.data, { rtol: 1e-5 });
      const whole = norm(Object.values(expected.gradients).map(({ data }) => data));
      for (const [path, { data }] of Object.entries(expected.gradients)) {
        const own = actual.gradients[path]?.data as Float32Array;
        const error = norm([own.map((value, index) => value - (data[index] as number))]);
        // The gradient of a key's bias is zero in exact arithmetic: there is nothing to be relative to but the whole.
        const isZero = path.endsWith("attention.self.key.bias");
        expect(error / (isZero ? whole : norm([data])), path).toBeLessThan(1e-4);
      }
    }
    await eager.dispose();
    await compiled.dispose();
  });
});

function norm(parts: readonly ArrayLike<number>[]): number {
  let sum = 0;
  for (const part of parts)
    for (let index = 0; index < part.length; index += 1) sum += (part[index] as number) ** 2;
  return Math.sqrt(sum);
}

/** @file Optimizers against PyTorch's numbers, on the eager TensorFlow.js backend and compiled. */
import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { createEngine } from "../src/engine.js";
import { adamw, decaysByDefault } from "../src/optimizers/adamw.js";
import { clipByGlobalNorm } from "../src/optimizers/clip.js";
import { linearSchedule } from "../src/optimizers/schedule.js";
import type { HostTensor, TensorParams, TensorSpec } from "../src/types.js";
import { quietCpu } from "./quiet-cpu.js";

type Values = Record<string, number[]>;

interface Golden {
  options: {
    total: number;
    warmup: number;
    baseRate: number;
    betas: [number, number];
    eps: number;
    weightDecay: number;
    maxNorm: number;
  };
  shapes: Record<string, number[]>;
  initial: Values;
  steps: {
    learningRate: number;
    gradients: Values;
    norm: number;
    clipped: Values;
    params: Values;
    m: Values;
    v: Values;
  }[];
}

const golden: Golden = JSON.parse(
  readFileSync(new URL("./golden/adamw.json", import.meta.url), "utf8"),
);

interface StepInputs {
  params: TensorParams;
  gradients: TensorParams;
  m: TensorParams;
  v: TensorParams;
  index: tf.Scalar;
}

type HostRecord = Record<string, HostTensor>;
type Updated = { norm: HostTensor; params: HostRecord; state: { m: HostRecord; v: HostRecord } };

const toTensors = (values: Values): TensorParams =>
  Object.fromEntries(
    Object.entries(values).map(([path, data]) => [
      path,
      tf.tensor(data, golden.shapes[path], "float32"),
    ]),
  );

const expectClose = (actual: TensorParams, expected: Values, atol = 1e-8) => {
  for (const [path, tensor] of Object.entries(actual)) {
    expect(tensor.dataSync()).toBeAllclose(expected[path]!, { rtol: 2e-6, atol });
  }
};

beforeAll(quietCpu);

describe("adamw", () => {
  it("follows PyTorch over 8 steps of clipping, warm-up, decay and weight decay", () => {
    tf.tidy(() => {
      const { options } = golden;
      let params = toTensors(golden.initial);
      let state = { m: zerosOf(params), v: zerosOf(params) };
      for (const [index, step] of golden.steps.entries()) {
        const factor = linearSchedule({ step: tf.scalar(index), ...options });
        const learningRate = tf.mul(factor, options.baseRate) as tf.Scalar;
        expect(learningRate.dataSync()).toBeAllclose([step.learningRate], { rtol: 1e-6 });
        const { gradients, norm } = clipByGlobalNorm(toTensors(step.gradients), options.maxNorm);
        expect(norm.dataSync()).toBeAllclose([step.norm], { rtol: 1e-6 });
        expectClose(gradients, step.clipped, 0);
        const next = adamw({
          ...options,
          params,
          gradients,
          state,
          learningRate,
          step: tf.scalar(index + 1, "int32"),
        });
        expectClose(next.params, step.params, 1e-7);
        expectClose(next.state.m, step.m);
        expectClose(next.state.v, step.v, 0);
        ({ params, state } = next);
      }
    });
  });

  it("follows PyTorch when compiled", async () => {
    const engine = await createEngine({ threads: 1 });
    const { options } = golden;
    const tensors = Object.fromEntries(
      Object.entries(golden.shapes).map(([path, shape]) => [path, { dtype: "float32", shape }]),
    ) as Record<string, TensorSpec>;
    const update = engine.compile(
      ({ params, gradients, m, v, index }: StepInputs) => {
        const clipped = clipByGlobalNorm(gradients, options.maxNorm);
        const factor = linearSchedule({ step: index, ...options });
        const learningRate = tf.mul(factor, options.baseRate) as tf.Scalar;
        const step = tf.add(index, 1) as tf.Scalar;
        const { gradients: scaled, norm } = clipped;
        return {
          norm,
          ...adamw({ ...options, params, gradients: scaled, state: { m, v }, learningRate, step }),
        };
      },
      {
        name: "update",
        inputs: {
          params: tensors,
          gradients: tensors,
          m: tensors,
          v: tensors,
          index: { dtype: "float32", shape: [] },
        },
      },
    );
    const toHost = (values: Values) =>
      Object.fromEntries(
        Object.entries(values).map(([path, data]) => [
          path,
          { dtype: "float32", shape: golden.shapes[path]!, data: Float32Array.from(data) },
        ]),
      ) as Record<string, HostTensor>;
    const zeros = Object.fromEntries(
      Object.entries(golden.initial).map(([path, data]) => [path, data.map(() => 0)]),
    );
    let before = { params: toHost(golden.initial), m: toHost(zeros), v: toHost(zeros) };
    for (const [index, step] of golden.steps.entries()) {
      const { params, state, norm } = await update.run<Updated>({
        ...before,
        gradients: toHost(step.gradients),
        index: { dtype: "float32", shape: [], data: Float32Array.of(index) },
      });
      expect(norm.data).toBeAllclose([step.norm], { rtol: 1e-6 });
      for (const path of Object.keys(golden.shapes)) {
        expect(params[path]!.data).toBeAllclose(step.params[path]!, { rtol: 2e-6, atol: 1e-7 });
        expect(state.v[path]!.data).toBeAllclose(step.v[path]!, { rtol: 2e-6, atol: 0 });
      }
      before = { params, ...state };
    }
    await engine.dispose();
  });

  it("keeps its bias correction exact to float32 from the first step to the millionth", () => {
    for (const step of [1, 2, 10, 1000, 20_000, 1_000_000]) {
      const moved = tf.tidy(() => {
        const one = { w: tf.scalar(1) };
        // With m = 1 and v = 1 kept in place by a gradient of 1, the change is sqrt(c2) / c1.
        const { params } = adamw({
          params: { w: tf.scalar(0) },
          gradients: one,
          state: { m: one, v: one },
          learningRate: tf.scalar(1),
          step: tf.scalar(step),
          weightDecay: 0,
          eps: 0,
        });
        return -params.w!.dataSync()[0]!;
      });
      const expected = Math.sqrt(1 - 0.999 ** step) / (1 - 0.9 ** step);
      expect([moved]).toBeAllclose([expected], { rtol: 5e-7 });
    }
  });

  it("names the parameter that has no gradient", () => {
    const w = tf.scalar(1);
    const call = () =>
      adamw({
        params: { w },
        gradients: {},
        state: { m: { w }, v: { w } },
        learningRate: w,
        step: w,
      });
    expect(call).toThrow('[adamw] gradients has no tensor for the parameter "w"');
    w.dispose();
  });

  it("spares biases and LayerNorm from decay by default", () => {
    const decaying = [
      "backbone.encoder.layer.0.attention.self.query.weight",
      "backbone.embeddings.word_embeddings.weight",
      "heads.3.classifier.weight",
      "strategy.policy.hidden.kernel",
    ];
    const spared = [
      "backbone.encoder.layer.0.attention.self.query.bias",
      "backbone.encoder.layer.0.output.LayerNorm.weight",
      "backbone.embeddings.LayerNorm.gamma",
      "model.final_layer_norm.weight",
      "transformer.ln_f.bias",
      "strategy.bias",
    ];
    expect(decaying.filter((path) => !decaysByDefault(path))).toEqual([]);
    expect(spared.filter(decaysByDefault)).toEqual([]);
  });
});

describe("clipByGlobalNorm", () => {
  it("leaves small gradients as they are and never exceeds the bound", () => {
    const values = fc.array(fc.float({ min: -100, max: 100, noNaN: true }), {
      minLength: 1,
      maxLength: 8,
    });
    fc.assert(
      fc.property(
        values,
        values,
        fc.float({ min: Math.fround(0.1), max: 50, noNaN: true }),
        (a, b, maxNorm) => {
          tf.tidy(() => {
            const before = { a: tf.tensor1d(a), b: tf.tensor1d(b) };
            const { gradients, norm } = clipByGlobalNorm(before, maxNorm);
            const expected = Math.hypot(...a, ...b);
            expect(norm.dataSync()).toBeAllclose([expected], { rtol: 1e-5, atol: 1e-20 });
            const after = Math.hypot(...gradients.a!.dataSync(), ...gradients.b!.dataSync());
            expect(after).toBeLessThanOrEqual(maxNorm * (1 + 1e-5));
            if (expected < maxNorm * 0.999) {
              expect(gradients.a!.dataSync()).toEqual(before.a.dataSync());
            }
          });
        },
      ),
    );
  });

  it("reports a norm that is not finite", () => {
    tf.tidy(() => {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const { norm } = clipByGlobalNorm({ a: tf.tensor1d([1, bad]), b: tf.scalar(2) }, 1);
        expect(Number.isFinite(norm.dataSync()[0])).toBe(false);
      }
    });
  });
});

describe("linearSchedule", () => {
  it("rises to 1 at the end of the warm-up and falls to 0 at the end of the run", () => {
    const at = (step: number) => linearSchedule({ step, total: 10, warmup: 4 });
    expect([0, 1, 4, 7, 10, 12].map(at)).toEqual([0, 0.25, 1, 0.5, 0, 0]);
    expect(linearSchedule({ step: 0, total: 10, warmup: 0 })).toBe(1);
  });

  it("gives the same factors on the host and as a tensor function", () => {
    const sizes = fc.tuple(fc.nat(200), fc.nat(200), fc.nat(420));
    fc.assert(
      fc.property(sizes, ([warmup, rest, step]) => {
        const options = { total: warmup + rest, warmup };
        const host = linearSchedule({ step, ...options });
        const traced = tf.tidy(() =>
          linearSchedule({ step: tf.scalar(step, "int32"), ...options }).dataSync(),
        );
        expect(traced).toBeAllclose([host], { rtol: 1e-6, atol: 1e-7 });
      }),
    );
  });

  it("refuses a warm-up longer than the run", () => {
    expect(() => linearSchedule({ step: 0, total: 3, warmup: 4 })).toThrow(/warmup 4 and total 3/);
  });
});

function zerosOf(params: TensorParams): TensorParams {
  return Object.fromEntries(Object.entries(params).map(([path, p]) => [path, tf.zerosLike(p)]));
}

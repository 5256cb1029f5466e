import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  createEngine,
  createRng,
  type Engine,
  type HostParams,
  type HostTensor,
  initNormal,
  type SpecTree,
  valueAndGrads,
} from "../src/index.js";
import { quietCpu } from "./quiet-cpu.js";
import {
  type Batch,
  batchSpecs,
  forward,
  fused,
  multiExitLoss,
  plain,
  type TinyBert,
  tinyBertParams,
} from "./tiny-bert.js";

const config: TinyBert = {
  layers: 12,
  width: 16,
  heads: 2,
  vocabulary: 37,
  positions: 12,
  classes: 3,
};
const rng = createRng("bert");
const params = tinyBertParams(config, rng.fork("params"));

function batchOf(B: number, S: number): Record<keyof Batch, HostTensor> {
  const draw = rng.fork(`${B}x${S}`);
  const ints = (shape: number[], below: number): HostTensor => ({
    dtype: "int32",
    shape,
    data: Int32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => draw.int(below)),
  });
  const mask = new Float32Array(B * S).fill(1);
  // Rows end at different places.
  for (let row = 0; row < B; row += 1)
    for (let at = S - (row % Math.max(1, S - 1)); at < S; at += 1) mask[row * S + at] = 0;
  return {
    ids: ints([B, S], config.vocabulary),
    positions: { dtype: "int32", shape: [S], data: Int32Array.from({ length: S }, (_, i) => i) },
    mask: { dtype: "float32", shape: [B, S], data: mask },
    labels: ints([B], config.classes),
    perRow: { dtype: "float32", shape: [], data: Float32Array.of(1 / B) },
  };
}

type Step = Batch & { readonly p: Record<string, tf.Tensor> };
const lossAndGradients =
  (ops: typeof fused) =>
  ({ p, ...batch }: Step) => {
    const { loss, gradients } = valueAndGrads(
      (q) => multiExitLoss(forward(config, ops, q, batch), ops, batch),
      p,
    );
    return { loss, gradients };
  };
type Result = { readonly loss: HostTensor; readonly gradients: Record<string, HostTensor> };

const specsOf = (tensors: HostParams): Record<string, SpecTree> =>
  Object.fromEntries(
    Object.entries(tensors).map(([path, { dtype, shape }]) => [path, { dtype, shape }]),
  );

let compiled: Engine;
let eager: Engine;
beforeAll(async () => {
  await quietCpu();
  compiled = await createEngine({ threads: 2 });
  eager = await createEngine({ runtime: "eager", backend: "cpu" });
});
afterAll(async () => {
  await compiled.dispose();
  await eager.dispose();
});

describe("a 12-layer BERT with an exit after every layer", () => {
  const options = { name: "step", inputs: { ...batchSpecs, p: specsOf(params) } };

  it("has the loss and gradients of the cpu backend, at sizes other than those traced", async () => {
    const reference = eager.compile(lossAndGradients(plain), options);
    const step = compiled.compile(lossAndGradients(fused), options);
    const unfused = compiled.compile(lossAndGradients(plain), options);
    for (const [B, S] of [
      [1, 1],
      [3, 9],
      [5, 4],
    ] as const) {
      const feeds = { ...batchOf(B, S), p: params };
      const expected = await reference.run<Result>(feeds);
      for (const fn of [step, unfused]) {
        const actual = await fn.run<Result>(feeds);
        expect(actual.loss.data).toBeAllclose(expected.loss.data, { rtol: 1e-5 });
        expect(Object.keys(actual.gradients)).toEqual(Object.keys(params));
        for (const [path, gradient] of Object.entries(expected.gradients)) {
          const largest = Math.max(...Array.from(gradient.data, Math.abs));
          expect(actual.gradients[path]?.data).toBeAllclose(gradient.data, {
            rtol: 1e-4,
            atol: 1e-4 * largest + 1e-9,
          });
        }
      }
    }
  });

  it("answers alike with weights baked in and fed, and on both runtimes", async () => {
    const web = await createEngine({ runtime: "onnxruntime-web" });
    expect(web.description).toMatch(/^compiled, onnxruntime-web/);
    const { labels: _labels, perRow: _perRow, ...inputs } = batchSpecs;
    const logitsOf = ({ p, ...batch }: Step) => forward(config, fused, p, batch);
    const { labels: _, perRow: __, ...batch } = batchOf(3, 7);
    const fed = compiled.compile(logitsOf, {
      name: "fed",
      inputs: { ...inputs, p: specsOf(params) },
    });
    const expected = await fed.run<HostTensor[]>({ ...batch, p: params });
    for (const engine of [compiled, web, eager]) {
      const baked = engine.compile(logitsOf, { name: "baked", inputs, constants: { p: params } });
      const actual = await baked.run<HostTensor[]>(batch);
      for (const [index, logits] of expected.entries())
        expect(actual[index]?.data).toBeAllclose(logits.data, { rtol: 1e-4, atol: 1e-6 });
    }
    const options = { name: "step", inputs: { ...batchSpecs, p: specsOf(params) } };
    const feeds = { ...batchOf(2, 6), p: params };
    const onWeb = await web.compile(lossAndGradients(fused), options).run<Result>(feeds);
    const native = await compiled.compile(lossAndGradients(fused), options).run<Result>(feeds);
    expect(onWeb.loss.data).toBeAllclose(native.loss.data, { rtol: 1e-5 });
    for (const [path, gradient] of Object.entries(native.gradients))
      expect(onWeb.gradients[path]?.data).toBeAllclose(gradient.data, { rtol: 1e-3, atol: 1e-6 });
    await web.dispose();
  });
});

describe("fused operations", () => {
  it.each([
    ["layerNorm", [[2, 3, 8], [8], [8]]],
    ["gelu", [[2, 3, 8]]],
    ["linear", [[2, 3, 8], [5, 8], [5]]],
    ["rmsNorm", [[2, 3, 8], [8]]],
  ] as ["layerNorm" | "gelu" | "linear" | "rmsNorm", number[][]][])(
    "%s has the value and gradients of plain operations",
    async (name, shapes) => {
      const inputs = shapes.map((shape, index) =>
        initNormal(shape, 1.5, rng.fork(`${name}${index}`)),
      );
      const weight = initNormal([2, 3, name === "linear" ? 5 : 8], 1, rng.fork("weight"));
      const body =
        (ops: typeof fused) =>
        ({ xs, w }: { xs: tf.Tensor[]; w: tf.Tensor }) => {
          const { loss, gradients, aux } = valueAndGrads(
            (p) => {
              const args = xs.map((_, index) => p[index] as tf.Tensor);
              const op = ops[name] as (...tensors: tf.Tensor[]) => tf.Tensor;
              const y = op(...args);
              return { loss: tf.sum(tf.mul(y, w)) as tf.Scalar, aux: { y } };
            },
            Object.fromEntries(xs.map((x, index) => [index, x])),
          );
          return { loss, gradients, y: (aux as { y: tf.Tensor }).y };
        };
      const options = {
        name,
        inputs: {
          xs: inputs.map(({ dtype, shape }, index) => ({
            dtype,
            shape: index === 0 ? ["batch", ...shape.slice(1)] : shape,
          })),
          w: { dtype: "float32" as const, shape: ["batch", ...weight.shape.slice(1)] },
        },
      };
      type Out = { loss: HostTensor; gradients: Record<string, HostTensor>; y: HostTensor };
      const feeds = { xs: inputs, w: weight };
      const expected = await eager.compile(body(plain), options).run<Out>(feeds);
      for (const engine of [compiled, eager]) {
        const actual = await engine.compile(body(fused), options).run<Out>(feeds);
        expect(actual.y.data).toBeAllclose(expected.y.data, { rtol: 1e-5, atol: 1e-6 });
        for (const [index, gradient] of Object.entries(expected.gradients))
          expect(actual.gradients[index]?.data).toBeAllclose(gradient.data, {
            rtol: 1e-5,
            atol: 1e-5,
          });
      }
    },
  );

  it("takes the gradient of GELU where exp(x^2) overflows", async () => {
    const f = compiled.compile(({ x }: { x: tf.Tensor }) => tf.grad((t) => fused.gelu(t))(x), {
      name: "steep",
      inputs: { x: { dtype: "float32", shape: ["n"] } },
    });
    const x: HostTensor = {
      dtype: "float32",
      shape: [4],
      data: Float32Array.of(-100, -20, 20, 100),
    };
    expect((await f.run<HostTensor>({ x })).data).toBeAllclose([0, 0, 1, 1]);
  });
});

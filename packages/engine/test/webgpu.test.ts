import * as tf from "@tensorflow/tfjs";
import { expect, it } from "vitest";
import {
  createEngine,
  createRng,
  EngineError,
  type HostTensor,
  initNormal,
  valueAndGrads,
} from "../src/index.js";
import { quietCpu } from "./quiet-cpu.js";
import { forward, fused, type TinyBert, tinyBertParams } from "./tiny-bert.js";

const config: TinyBert = {
  layers: 2,
  width: 16,
  heads: 2,
  vocabulary: 37,
  positions: 12,
  classes: 3,
};

it("runs the same graph on the WebGPU provider, gradients included", async (context) => {
  await quietCpu();
  const params = tinyBertParams(config, createRng("webgpu"));
  const [B, S] = [3, 5];
  const feeds = {
    ids: {
      dtype: "int32",
      shape: [B, S],
      data: Int32Array.from({ length: B * S }, (_, index) => (7 * index) % 37),
    },
    positions: { dtype: "int32", shape: [S], data: Int32Array.from({ length: S }, (_, i) => i) },
    mask: { dtype: "float32", shape: [B, S], data: new Float32Array(B * S).fill(1) },
    weight: initNormal([B, 3], 1, createRng("weight")),
    p: params,
  } satisfies Record<string, unknown>;
  type Result = { logits: HostTensor[]; gradients: Record<string, HostTensor> };
  const run = async (providers: readonly string[]): Promise<Result> => {
    const engine = await createEngine({ runtime: "onnxruntime-node", providers });
    try {
      const f = engine.compile(
        ({ p, ids, positions, mask, weight }) => {
          const { gradients, aux } = valueAndGrads((q) => {
            const logits = forward(config, fused, q, { ids, positions, mask });
            const losses = logits.map((one) => tf.sum(tf.mul(one, weight)));
            return { loss: tf.addN(losses) as tf.Scalar, aux: logits };
          }, p);
          return { logits: aux ?? [], gradients };
        },
        {
          name: "webgpu",
          inputs: {
            ids: { dtype: "int32", shape: ["batch", "length"] },
            positions: { dtype: "int32", shape: ["length"] },
            mask: { dtype: "float32", shape: ["batch", "length"] },
            weight: { dtype: "float32", shape: ["batch", 3] },
            p: Object.fromEntries(
              Object.entries(params).map(([path, { dtype, shape }]) => [path, { dtype, shape }]),
            ),
          },
        },
      );
      return await f.run<Result>(feeds as never);
    } finally {
      await engine.dispose();
    }
  };
  const expected = await run(["cpu"]);
  let actual: Result;
  try {
    actual = await run(["webgpu"]);
  } catch (cause) {
    const isMissing =
      cause instanceof EngineError &&
      cause.code === "RUN_FAILED" &&
      /adapter|webgpu.*not (available|supported|found)/i.test(cause.message);
    if (!isMissing) throw cause;
    context.skip(
      "no WebGPU adapter here; on Linux without a GPU, install libvulkan1 and set VK_DRIVER_FILES to SwiftShader's vk_swiftshader_icd.json",
    );
    return;
  }
  for (const [index, { data }] of expected.logits.entries())
    expect(actual.logits[index]?.data).toBeAllclose(data, { rtol: 1e-3, atol: 1e-4 });
  for (const [path, { data }] of Object.entries(expected.gradients))
    expect(actual.gradients[path]?.data).toBeAllclose(data, { rtol: 1e-2, atol: 1e-3 });
});

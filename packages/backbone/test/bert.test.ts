import * as tf from "@tensorflow/tfjs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  attentionBias,
  block,
  type DropoutSite,
  dropoutSite,
  embed,
  encoder,
  pool,
} from "../src/bert.js";
import { activation, layerNorm, linear } from "../src/ops.js";
import { tinyBert, toInputs, toTensors } from "../src/testing.js";

beforeEach(async () => {
  await tf.setBackend("cpu");
  tf.engine().startScope();
});
afterEach(() => tf.engine().endScope());

const model = tinyBert();
const ctx = { config: model.config };
const batch = {
  rows: 2,
  length: 5,
  ids: [2, 7, 9, 4, 3, 2, 5, 3, 0, 0],
  types: [0, 0, 0, 1, 1, 0, 0, 0, 0, 0],
  mask: [1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
};

describe("the encoder", () => {
  it("runs block by block as it does in one go", () => {
    const params = toTensors(model.params);
    const inputs = toInputs(batch);
    const states = encoder(params, inputs, ctx);
    expect(states.map(({ shape }) => shape)).toEqual([
      [2, 5, 8],
      [2, 5, 8],
      [2, 5, 8],
    ]);
    let hidden = embed(params, inputs, ctx);
    states.forEach((state, index) => {
      hidden = block(params, index + 1, hidden, attentionBias(inputs.mask), ctx);
      expect(hidden.dataSync()).toEqual(state.dataSync());
    });
  });

  it("does not let the ids of padding change a token", () => {
    const params = toTensors(model.params);
    const other = { ...batch, ids: [...batch.ids.slice(0, 8), 11, 12] };
    const [first, second] = [batch, other].map((one) =>
      encoder(params, toInputs(one), ctx).map((state) =>
        tf.slice(state, [1, 0, 0], [1, 3, 8]).dataSync(),
      ),
    );
    expect(first).toEqual(second);
  });

  it("takes positions per row as well as per batch", () => {
    const params = toTensors(model.params);
    const inputs = toInputs(batch);
    const positions = tf.tile(tf.expandDims(inputs.positions, 0), [2, 1]) as tf.Tensor2D;
    const shared = embed(params, inputs, ctx).dataSync();
    expect(embed(params, { ...inputs, positions }, ctx).dataSync()).toEqual(shared);
    const moved = tf.add(positions, tf.tensor2d([[0], [3]], [2, 1], "int32")) as tf.Tensor2D;
    const shifted = embed(params, { ...inputs, positions: moved }, ctx).dataSync();
    expect(shifted.slice(0, 40)).toEqual(shared.slice(0, 40));
    expect(shifted.slice(40)).not.toEqual(shared.slice(40));
  });

  it("gives finite numbers for a row without tokens", () => {
    const params = toTensors(model.params);
    const empty = { ...batch, mask: batch.mask.map((_, index) => Number(index < 5)) };
    for (const state of encoder(params, toInputs(empty), ctx))
      expect(state.dataSync().every(Number.isFinite)).toBe(true);
  });

  it("has the gradients that finite differences give", () => {
    const params = toTensors(model.params);
    const inputs = toInputs(batch);
    const loss = (changed: Record<string, tf.Tensor>): tf.Scalar => {
      const all = { ...params, ...changed };
      const pooled = encoder(all, inputs, ctx).map((state) => pool(all, state));
      return tf.sum(tf.addN(pooled.map((one, index) => tf.mul(one, index + 1)))) as tf.Scalar;
    };
    const paths = [
      "backbone.embeddings.word_embeddings.weight",
      "backbone.embeddings.position_embeddings.weight",
      "backbone.encoder.layer.0.attention.self.key.weight",
      "backbone.encoder.layer.1.attention.output.LayerNorm.weight",
      "backbone.encoder.layer.2.intermediate.dense.weight",
      "backbone.pooler.dense.bias",
    ];
    for (const path of paths) {
      const value = params[path] as tf.Tensor;
      const derivative = tf.grad((x: tf.Tensor) => loss({ [path]: x }));
      const gradient = Float32Array.from(derivative(value).dataSync());
      const values = value.dataSync();
      // The largest entry has the best ratio to float32's noise.
      const at = gradient.reduce(
        (best, one, index) => (Math.abs(one) > Math.abs(gradient[best] as number) ? index : best),
        0,
      );
      const moved = (step: number) => {
        const copy = Float32Array.from(values);
        copy[at] = (copy[at] as number) + step;
        return loss({ [path]: tf.tensor(copy, value.shape) }).dataSync()[0] as number;
      };
      const slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
      expect([gradient[at] as number]).toBeAllclose([slope], { rtol: 1e-2, atol: 1e-3 });
    }
  });

  it("names the parameter that is missing", () => {
    const { "backbone.encoder.layer.1.output.dense.bias": _, ...rest } = toTensors(model.params);
    expect(() => encoder(rest, toInputs(batch), ctx)).toThrow(
      /backbone\.encoder\.layer\.1\.output\.dense\.bias/,
    );
  });

  it("numbers every dropout of every layer differently", () => {
    const sites: DropoutSite[] = ["attention", "attentionOutput", "output"];
    const all = Array.from({ length: 13 }, (_, layer) =>
      sites.map((site) => dropoutSite(layer, site)),
    ).flat();
    expect(new Set(all).size).toBe(all.length);
  });
});

describe("the operations", () => {
  // Phi(1) = 0.8413447, Phi(-2) = 0.0227501; the tanh form from 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
  it.each([
    ["gelu", [0, 1, -2, 0.5], [0, 0.8413447, -0.0455003, 0.3457312]],
    ["gelu_new", [0, 1, -2, 0.5], [0, 0.841192, -0.0454023, 0.345714]],
    ["relu", [0, 1, -2, 0.5], [0, 1, 0, 0.5]],
  ] as const)("compute %s", (act, x, y) => {
    expect(activation(tf.tensor1d([...x]), act).dataSync()).toBeAllclose([...y], { atol: 2e-6 });
  });

  it("normalise with the biased variance", () => {
    const y = layerNorm(
      tf.tensor2d([[1, 2, 3, 6]]),
      tf.tensor1d([1, 1, 2, 1]),
      tf.zeros([4]),
      1e-12,
    );
    const deviation = Math.sqrt(3.5);
    expect(y.dataSync()).toBeAllclose(
      [-2, -1, 0, 3].map((v) => v / deviation),
      { atol: 1e-6 },
    );
  });

  it("multiply by the transposed weight of a checkpoint", () => {
    const weight = tf.tensor2d([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const x = tf.tensor3d([
      [
        [1, 0, 0],
        [0, 0, 1],
      ],
    ]);
    const y = linear(x, weight, tf.tensor1d([10, 20]));
    expect(y.arraySync()).toEqual([
      [
        [11, 24],
        [13, 26],
      ],
    ]);
  });
});

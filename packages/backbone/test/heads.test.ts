import type { ExitHead } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { encoder, firstToken, pool } from "../src/bert.js";
import type { ExitEncoder } from "../src/encoder.js";
import { BackboneError } from "../src/errors.js";
import { createHighway } from "../src/heads/highway.js";
import { resolveHead } from "../src/heads/registry.js";
import { tinyBert, toInputs, toTensors } from "../src/testing.js";

beforeEach(async () => {
  await tf.setBackend("cpu");
  tf.engine().startScope();
});
afterEach(() => tf.engine().endScope());

const batch = toPlain([3, 4, 5, 6], [7, 8, 0, 0]);

function toPlain(...rows: number[][]) {
  const ids = rows.flat();
  return {
    rows: rows.length,
    length: rows[0]?.length ?? 0,
    ids,
    types: ids.map(() => 0),
    mask: ids.map((id) => Number(id > 0)),
  };
}

/** Applies the head of `layer`; returns its output beside the hidden state it saw. */
function applyAt(model: ExitEncoder, layer: number, dropout: ExitDropout = (x) => x) {
  const params = toTensors(model.params);
  const inputs = toInputs(batch);
  const hidden = encoder(params, inputs, { config: model.config })[layer - 1] as tf.Tensor3D;
  const prefix = `heads.${layer}.`;
  const own = Object.fromEntries(
    Object.entries(params)
      .filter(([path]) => path.startsWith(prefix))
      .map(([path, tensor]) => [path.slice(prefix.length), tensor]),
  );
  const output = model.head.apply(
    own,
    {
      hidden,
      mask: inputs.mask,
      layer,
      shape: model.shape,
      pooled: () => pool(params, hidden),
      dropout,
    },
    undefined,
  );
  return { ...output, hidden, params, own };
}
type ExitDropout = <T extends tf.Tensor>(x: T) => T;

/** `W x + b` in plain numbers. */
function affine(weight: tf.Tensor, bias: tf.Tensor, x: readonly number[]): number[] {
  const rows = weight.arraySync() as number[][];
  const shift = bias.arraySync() as number[];
  return rows.map((row, index) =>
    row.reduce((sum, value, at) => sum + value * (x[at] as number), shift[index] as number),
  );
}

describe("the linear head", () => {
  it("classifies the shared pooler's vector at every layer with a classifier of its own", () => {
    const model = tinyBert({ classes: 3 });
    for (const layer of [1, 2, 3]) {
      const { logits, pooled, features, params, own, hidden } = applyAt(model, layer);
      const first = firstToken(hidden).arraySync();
      const weight = params["backbone.pooler.dense.weight"] as tf.Tensor;
      const bias = params["backbone.pooler.dense.bias"] as tf.Tensor;
      first.forEach((state, row) => {
        const expected = affine(weight, bias, state).map(Math.tanh);
        expect(pooled.arraySync()[row] as number[]).toBeAllclose(expected, {
          rtol: 1e-4,
          atol: 1e-6,
        });
        const classifier = own["classifier.weight"] as tf.Tensor;
        const scores = affine(classifier, own["classifier.bias"] as tf.Tensor, expected);
        expect(logits.arraySync()[row] as number[]).toBeAllclose(scores, {
          rtol: 1e-4,
          atol: 1e-6,
        });
      });
      expect(features).toBe(pooled);
    }
    expect(Object.keys(model.params).filter((path) => path.startsWith("heads.2."))).toEqual([
      "heads.2.classifier.weight",
      "heads.2.classifier.bias",
    ]);
  });

  it("drops out what the classifier reads, not what policies see", () => {
    const model = tinyBert();
    const plain = applyAt(model, 1);
    const none = applyAt(model, 1, (x) => tf.zerosLike(x) as typeof x);
    expect(none.logits.dataSync()).toEqual(new Float32Array(4));
    expect(none.pooled.dataSync()).toEqual(plain.pooled.dataSync());
  });

  it("gives one number for a regression", () => {
    expect(applyAt(tinyBert({ regression: true }), 2).logits.shape).toEqual([2, 1]);
  });
});

describe("the highway head", () => {
  it("starts as the shared pooler at every layer, in memory of its own", () => {
    const model = tinyBert({ head: "highway" });
    const shared = model.params["backbone.pooler.dense.weight"];
    for (const layer of [1, 2, 3]) {
      const own = model.params[`heads.${layer}.pooler.weight`];
      expect(own?.data).toEqual(shared?.data);
      expect(own?.data).not.toBe(shared?.data);
      const { pooled, params, hidden } = applyAt(model, layer);
      expect(pooled.dataSync()).toEqual(pool(params, hidden).dataSync());
    }
  });

  it("reads its own pooler, not the shared one", () => {
    const model = tinyBert({ head: createHighway({ pooler: "fresh" }) });
    const before = applyAt(model, 1).logits.dataSync();
    const path = "backbone.pooler.dense.weight";
    const shared = model.params[path] as (typeof model.params)[string];
    model.params = { ...model.params, [path]: { ...shared, data: new Float32Array(64) } };
    expect(applyAt(model, 1).logits.dataSync()).toEqual(before);
    expect(model.params["heads.1.pooler.weight"]?.data).not.toEqual(shared.data);
  });
});

describe("heads by name", () => {
  const mine: ExitHead = { ...resolveHead("linear"), name: "mine" };

  it("are the built-in ones and those passed along", () => {
    expect(resolveHead("highway").name).toBe("highway");
    expect(resolveHead("mine", [mine])).toBe(mine);
    expect(resolveHead(mine)).toBe(mine);
  });

  it.each(["linaer", "constructor", "__proto__"])("do not include %s", (name) => {
    try {
      resolveHead(name);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(BackboneError);
      expect((error as BackboneError).code).toBe("UNKNOWN_HEAD");
      expect((error as BackboneError).message).toContain("linear, highway");
    }
  });

  it("say which parameter they miss", () => {
    const head = resolveHead("linear");
    const hidden = tf.zeros([1, 2, 8]) as tf.Tensor3D;
    const input = {
      hidden,
      mask: tf.ones([1, 2]) as tf.Tensor2D,
      layer: 2,
      shape: tinyBert().shape,
      pooled: () => firstToken(hidden),
      dropout: (<T extends tf.Tensor>(x: T) => x) as ExitDropout,
    };
    expect(() => head.apply({}, input, undefined)).toThrow(/heads\.2\.classifier\.weight/);
  });
});

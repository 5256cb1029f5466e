/** Exit heads with one deliberate defect each, and the checks that must find it. */
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { defineExitHead, type ExitHead, type ExitHeadInput } from "../src/index.js";
import { headConformance } from "../src/testing/index.js";

type Params = Readonly<Record<string, tf.Tensor>>;

/** Mean over the tokens, one linear layer. */
const sound: ExitHead = {
  name: "mean-head",
  params: ({ hidden, classes }, layer, seed) => ({
    weight: {
      dtype: "float32",
      shape: [hidden, classes],
      data: Float32Array.from({ length: hidden * classes }, (_, k) =>
        Math.sin(seed + 10 * layer + k),
      ),
    },
  }),
  apply({ weight }, { hidden, mask }) {
    const shown = tf.expandDims(mask, 2);
    const pooled = tf.div(tf.sum(tf.mul(hidden, shown), 1), tf.sum(shown, 1)) as tf.Tensor2D;
    return { logits: tf.matMul(pooled, weight as tf.Tensor2D), pooled, features: pooled };
  },
};

async function failures(head: ExitHead): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {};
  for (const check of headConformance(head))
    try {
      await check.run();
    } catch (error) {
      found[check.name] = (error as Error).message;
    }
  return found;
}

const kept: tf.Tensor[] = [];
const changed =
  (change: (logits: tf.Tensor2D, params: Params, input: ExitHeadInput) => tf.Tensor) =>
  (params: Params, input: ExitHeadInput) => {
    const output = sound.apply(params, input, undefined);
    return { ...output, logits: change(output.logits, params, input) as tf.Tensor2D };
  };

const defects: readonly (readonly [string, Partial<ExitHead>, string, string])[] = [
  [
    "throws",
    {
      apply() {
        throw new Error("no op");
      },
    },
    "head: apply gives finite numbers",
    "no op",
  ],
  [
    "gives NaN",
    { apply: changed((logits) => tf.log(tf.sub(tf.mul(logits, 0), 1))) },
    "head: apply gives finite numbers",
    "must be finite",
  ],
  [
    "gives the wrong shape",
    { apply: changed((logits) => tf.sum(logits, 1)) },
    "head: apply gives logits [B, C], pooled [B, H] and features [B, F]",
    "apply must return logits [3,3]",
  ],
  [
    "couples rows",
    { apply: changed((logits) => tf.sub(logits, tf.mean(logits, 0))) },
    "head: apply treats each row by itself",
    "no mean, maximum or softmax over the first axis",
  ],
  [
    "reads padding",
    { apply: changed((logits, _, { hidden }) => tf.add(logits, tf.mean(hidden))) },
    "head: apply does not see padding",
    "mask is 0",
  ],
  [
    "keeps tensors",
    {
      apply: changed((logits) => {
        kept.push(tf.keep(tf.add(logits, 1)));
        return logits;
      }),
    },
    "head: apply leaves no tensors behind",
    "must leave no tensors behind",
  ],
  [
    "ignores a parameter",
    {
      apply: changed((logits, { weight }) =>
        tf.add(logits, tf.mul(tf.sum(weight as tf.Tensor), 0)),
      ),
      params: (shape, layer, seed) => ({
        ...sound.params(shape, layer, seed),
        idle: { dtype: "float32", shape: [1], data: new Float32Array(1) },
      }),
    },
    "head: the logits depend on the parameters and on the states",
    'the parameter "idle"',
  ],
  [
    "reads other tokens than it says",
    { readsFirstToken: true },
    "head: a head that says readsFirstToken reads no other",
    "first token only",
  ],
  [
    "is random",
    {
      params: ({ hidden, classes }) => ({
        weight: {
          dtype: "float32",
          shape: [hidden, classes],
          data: Float32Array.from({ length: hidden * classes }, Math.random),
        },
      }),
    },
    "head: params gives the same numbers for the same seed, and others for another",
    "no Math.random",
  ],
  [
    "hides its carry",
    { apply: (params, input) => ({ ...sound.apply(params, input, undefined), carry: input.mask }) },
    "head: a carry has a row per row, and is declared",
    "carries: true",
  ],
];

describe("the kit for heads", () => {
  it("finds nothing wrong with a sound one", async () => {
    expect(await failures(sound)).toEqual({});
  });

  it.each(defects)("finds one that %s", async (_, overrides, check, message) => {
    const found = await failures({ ...sound, ...overrides });
    expect(Object.keys(found)).toContain(check);
    expect(found[check]).toContain(message);
    expect(found[check]).toContain("[mean-head]");
    expect(found[check]).toContain('section "heads"');
    tf.dispose(kept.splice(0));
  });
});

describe("defineExitHead", () => {
  it("marks a head with the version of the contract", () => {
    expect(defineExitHead(sound)).toMatchObject({ name: "mean-head", apiVersion: 1 });
  });

  it.each([
    [{ name: "Mean" }, "kebab-case"],
    [{ apply: 1 }, "apply must be a function"],
    [{ params: undefined }, "params must be a function"],
    [{ shared: 1 }, "shared must be a function"],
    [{ carries: "yes" }, "carries must be true"],
    [{ readsFirstToken: 1 }, "readsFirstToken must be true"],
  ])("refuses %j", (overrides, message) => {
    expect(() => defineExitHead({ ...sound, ...overrides } as never)).toThrow(message);
  });

  it.each([[1], [null], [undefined]])("refuses %j", (value) => {
    expect(() => defineExitHead(value as never)).toThrow("an exit head must be an object");
  });
});

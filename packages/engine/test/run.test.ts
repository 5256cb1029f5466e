import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  createEngine,
  type Engine,
  type HostTensor,
  type SpecTree,
  type TensorTree,
} from "../src/index.js";
import { loadOrt } from "../src/session.js";
import { quietCpu } from "./quiet-cpu.js";

type Inputs = Record<string, tf.Tensor>;
const float = (shape: number[], values?: ArrayLike<number>): HostTensor => ({
  dtype: "float32",
  shape,
  data: values
    ? Float32Array.from(values)
    : Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, index) => index / 10),
});
const spec = (...shape: (number | string)[]): SpecTree => ({ dtype: "float32", shape });

let engine: Engine;
let web: Engine;
let eager: Engine;
beforeAll(async () => {
  await quietCpu();
  engine = await createEngine({ threads: 2 });
  web = await createEngine({ runtime: "onnxruntime-web" });
  eager = await createEngine({ runtime: "eager", backend: "cpu" });
});
afterAll(async () => {
  for (const one of [engine, web, eager]) await one.dispose();
});
const engines = () => [engine, web, eager];

const failure = (code: string, ...words: string[]) =>
  expect.objectContaining({
    code,
    message: expect.stringMatching(new RegExp(words.map((word) => `(?=[^]*${word})`).join(""))),
  });

describe("compile refuses", () => {
  const refuse = (fn: (inputs: Inputs) => unknown, inputs: Record<string, SpecTree>) => () =>
    engine.compile(fn as (inputs: Inputs) => TensorTree, { name: "bad", inputs });

  it.each(["dataSync", "arraySync", "print"] as const)("a read by %s", (how) => {
    const fn = ({ x }: Inputs) => {
      const read = { dataSync: "dataSync", arraySync: "arraySync", print: "print" }[how] as "print";
      (x as tf.Tensor)[read]();
      return x;
    };
    expect(refuse(fn, { x: spec("batch") })).toThrowError(
      failure("READ_TRACED", "\\[bad\\]", how === "print" ? "print" : how.replace("Sync", "")),
    );
  });

  it("a kernel without mapping, naming it", () => {
    expect(
      refuse(({ x }) => tf.unique(x as tf.Tensor1D).values, { x: spec("batch") }),
    ).toThrowError(failure("UNMAPPED_KERNEL", "Unique", "defineTracedOp"));
  });

  it.each<[string, string, string, (x: tf.Tensor2D) => tf.Tensor]>([
    ["a size in a constant", "Multiply", "length", (x) => tf.mul(x, x.shape[1])],
    ["its reciprocal", "Multiply", "1 / length", (x) => tf.mul(x, 1 / x.shape[1])],
    ["a mean's gradient", "RealDiv", "length", (x) => tf.grad((t) => tf.mean(t, 1))(x)],
    [
      "a slice's end",
      "Slice",
      "length - 1",
      (x) => tf.slice(x, [0, 0], [x.shape[0], x.shape[1] - 1]),
    ],
    ["positions", "Range|Add", "length", (x) => tf.add(x, tf.range(0, x.shape[1]))],
    ["a branch", "", "operations|inputs", (x) => (x.shape[1] > 60 ? tf.exp(x) : tf.sin(x))],
    ["frozen randomness", "", "constant", (x) => tf.dropout(x, 0.5)],
    ["an output that is a constant", "", "length", (x) => tf.scalar(x.shape[1])],
  ])("%s", (_, kernel, what, fn) => {
    expect(refuse(({ x }) => fn(x as tf.Tensor2D), { x: spec("batch", "length") })).toThrowError(
      failure("SYMBOL_LEAK", kernel, what, "length"),
    );
  });

  it("says where in the function a size leaked", () => {
    const fn = ({ x }: Inputs) => tf.mul(x as tf.Tensor, (x as tf.Tensor).shape[0] as number);
    expect(refuse(fn, { x: spec("batch") })).toThrowError(
      failure("SYMBOL_LEAK", "run\\.test\\.ts:\\d+"),
    );
  });

  it("randomness that would be frozen, in a function without symbols too", () => {
    expect(refuse(({ x }) => tf.dropout(x as tf.Tensor, 0.5), { x: spec(64) })).toThrowError(
      failure("SYMBOL_LEAK", "frozen", "dropout"),
    );
  });

  it("more symbols than can be told apart", () => {
    const names = Array.from({ length: 60 }, (_, index) => `s${index}`);
    expect(refuse(({ x }) => x as tf.Tensor, { x: spec(...names) })).toThrowError(
      failure("SYMBOL_COLLISION"),
    );
  });

  it.each<[string, Record<string, SpecTree>]>([
    ["a size of 1.5", { x: spec(1.5) }],
    ["a nameless dimension", { x: spec("2*batch") }],
  ])("%s", (_, inputs) => {
    expect(refuse(({ x }) => x as tf.Tensor, inputs)).toThrowError(failure("BAD_OPTION"));
  });

  it("a result that is no tree of tensors", () => {
    expect(refuse(() => ({ y: 3 }), { x: spec(2) })).toThrowError(
      failure("TRACE_FAILED", "number"),
    );
    expect(refuse(async ({ x }) => x, { x: spec(2) })).toThrowError(
      failure("TRACE_FAILED", "promise"),
    );
  });
});

describe("compile accepts", () => {
  it("static sizes that are multiples of a stand-in", async () => {
    const f = engine.compile(
      ({ x }: Inputs) =>
        tf.concat([tf.zeros([(x as tf.Tensor).shape[0] as number, 52]), x as tf.Tensor], 1),
      { name: "collide", inputs: { x: spec("batch", 1) } },
    );
    expect((await f.run<HostTensor>({ x: float([2, 1]) })).shape).toEqual([2, 53]);
  });

  it("static sizes that are multiples of a stand-in of the first traces and of those that were to tell", async () => {
    const f = engine.compile(
      ({ x }: Inputs) =>
        tf.concat([tf.zeros([(x as tf.Tensor).shape[0] as number, 3232]), x as tf.Tensor], 1),
      { name: "collide twice", inputs: { x: spec("batch", 1) } },
    );
    // 53 x 61: the first stand-ins of the first two pairs.
    expect((await f.run<HostTensor>({ x: float([2, 1]) })).shape).toEqual([2, 3233]);
  });

  it("sums of symbols that an input names, and solves for what it does not", async () => {
    for (const one of engines()) {
      const f = one.compile(
        ({ past, all }: Inputs) => {
          const [B, P] = (past as tf.Tensor3D).shape;
          const [, T] = (all as tf.Tensor3D).shape;
          const grown = tf.concat([past as tf.Tensor3D, tf.zeros([B, T - P, 2])], 1);
          return { grown: tf.add(grown, all as tf.Tensor3D), flat: tf.reshape(grown, [B * T, 2]) };
        },
        {
          name: "cache",
          inputs: { past: spec("batch", "past", 2), all: spec("batch", "past + new", 2) },
        },
      );
      for (const [past, total] of [
        [0, 1],
        [3, 4],
        [2, 7],
      ] as const) {
        const out = await f.run<{ grown: HostTensor; flat: HostTensor }>({
          past: float([1, past, 2]),
          all: float([1, total, 2]),
        });
        expect(out.grown.shape).toEqual([1, total, 2]);
        expect(out.flat.shape).toEqual([total, 2]);
        expect(Array.from(out.grown.data)).toEqual(
          Array.from({ length: total * 2 }, (_, at) =>
            Math.fround(Math.fround(at / 10) + (at < past * 2 ? Math.fround(at / 10) : 0)),
          ),
        );
      }
    }
  });

  it("a shift by one where the sum is named", async () => {
    const f = engine.compile(
      ({ x }: Inputs) => {
        const [B, S] = (x as tf.Tensor2D).shape;
        return tf.sub(
          tf.slice(x as tf.Tensor2D, [0, 1], [B, S - 1]),
          tf.slice(x as tf.Tensor2D, [0, 0], [B, S - 1]),
        );
      },
      { name: "shift", inputs: { x: spec("batch", "length") }, sizes: ["length-1"] },
    );
    const out = await f.run<HostTensor>({ x: float([1, 4], [1, 3, 6, 10]) });
    expect(Array.from(out.data)).toEqual([2, 3, 4]);
  });

  it("tensors made outside, as constants", async () => {
    const outside = tf.tensor1d([1, 2, 3]);
    const f = engine.compile(({ x }: Inputs) => tf.add(x as tf.Tensor, outside), {
      name: "captured",
      inputs: { x: spec("batch", 3) },
    });
    expect(Array.from((await f.run<HostTensor>({ x: float([1, 3], [1, 1, 1]) })).data)).toEqual([
      2, 3, 4,
    ]);
    expect(Array.from(outside.dataSync())).toEqual([1, 2, 3]);
    outside.dispose();
  });

  it("outputs that are inputs, constants or each other", async () => {
    for (const one of engines()) {
      const f = one.compile(
        ({ x, w }: Inputs) => {
          const y = tf.neg(x as tf.Tensor);
          return { x: x as tf.Tensor, w: w as tf.Tensor, y, again: y, one: tf.scalar(1) };
        },
        { name: "alias", inputs: { x: spec("n") }, constants: { w: float([2], [5, 6]) } },
      );
      const out = await f.run<Record<string, HostTensor>>({ x: float([2], [1, 2]) });
      expect(Object.values(out).map(({ data }) => Array.from(data))).toEqual([
        [1, 2],
        [5, 6],
        [-1, -2],
        [-1, -2],
        [1],
      ]);
    }
  });

  it("leaves TensorFlow.js as it was", () => {
    const before = [tf.getBackend(), tf.memory().numTensors];
    engine.compile(({ x }: Inputs) => tf.grad((t) => tf.exp(t))(x as tf.Tensor), {
      name: "clean",
      inputs: { x: spec("n") },
    });
    expect(() =>
      engine.compile(({ x }: Inputs) => tf.scalar((x as tf.Tensor).dataSync()[0] as number), {
        name: "dirty",
        inputs: { x: spec("n") },
      }),
    ).toThrow();
    expect([tf.getBackend(), tf.memory().numTensors]).toEqual(before);
  });
});

describe("run", () => {
  const inputs = { x: spec("batch", 3), w: spec(3, 2) };
  const product = ({ x, w }: Inputs) => ({ y: tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D) });
  const good = { x: float([2, 3]), w: float([3, 2]) };

  it.each<[string, Record<string, unknown>, string]>([
    ["a missing input", { x: good.x }, "w is missing"],
    ["an unknown input", { ...good, z: good.x }, "z is not among"],
    ["another shape", { ...good, w: float([2, 3]) }, "must be float32 \\[3, 2\\], got"],
    ["another rank", { ...good, x: float([6]) }, "must be float32 \\[batch, 3\\]"],
    ["another type", { ...good, w: { ...good.w, dtype: "int32" } }, "w is int32"],
    ["too few numbers", { ...good, x: { ...good.x, shape: [5, 3] } }, "has 6 numbers"],
    ["no typed array", { ...good, x: { ...good.x, data: new Float64Array(6) } }, "Float32Array"],
  ])("refuses %s", async (_, feeds, words) => {
    for (const one of engines()) {
      const f = one.compile(product, { name: "product", inputs });
      await expect(f.run(feeds as never)).rejects.toThrowError(
        failure("BAD_INPUT", "product", words),
      );
    }
  });

  it("refuses symbols that disagree", async () => {
    const f = engine.compile(
      ({ a, b }: Inputs) => [tf.neg(a as tf.Tensor), tf.neg(b as tf.Tensor)],
      {
        name: "pair",
        inputs: { a: spec("n"), b: spec("n", 2) },
      },
    );
    await expect(f.run({ a: float([3]), b: float([4, 2]) })).rejects.toThrowError(
      failure("BAD_INPUT", "n = 4", "n = 3"),
    );
  });

  it("writes into arrays that it is given", async () => {
    for (const one of engines()) {
      const f = one.compile(product, { name: "product", inputs });
      const expected = await f.run<{ y: HostTensor }>(good);
      const into = { y: float([2, 2], [9, 9, 9, 9]) };
      const out = await f.run<{ y: HostTensor }>(good, { into });
      expect(out.y).toBe(into.y);
      expect(Array.from(into.y.data)).toEqual(Array.from(expected.y.data));
      await expect(f.run(good, { into: { y: float([3, 2]) } })).rejects.toThrowError(
        failure("BAD_INPUT", "into y", "\\[2, 2\\]"),
      );
      await expect(f.run(good, { into: { z: float([2, 2]) } })).rejects.toThrowError(
        failure("BAD_INPUT", "no output"),
      );
    }
  });

  it("allocates the outputs that it is given no arrays for", async () => {
    for (const one of engines()) {
      const f = one.compile(
        ({ x }: Inputs) => ({ a: tf.neg(x as tf.Tensor), b: [tf.square(x as tf.Tensor)] }),
        { name: "two", inputs: { x: spec("n") } },
      );
      const into = { b: [float([2])] };
      const out = await f.run<{ a: HostTensor; b: HostTensor[] }>(
        { x: float([2], [2, 3]) },
        { into },
      );
      expect(Array.from(out.a.data)).toEqual([-2, -3]);
      expect(Array.from(into.b[0]?.data ?? [])).toEqual([4, 9]);
    }
  });

  it("makes a large model once more for export, unless its constants changed", async () => {
    const w = float([3000, 3000]);
    const f = engine.compile(
      ({ x, w: weight }: Inputs) => tf.matMul(x as tf.Tensor2D, weight as tf.Tensor2D),
      {
        name: "large",
        inputs: { x: spec("n", 3000) },
        constants: { w },
      },
    );
    const before = f.onnx() as Uint8Array;
    await f.run({ x: float([1, 3000]) });
    expect(Buffer.compare(f.onnx() as Uint8Array, before)).toBe(0);
    (w.data as Float32Array)[7] = 1;
    expect(() => f.onnx()).toThrowError(failure("BAD_MODEL", "constants"));
  });

  it("refuses to write over its inputs", async () => {
    const f = engine.compile(({ x }: Inputs) => tf.neg(x as tf.Tensor), {
      name: "over",
      inputs: { x: spec("n") },
    });
    const x = float([4]);
    await expect(f.run({ x }, { into: x })).rejects.toThrowError(failure("BAD_INPUT", "memory"));
  });

  it("gives each of many concurrent runs its own answer", async () => {
    for (const one of engines()) {
      const f = one.compile(product, { name: "product", inputs });
      const runs = Array.from({ length: 12 }, (_, index) => {
        const x = float(
          [1 + (index % 3), 3],
          Array.from({ length: 9 }, () => index).slice(0, 3 + 3 * (index % 3)),
        );
        return f.run<{ y: HostTensor }>({ x, w: float([3, 2], [1, 1, 1, 1, 1, 1]) });
      });
      for (const [index, { y }] of (await Promise.all(runs)).entries()) {
        expect(y.shape).toEqual([1 + (index % 3), 2]);
        expect(Array.from(y.data).every((value) => value === 3 * index)).toBe(true);
      }
    }
  });

  it("runs with sizes of 0", async () => {
    const f = engine.compile(
      ({ x }: Inputs) => {
        const [B, S] = (x as tf.Tensor3D).shape;
        return tf.transpose(tf.reshape(x as tf.Tensor3D, [B, S, 2, 2]), [0, 2, 1, 3]);
      },
      { name: "empty", inputs: { x: spec("batch", "length", 4) } },
    );
    expect((await f.run<HostTensor>({ x: float([0, 3, 4]) })).shape).toEqual([0, 2, 3, 2]);
    expect((await f.run<HostTensor>({ x: float([3, 0, 4]) })).shape).toEqual([3, 2, 0, 2]);
  });

  it("names the function and the sizes when the graph fails", async () => {
    const f = engine.compile(
      ({ table, ids }: Inputs) => tf.gather(table as tf.Tensor, ids as tf.Tensor1D),
      { name: "look up", inputs: { table: spec(4, 2), ids: { dtype: "int32", shape: ["n"] } } },
    );
    const ids: HostTensor = { dtype: "int32", shape: [1], data: Int32Array.of(99) };
    await expect(f.run({ table: float([4, 2]), ids })).rejects.toThrowError(
      failure("RUN_FAILED", "look up", "n = 1"),
    );
  });

  it("is unaffected by changes of constants after compiling", async () => {
    for (const one of engines()) {
      const w = float([2], [1, 2]);
      const f = one.compile(
        ({ x, w: weight }: Inputs) => tf.mul(x as tf.Tensor, weight as tf.Tensor),
        {
          name: "scale",
          inputs: { x: spec(2) },
          constants: { w },
        },
      );
      (w.data as Float32Array).fill(0);
      expect(Array.from((await f.run<HostTensor>({ x: float([2], [1, 1]) })).data)).toEqual([1, 2]);
    }
  });

  it("is refused after disposal, and sessions are shared until then", async () => {
    for (const one of engines()) {
      const own = await createEngine({ runtime: one.runtime, backend: "cpu" });
      const options = { name: "first", inputs };
      const [a, b] = [
        own.compile(product, options),
        own.compile(product, { ...options, name: "b" }),
      ];
      if (own.runtime !== "eager") expect(Buffer.compare(a.onnx()!, b.onnx()!)).toBe(0);
      await a.run(good);
      await b.run(good);
      await a.dispose();
      await a.dispose();
      await expect(a.run(good)).rejects.toThrowError(failure("DISPOSED"));
      expect(await b.run(good)).toBeDefined();
      await own.dispose();
      await expect(b.run(good)).rejects.toThrowError(failure("DISPOSED"));
      expect(() => own.compile(product, options)).toThrowError(failure("DISPOSED"));
    }
  });

  it("leaves no tensors behind in the eager runtime", async () => {
    const f = eager.compile(
      ({ x, w }: Inputs) => [tf.exp(tf.add(x as tf.Tensor, w as tf.Tensor)), x as tf.Tensor],
      { name: "tidy", inputs: { x: spec(2) }, constants: { w: float([2]) } },
    );
    const before = tf.memory().numTensors;
    for (let count = 0; count < 3; count += 1) await f.run({ x: float([2]) });
    await f.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
});

describe("createEngine", () => {
  it("falls back where a runtime does not load, and says why", async () => {
    const only = (name: string) => async (wanted: string) => {
      if (wanted !== name) throw new Error(`no ${wanted} here\nat some stack`);
      return import(wanted);
    };
    const fallback = await loadOrt("auto", only("onnxruntime-web"));
    expect(fallback.runtime?.name).toBe("onnxruntime-web");
    expect(fallback.reasons).toEqual(["onnxruntime-node: no onnxruntime-node here"]);
    const none = await loadOrt("auto", only("nothing"));
    expect(none.runtime).toBeUndefined();
    expect(none.reasons).toHaveLength(2);
  });

  it("says what it took", () => {
    expect(engine.description).toBe("compiled, onnxruntime-node on cpu, 2 threads");
    // Who asked for a runtime by name is not told to install another.
    expect(web.description).toMatch(/^compiled, onnxruntime-web/);
    expect(web.description).not.toContain("npm install");
    expect(eager.description).toContain("cpu");
  });

  it("lets threads spin while a graph runs, to the same numbers", async () => {
    const spinning = await createEngine({ threads: 2, spin: true, runtime: "onnxruntime-node" });
    expect(spinning.description).toBe("compiled, onnxruntime-node on cpu, 2 threads that spin");
    const x = float([64, 48]);
    const answers = [];
    for (const one of [engine, spinning]) {
      const f = one.compile(
        ({ x }: { x: tf.Tensor2D }) => ({ y: tf.matMul(tf.softmax(x), x, true, false) }),
        { name: "spin", inputs: { x: { dtype: "float32", shape: ["rows", 48] } } },
      );
      answers.push(await f.run({ x }));
      await f.dispose();
    }
    expect(answers[1]).toEqual(answers[0]);
    await spinning.dispose();
  });

  it("takes the runtime from the environment where no option says otherwise", async () => {
    process.env.CEE_RUNTIME = "onnxruntime-web";
    try {
      const one = await createEngine();
      expect(one.runtime).toBe("onnxruntime-web");
      await one.dispose();
      process.env.CEE_RUNTIME = "tensorrt";
      await expect(createEngine()).rejects.toThrowError(failure("BAD_OPTION", "tensorrt"));
    } finally {
      delete process.env.CEE_RUNTIME;
    }
  });

  it("refuses a provider that the runtime lacks when the function first runs", async () => {
    const one = await createEngine({ runtime: "onnxruntime-node", providers: ["nonsense"] });
    const f = one.compile(({ x }: Inputs) => tf.neg(x as tf.Tensor), {
      name: "f",
      inputs: { x: spec(2) },
    });
    await expect(f.run({ x: float([2]) })).rejects.toThrowError(failure("RUN_FAILED", "nonsense"));
  });
});

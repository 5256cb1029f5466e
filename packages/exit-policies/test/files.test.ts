import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import * as fc from "fast-check";
import * as v from "valibot";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  classify,
  createRegistry,
  defineExitStrategy,
  type ExitRecord,
  entropy,
  type HostParams,
  loadStrategy,
  readRecord,
  record,
  replay,
  saveStrategy,
  toObserver,
  writeRecord,
} from "../src/index.js";
import { decodeTensors, encodeTensors } from "../src/safetensors.js";
import { fixedExits } from "../src/testing/index.js";
import { gradedLogits, random } from "./fixtures.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "records-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const code = (value: string) => expect.objectContaining({ code: value });

/** A learned rule: exits where a linear map of the pooled state is positive. */
const linear = defineExitStrategy({
  name: "linear-rule",
  options: v.strictObject({ threshold: v.optional(v.number(), 0) }),
  needs: ["pooled"],
  tasks: ["classification"],
  knob: { option: "threshold", grid: [-1, 0, 1], direction: "lower-is-faster" },
  params({ hidden }, _, seed) {
    const next = random(seed);
    const weight = Float32Array.from({ length: hidden }, () => 2 * next() - 1);
    return {
      "probe.weight": { dtype: "float32", shape: [hidden, 1], data: weight },
      "probe.bias": { dtype: "float32", shape: [1], data: Float32Array.of(0) },
    };
  },
  observe: ({ pooled }, { params }) =>
    tf.squeeze<tf.Tensor1D>(
      tf.add(tf.matMul(pooled, params["probe.weight"] as tf.Tensor2D), params["probe.bias"]),
      [1],
    ),
  start: () => ({}),
  decide: (observed, state, { options }) => ({
    exit: (observed[0] as number) > Math.fround(options.threshold),
    state,
  }),
});

async function made(seed = 3): Promise<ExitRecord> {
  const runner = await fixedExits(gradedLogits(seed, 5, 4)).open(toObserver(entropy()));
  return record(runner, [[0, 1], [2], [3, 4]], {
    ids: ["a", "b", "ü", "d", "e"],
    labels: [0, 1, Number.NaN, 1, 0],
  });
}

describe("a record", () => {
  it("joins its batches in order and says how far it is", async () => {
    const logits = gradedLogits(3, 5, 4);
    const runner = await fixedExits(logits).open(toObserver(entropy()));
    const seen: number[] = [];
    const joined = await record(
      runner,
      (async function* () {
        yield [0, 1];
        yield [2, 3, 4];
      })(),
      { ids: [..."abcde"], labels: [0, 0, 0, 0, 0], onProgress: (rows) => seen.push(rows) },
    );
    expect([...joined.logits]).toEqual(logits.flat(2));
    expect(seen).toEqual([2, 5]);
  });

  it("refuses ids that do not fit its rows", async () => {
    const runner = await fixedExits(gradedLogits(3, 5, 4)).open(toObserver(entropy()));
    const of = (ids: string[], labels: number[]) => record(runner, [[0, 1]], { ids, labels });
    await expect(of(["a"], [0])).rejects.toThrowError("more rows than the 1 ids");
    await expect(of(["a", "b", "c"], [0, 0, 0])).rejects.toThrowError("hold 2 rows, got 3 ids");
    await expect(of(["a", "b"], [0])).rejects.toThrowError(code("BAD_RECORD"));
  });

  it("comes back from its file bit for bit", async () => {
    const [before, path] = [await made(), join(folder, "plain.record")];
    await writeRecord(path, before);
    const after = await readRecord(path);
    expect(after).toEqual(before);
    expect([...replay(after, entropy()).exitLayers]).toEqual([
      ...replay(before, entropy()).exitLayers,
    ]);
    expect(await readdir(folder)).toEqual(["plain.record"]);
  });

  it("is refused by name wherever its file was cut off", async () => {
    const path = join(folder, "cut.record");
    await writeRecord(path, await made());
    const whole = await readFile(path);
    for (let length = 0; length < whole.length; length += 7) {
      await writeFile(path, whole.subarray(0, length));
      await expect(readRecord(path)).rejects.toThrowError(code("BAD_FILE"));
    }
    await writeFile(path, Buffer.concat([whole, Buffer.from([0])]));
    await expect(readRecord(path)).rejects.toThrowError(/should have \d+ bytes by its header, got/);
  });

  it("is refused when its header lies", async () => {
    const path = join(folder, "lies.record");
    const lie = async (header: unknown, length?: bigint) => {
      const text = Buffer.from(JSON.stringify(header));
      const prefix = Buffer.alloc(16);
      prefix.write("CEEREC01");
      prefix.writeBigUInt64LE(length ?? BigInt(text.length), 8);
      await writeFile(path, Buffer.concat([prefix, text]));
      await expect(readRecord(path)).rejects.toThrowError(code("BAD_FILE"));
    };
    const shape = { task: "classification", depth: 2, hidden: 4, classes: 2 };
    await lie({ shape, ids: ["a"], observedWidth: 1 });
    await lie({ shape: { ...shape, depth: 1e300 }, ids: ["a"], observedWidth: 1 });
    await lie({ shape: { ...shape, depth: 2 ** 52 }, ids: ["a"], observedWidth: 2 ** 52 });
    await lie({ shape: { ...shape, task: "x" }, ids: [], observedWidth: 1 });
    await lie({ shape, ids: [1], observedWidth: 1 });
    await lie({ shape, ids: [], observedWidth: -1 });
    await lie([], undefined);
    await lie({}, 2n ** 63n);
    await expect(readRecord(join(folder, "absent"))).rejects.toThrowError(code("BAD_FILE"));
    await expect(readRecord(folder)).rejects.toThrowError(code("BAD_FILE"));
  });

  it("that does not fit itself is neither replayed nor written", async () => {
    const short = { ...(await made()), labels: new Float32Array(2) };
    expect(() => replay(short, entropy())).toThrowError(code("BAD_RECORD"));
    await expect(writeRecord(join(folder, "short"), short)).rejects.toThrowError(
      "labels must hold 5",
    );
  });
});

describe("a saved strategy", () => {
  const registry = createRegistry([linear, entropy]);
  const shape = { task: "classification", depth: 4, hidden: 4, classes: 2 } as const;
  const strategy = linear({ threshold: 0.2 });
  const params = linear.definition.params?.(shape, { threshold: 0.2 }, 9) as HostParams;
  const trained = { strategy, params, modelShape: shape, phasesCompleted: ["probe"], seed: 9 };
  const at = (name: string) => join(folder, name);

  it("loads with identical exits and everything that was said of it", async () => {
    const source = { name: "exit-strategy-linear", version: "1.2.3" };
    await saveStrategy(at("linear"), { ...trained, package: source });
    const loaded = await loadStrategy(at("linear"), registry);
    expect(loaded).toEqual({ ...trained, strategy: loaded.strategy, package: source });
    expect(loaded.strategy.options).toEqual({ threshold: 0.2 });
    const model = fixedExits(gradedLogits(3, 20, 4));
    const exits = [];
    for (const one of [trained, loaded]) {
      const runner = await model.open(toObserver(one.strategy, one.params));
      const rows = Array.from({ length: 20 }, (_, row) => row);
      exits.push([...(await classify(runner, rows, one.strategy)).exitLayers]);
    }
    expect(exits[0]).toEqual(exits[1]);
    expect(new Set(exits[0]).size).toBeGreaterThan(1);
    expect((await readdir(at("linear"))).sort()).toEqual([
      "exit-strategy.json",
      "exit-strategy.safetensors",
    ]);
  });

  it("may be written over, and may have no parameters", async () => {
    await saveStrategy(at("linear"), { ...trained, phasesCompleted: ["probe", "more"] });
    expect((await loadStrategy(at("linear"), registry)).phasesCompleted).toEqual(["probe", "more"]);
    await saveStrategy(at("plain"), { ...trained, strategy: entropy(), params: {} });
    expect((await loadStrategy(at("plain"), registry)).params).toEqual({});
  });

  it("names the tensor that does not fit", async () => {
    const { "probe.bias": _, ...rest } = params;
    await expect(saveStrategy(at("x"), { ...trained, params: rest })).rejects.toThrowError(
      /tensor "probe\.bias" .* must be float32 \[1\] for this model, got none/,
    );
    await saveStrategy(at("other"), trained);
    const path = join(at("other"), "exit-strategy.json");
    const config = JSON.parse(await readFile(path, "utf8"));
    const rewrite = (changes: object) => writeFile(path, JSON.stringify({ ...config, ...changes }));
    await rewrite({ modelShape: { ...shape, hidden: 8 } });
    await expect(loadStrategy(at("other"), registry)).rejects.toThrowError(
      /\[linear-rule\] the tensor "probe\.weight" .* float32 \[8, 1\] for this model, got float32 \[4, 1\]/,
    );
    for (const [changes, expected] of [
      [{ apiVersion: 2 }, "API_MISMATCH"],
      [{ name: "linear-ruel" }, "UNKNOWN_STRATEGY"],
      [{ name: 3 }, "BAD_FILE"],
      [{ options: { threshold: "high" } }, "INVALID_OPTIONS"],
      [{ seed: -1 }, "BAD_FILE"],
      [{ phasesCompleted: "all" }, "BAD_FILE"],
      [{ modelShape: null }, "BAD_FILE"],
      [{ tensors: undefined }, "BAD_FILE"],
    ] as const) {
      await rewrite(changes);
      await expect(loadStrategy(at("other"), registry)).rejects.toThrowError(code(expected));
    }
    await writeFile(path, "{");
    await expect(loadStrategy(at("other"), registry)).rejects.toThrowError(code("BAD_FILE"));
    await rm(path);
    await expect(loadStrategy(at("other"), registry)).rejects.toThrowError("could not be read");
  });

  it("is refused when its two files are not of one piece", async () => {
    await saveStrategy(at("mixed"), trained);
    const bias = { dtype: "float32", shape: [1], data: Float32Array.of(5) } as const;
    await writeFile(
      join(at("mixed"), "exit-strategy.safetensors"),
      encodeTensors("x", { ...params, "probe.bias": bias }),
    );
    await expect(loadStrategy(at("mixed"), registry)).rejects.toThrowError(
      "Save the strategy again",
    );
  });

  it("leaves no half-written file where it cannot be written", async () => {
    await writeFile(at("occupied"), "a file");
    await expect(saveStrategy(at("occupied"), trained)).rejects.toThrowError(code("BAD_FILE"));
    expect(await readFile(at("occupied"), "utf8")).toBe("a file");
  });
});

describe("safetensors", () => {
  it("come back as they were", () =>
    fc.assert(
      fc.property(
        fc.dictionary(
          fc
            .string({ minLength: 1 })
            .filter((name) => !["__metadata__", "__proto__"].includes(name)),
          fc.record({
            whole: fc.boolean(),
            shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
          }),
        ),
        (plan) => {
          const tensors: HostParams = Object.fromEntries(
            Object.entries(plan).map(([name, { whole, shape }]) => {
              const size = shape.reduce((a, b) => a * b, 1);
              return [
                name,
                whole
                  ? {
                      dtype: "int32",
                      shape,
                      data: Int32Array.from({ length: size }, (_, i) => i - 3),
                    }
                  : {
                      dtype: "float32",
                      shape,
                      data: Float32Array.from({ length: size }, Math.sqrt),
                    },
              ];
            }),
          );
          expect({ ...decodeTensors("x", encodeTensors("x", tensors)) }).toEqual({ ...tensors });
        },
      ),
      { numRuns: 60, seed: 3 },
    ));

  it("are refused when their header lies, naming the tensor", () => {
    const file = (header: unknown, data = 8, length?: bigint) => {
      const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
      const bytes = Buffer.alloc(8 + text.length + data);
      bytes.writeBigUInt64LE(length ?? BigInt(text.length));
      text.copy(bytes, 8);
      return bytes;
    };
    const one = { dtype: "F32", shape: [2], data_offsets: [0, 8] };
    expect(Object.keys(decodeTensors("x", file({ w: one, __metadata__: { a: "b" } })))).toEqual([
      "w",
    ]);
    for (const [bytes, message] of [
      [new Uint8Array(3), "too short"],
      [file({ w: one }, 8, 2n ** 60n), "header should take"],
      [file("{"), "not JSON"],
      [file([1]), "JSON object"],
      [file({ w: null }), '"w" must be F32 or I32'],
      [file({ w: { ...one, dtype: "F64" } }), "got F64"],
      [file({ w: { ...one, shape: [-2] } }), "no usable shape"],
      [file({ w: { ...one, shape: [2 ** 40, 2 ** 40] } }), "no usable shape"],
      [file({ w: { ...one, shape: [3] } }), "must take 12 of the 8 bytes"],
      [file({ w: { ...one, data_offsets: [8, 16] } }), "offsets [8,16]"],
      [file({ w: { ...one, data_offsets: [8, 0] } }), "offsets [8,0]"],
      [file({ w: { ...one, data_offsets: "0" } }), "offsets"],
      [file({ w: one, u: one }), "overlap"],
      [file({ w: one }, 12), "take 8 bytes, got 12"],
    ] as const)
      expect(() => decodeTensors("x", bytes)).toThrowError(message);
  });

  it("hold neither booleans nor tensors whose data do not fit", () => {
    const data = new Uint8Array(1);
    expect(() => encodeTensors("x", { w: { dtype: "bool", shape: [1], data } })).toThrowError(
      '"w"',
    );
    const two = new Float32Array(2);
    expect(() =>
      encodeTensors("x", { w: { dtype: "float32", shape: [3], data: two } }),
    ).toThrowError("float32 [3] with 2");
  });
});

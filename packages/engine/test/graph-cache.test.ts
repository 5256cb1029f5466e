/** @file What the cache of graphs keeps, finds again, and survives. */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import * as tf from "@tensorflow/tfjs";
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createGraphCache } from "../src/graph-cache.js";
import {
  createEngine,
  type EngineOptions,
  type HostTensor,
  type TensorTree,
} from "../src/index.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "cee-graphs-"));
});
afterEach(() => rm(folder, { recursive: true }));
afterAll(() => vi.unstubAllEnvs());

type Inputs = Record<"x" | "w", tf.Tensor2D>;
const spec = { dtype: "float32", shape: ["rows", 3] } as const;
const square = { dtype: "float32", shape: [3, 3] } as const;
const numbers = (shape: number[]): HostTensor => ({
  dtype: "float32",
  shape,
  data: Float32Array.from({ length: (shape[0] as number) * (shape[1] as number) }, (_, i) =>
    Math.sin(i + 1),
  ),
});

/** Gradients and a fused operation, so that the runtime has something to rewrite. */
const step = ({ x, w }: Inputs): TensorTree => {
  const loss = (weight: tf.Tensor2D) =>
    tf.sum(tf.softmax(tf.matMul(tf.relu(tf.matMul(x, weight, false, true)), weight))) as tf.Scalar;
  return { y: tf.softmax(tf.matMul(x, w)), gradient: tf.grad(loss as never)(w) };
};
const other = ({ x, w }: Inputs): TensorTree => ({
  y: tf.neg(tf.matMul(x, w)),
  gradient: tf.mul(w, 2),
});

/** Runs once in an engine of its own, as another process would. */
async function run(graphCache: EngineOptions["graphCache"], fn = step, constant = false) {
  const engine = await createEngine({
    threads: 1,
    ...(graphCache === undefined ? {} : { graphCache }),
  });
  const w = numbers([3, 3]);
  try {
    const made = engine.compile(fn, {
      name: "step",
      inputs: constant ? { x: spec } : { x: spec, w: square },
      ...(constant ? { constants: { w } } : {}),
    });
    const found = await made.run<Record<"y" | "gradient", HostTensor>>({
      x: numbers([4, 3]),
      ...(constant ? {} : { w }),
    });
    return [...found.y.data, ...found.gradient.data];
  } finally {
    await engine.dispose();
  }
}

const files = async () => (await readdir(folder)).map((name) => path.join(folder, name));
const only = async () => {
  const found = await files();
  expect(found).toHaveLength(1);
  return found[0] as string;
};

describe("the graph cache", () => {
  it("changes no number, cold or warm", async () => {
    const without = await run(false);
    expect(await files()).toEqual([]);
    expect(await run(folder)).toEqual(without);
    const file = await only();
    const bytes = await readFile(file);
    expect(await run(folder)).toEqual(without);
    expect(await readFile(await only())).toEqual(bytes);
  });

  it("runs what it kept", async () => {
    await run(folder);
    const file = await only();
    await run(folder, other);
    const second = (await files()).find((name) => name !== file) as string;
    // Under the name of the first, the second graph answers in its place.
    await writeFile(file, await readFile(second));
    expect(await run(folder)).toEqual(await run(false, other));
  });

  it.each([
    ["cut off", (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
    ["changed in one bit", (bytes: Buffer) => flipped(bytes)],
    ["empty", () => Buffer.alloc(0)],
    ["whole, but no graph", () => signed(Buffer.from("no graph"))],
  ])("makes a file again that is %s", async (_, damage) => {
    const without = await run(folder);
    const file = await only();
    const bytes = await readFile(file);
    await writeFile(file, damage(bytes));
    expect(await run(folder)).toEqual(without);
    expect(await readFile(await only())).toEqual(bytes);
  });

  it("does without a folder that can't be made", async () => {
    const taken = path.join(folder, "taken");
    await writeFile(taken, "a file");
    expect(await run(path.join(taken, "graphs"))).toEqual(await run(false));
  });

  it("keeps no graph with weights", async () => {
    await run(folder, step, true);
    expect(await files()).toEqual([]);
  });

  it("is where CEE_CACHE says, unless CEE_GRAPH_CACHE is off", async () => {
    vi.stubEnv("CEE_CACHE", folder);
    vi.stubEnv("CEE_GRAPH_CACHE", "off");
    await run(undefined);
    expect(await files()).toEqual([]);
    vi.stubEnv("CEE_GRAPH_CACHE", "");
    await run(undefined);
    expect(await readdir(path.join(folder, "graphs"))).toHaveLength(1);
  });

  it("still says why a graph is refused", async () => {
    const cache = createGraphCache({ folder, setting: [] });
    const make = () => Promise.reject(new Error("refused"));
    await expect(cache.session("a", 1, { load: make, make })).rejects.toThrow("refused");
    expect(await files()).toEqual([]);
  });

  it("drops what was not used for longest once the folder is full", async () => {
    const cache = createGraphCache({ folder, setting: [], limit: 2 * 132 });
    const kept = (key: string) =>
      cache.session(key, 1, {
        load: async () => "loaded",
        make: async (file?: string) => {
          if (file) await writeFile(file, Buffer.alloc(100, key));
          return "made";
        },
      });
    await kept("a");
    const first = await only();
    await kept("b");
    const second = (await files()).find((name) => name !== first) as string;
    // "a" was used after "b".
    await utimes(second, new Date(1), new Date(1));
    await utimes(first, new Date(2), new Date(2));
    expect(await kept("a")).toBe("loaded");
    expect((await stat(first)).mtimeMs).toBeGreaterThan(2);
    await kept("c");
    expect(await files()).toHaveLength(2);
    expect([await kept("a"), await kept("b")]).toEqual(["loaded", "made"]);
  });

  it("keeps settings apart", async () => {
    const maker = {
      load: async () => "loaded",
      make: async (file?: string) => {
        if (file) await writeFile(file, "graph");
        return "made";
      },
    };
    const at = (setting: string) =>
      createGraphCache({ folder, setting: [setting] }).session("a", 1, maker);
    expect([await at("1.30"), await at("1.31"), await at("1.30")]).toEqual([
      "made",
      "made",
      "loaded",
    ]);
  });
});

function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy[20] = (copy[20] as number) ^ 1;
  return copy;
}

function signed(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, createHash("sha256").update(bytes).digest()]);
}

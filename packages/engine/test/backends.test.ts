/** @file Choosing a TensorFlow.js backend: order, reasons, refusals, and the kernel that wasm lacks. */
import * as tf from "@tensorflow/tfjs";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { useBackend } from "../src/backends.js";

const printed: unknown[][] = [];

beforeEach(() => {
  printed.length = 0;
  for (const method of ["log", "warn", "error"] as const) {
    vi.spyOn(console, method).mockImplementation((...line) => void printed.push(line));
  }
});

afterEach(() => {
  if (tf.findBackendFactory("tensorflow")) tf.removeBackend("tensorflow");
  vi.restoreAllMocks();
  expect(printed).toEqual([]);
});

/** Loads packages as Node does, but for the native ones, which behave as the test says. */
const loader = (native: Record<string, () => unknown>) => async (specifier: string) => {
  if (specifier in native) return native[specifier]!();
  if (specifier.startsWith("@tensorflow/tfjs-node")) throw new Error(`Cannot find ${specifier}`);
  return import(specifier);
};

const CpuBackend = tf.findBackend("cpu").constructor as new () => tf.KernelBackend;

/** What importing a native package does: it registers the backend "tensorflow". */
const registersNative = () => {
  if (!tf.findBackendFactory("tensorflow")) {
    tf.registerBackend("tensorflow", () => Object.assign(new CpuBackend(), { firstUse: false }));
  }
  return { version: "4.22.0" };
};

describe("useBackend", () => {
  it("takes wasm where no native package is installed, and says what would be faster", async () => {
    const log = vi.fn();
    const chosen = await useBackend("auto", { log, load: loader({}), nodeVersion: "v20.19.0" });
    expect(chosen.name).toBe("wasm");
    expect(tf.getBackend()).toBe("wasm");
    expect(log.mock.calls).toEqual([[chosen.description]]);
    expect(chosen.description).toBe(
      "TensorFlow.js backend: wasm. Faster: install @tensorflow/tfjs-node or @tensorflow/tfjs-node-gpu.",
    );
    expect(chosen.unavailable).toEqual({
      "tfjs-node-gpu": "Cannot find @tensorflow/tfjs-node-gpu",
      "tfjs-node": "Cannot find @tensorflow/tfjs-node",
    });
  });

  it("prefers the GPU package, then the native one", async () => {
    const both = {
      "@tensorflow/tfjs-node-gpu": registersNative,
      "@tensorflow/tfjs-node": registersNative,
    };
    const options = { load: loader(both), nodeVersion: "22.1.0" };
    expect((await useBackend("auto", options)).name).toBe("tfjs-node-gpu");
    expect(tf.getBackend()).toBe("tensorflow");
    expect((await useBackend("tfjs-node", options)).name).toBe("tfjs-node");
  });

  it("goes on to the next one whatever way a native package fails", async () => {
    const load = loader({
      "@tensorflow/tfjs-node-gpu": () => {
        throw "libcudart.so.11.0: cannot open shared object file";
      },
      "@tensorflow/tfjs-node": () => {
        tf.registerBackend("tensorflow", () => {
          throw new Error("no addon");
        });
      },
    });
    const chosen = await useBackend("auto", { load, nodeVersion: "20.19.0" });
    expect(chosen.name).toBe("wasm");
    expect(chosen.unavailable["tfjs-node-gpu"]).toMatch(/libcudart/);
    expect(chosen.unavailable["tfjs-node"]).toMatch(/could not start/);
    // TensorFlow.js itself reports a backend that throws while it starts.
    expect(printed.splice(0).flat().join(" ")).toMatch(/tensorflow failed.*no addon/s);
  });

  it("uses a native package that the caller has imported", async () => {
    const lib = registersNative();
    const chosen = await useBackend("tfjs-node", { lib, load: loader({}), nodeVersion: "20.19.0" });
    expect(chosen.name).toBe("tfjs-node");
    expect(tf.getBackend()).toBe("tensorflow");
  });

  it("refuses native packages on a Node release that they have no binaries for", async () => {
    for (const name of ["tfjs-node", "tfjs-node-gpu"] as const) {
      const load = vi.fn(loader({ [`@tensorflow/${name}`]: registersNative }));
      const refused = useBackend(name, { load, nodeVersion: "v24.1.0" });
      await expect(refused).rejects.toMatchObject({ code: "NO_RUNTIME" });
      await expect(refused).rejects.toThrow(
        /Node 24 has no binaries.*util\.isNullOrUndefined.*Use Node 20 or 22, or the backend wasm/,
      );
      expect(load).not.toHaveBeenCalled();
    }
    const chosen = await useBackend("auto", { load: loader({}), nodeVersion: "v24.1.0" });
    expect(chosen.name).toBe("wasm");
    expect(chosen.unavailable["tfjs-node"]).toMatch(/Node 24/);
    expect(chosen.description).toMatch(/on Node 20 or 22\.$/);
  });

  it("says why a backend asked for by name is not there, and what to do", async () => {
    const asked = useBackend("tfjs-node", { load: loader({}), nodeVersion: "20.19.0" });
    await expect(asked).rejects.toThrow(
      "[useBackend] the backend tfjs-node is not available: Cannot find @tensorflow/tfjs-node. " +
        "Install @tensorflow/tfjs-node@4.22.0 and allow its install script, or use the backend wasm.",
    );
    await expect(useBackend("webgl" as "cpu")).rejects.toMatchObject({ code: "BAD_OPTION" });
  });

  it("falls back to cpu, without the banner of TensorFlow.js", async () => {
    const load = async () => {
      throw new Error("blocked");
    };
    const chosen = await useBackend("auto", { load, nodeVersion: "20.19.0" });
    expect(chosen.name).toBe("cpu");
    expect(tf.tidy(() => tf.add(tf.tensor1d([1, 2]), 1).dataSync())).toEqual(Float32Array.of(2, 3));
    expect(Object.keys(chosen.unavailable)).toEqual(["tfjs-node-gpu", "tfjs-node", "wasm"]);
  });
});

describe("wasm", () => {
  it("sums segments as cpu does, with repeated and out-of-range indices", async () => {
    const run = () =>
      tf.tidy(() => {
        const x = tf.tensor2d(
          Array.from({ length: 18 }, (_, n) => Math.sin(n)),
          [6, 3],
        );
        const ids = tf.tensor1d([2, 0, 2, 2, -1, 7], "int32");
        const deep = tf.reshape(x, [2, 3, 3]);
        return [
          ...tf.unsortedSegmentSum(x, ids, 4).dataSync(),
          ...tf.unsortedSegmentSum(tf.cast(tf.mul(x, 9), "int32"), ids, 4).dataSync(),
          ...tf.unsortedSegmentSum(deep, tf.tensor1d([1, 1], "int32"), 2).dataSync(),
        ];
      });
    await useBackend("cpu");
    const expected = run();
    await useBackend("wasm");
    expect(run()).toBeAllclose(expected, { rtol: 1e-6 });
  });

  it("differentiates an embedding look-up", async () => {
    await useBackend("wasm");
    const gradient = tf.tidy(() => {
      const look = (table: tf.Tensor) =>
        tf.sum(
          tf.mul(
            tf.gather(
              table,
              tf.tensor2d(
                [
                  [3, 1],
                  [3, 0],
                ],
                [2, 2],
                "int32",
              ),
            ),
            2,
          ),
        );
      return tf
        .grad(look)(tf.zeros([4, 2]))
        .dataSync();
    });
    expect(gradient).toEqual(Float32Array.of(2, 2, 2, 2, 0, 0, 4, 4));
  });
});

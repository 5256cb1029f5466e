/** @file The engine's benchmark on a tiny model: every candidate computes the same loss, and bars are judged. */
import { expect, it } from "vitest";
import { describeEngineBench, runEngineBench } from "../src/engine/index.js";
import { describePretrainingBench, runPretrainingBench } from "../src/engine/pretraining.js";
import { findTorch, openblasCore } from "../src/engine/torch.js";
import { recorded } from "./helpers.js";

const tiny = { widths: [128], depth: 2, heads: 2, vocabulary: 50, batch: 4, length: 6, threads: 1 };

it("times the compiled form, wasm and, where it is installed, PyTorch", async () => {
  const { hooks, printed } = recorded();
  const result = await runEngineBench({ ...tiny, rounds: 2, wasmRounds: 1 }, hooks);
  const { timings, bars, notes } = result;
  const torch = await findTorch();
  const candidates = (work: string) =>
    timings.filter((timing) => timing.work === work).map(({ candidate }) => candidate);
  // Losses that differ between candidates would have thrown.
  const expected = ["compiled", ...("python" in torch ? ["PyTorch"] : []), "tfjs wasm, 1 thread"];
  expect(candidates("forward")).toEqual(expected);
  expect(candidates("training step")).toEqual(expected);
  expect(timings.every(({ median }) => median > 0)).toBe(true);
  expect(timings[0]!.ratio).toBe(1);
  expect(bars.map(({ limit }) => limit)).toContain("at least 10");
  if ("missing" in torch) expect(notes).toEqual([torch.missing]);
  expect(describeEngineBench(result)).toContain("| 128 | training step | compiled |");
  expect(printed()).toMatch(/^training step at width 128, compiled: \d+\.\d ms$/m);
});

it("times a step of pre-training, and says where its time goes", async () => {
  const { hooks } = recorded();
  const sizes = { depth: 3, width: 16, heads: 2, vocabulary: 50, batch: 4, length: 16, threads: 1 };
  const result = await runPretrainingBench({ ...sizes, rounds: 2 }, hooks);
  const { timings, kernels, bars, notes } = result;
  const torch = await findTorch();
  // Losses that differ between candidates would have thrown.
  expect(timings.map(({ candidate }) => candidate)).toEqual([
    "compiled",
    ...("python" in torch ? ["PyTorch"] : []),
  ]);
  expect(bars).toHaveLength(timings.length - 1);
  expect(kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6);
  const gemm = kernels.find(({ kernel }) => kernel === "Gemm");
  expect(gemm).toMatchObject({ isMatrixProduct: true });
  // Profiled once a step, whatever the number of steps.
  expect(kernels.every(({ calls }) => Number.isInteger(calls))).toBe(true);
  if ("missing" in torch) expect(notes).toEqual([torch.missing]);
  expect(describePretrainingBench(result)).toMatch(
    /Outside matrix products: \d+\.\d % of the kernels' time/,
  );
});

it("says what is missing where there is no Python, or no PyTorch in it", async () => {
  const found = await findTorch(["no-such-python", process.execPath]);
  expect(found).toHaveProperty("missing");
  expect("missing" in found && found.missing).toMatch(
    /^PyTorch was not found \(there is no no-such-python; .+\)\. On Debian: apt-get install python3-torch libopenblas0-pthread\.$/,
  );
});

it("asks OpenBLAS for the kernels of the processor, whose name it may not know", () => {
  const flags = (names: string) => `model name\t: A new one\nflags\t\t: ${names}\n`;
  const core = (names: string) => openblasCore(flags(names)).OPENBLAS_CORETYPE;
  expect(core("sse2 avx2 fma avx512f avx512bw avx512dq avx512vl")).toBe("SKYLAKEX");
  expect(core("sse2 avx2 fma avx512f")).toBe("HASWELL");
  expect(core("sse2 avx")).toBeUndefined();
  expect(openblasCore("")).toEqual({});
});

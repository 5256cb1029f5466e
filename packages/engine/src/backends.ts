/** @file Chooses the TensorFlow.js backend of the eager runtime. No other file names a backend. */
import * as tf from "@tensorflow/tfjs";
import { EngineError } from "./errors.js";
import type { BackendName } from "./types.js";

export interface BackendOptions {
  /**
   * `@tensorflow/tfjs-node` or `@tensorflow/tfjs-node-gpu`, already imported: used as the native backend instead of
   * looking for an installed one.
   */
  readonly lib?: unknown;
  /** Called with the line that says what was taken. */
  readonly log?: (line: string) => void;
  /** @default the running Node's */
  readonly nodeVersion?: string;
  /** Imports a package by name. @default the language's `import()` */
  readonly load?: (specifier: string) => Promise<unknown>;
}

export interface ChosenBackend {
  readonly name: BackendName;
  /** One line: what was taken, and what to install for more speed. */
  readonly description: string;
  /** Why each faster backend was not available. */
  readonly unavailable: Readonly<Partial<Record<BackendName, string>>>;
}

const FASTEST_FIRST: readonly BackendName[] = ["tfjs-node-gpu", "tfjs-node", "wasm", "cpu"];

/** The last Node release line that the native packages (4.22.0) have binaries for and run on. */
const LAST_NATIVE_NODE = 22;

/**
 * Switches TensorFlow.js to a backend: the one named, or with `"auto"` the fastest that loads.
 * @throws EngineError `NO_RUNTIME` when the named backend does not load, `BAD_OPTION` for an unknown name.
 */
export async function useBackend(
  name: "auto" | BackendName,
  options: BackendOptions = {},
): Promise<ChosenBackend> {
  if (name !== "auto" && !FASTEST_FIRST.includes(name)) {
    throw new EngineError(
      "BAD_OPTION",
      `[useBackend] the backend must be auto or one of ${FASTEST_FIRST.join(", ")}, got "${name}".`,
    );
  }
  const unavailable: Partial<Record<BackendName, string>> = {};
  for (const candidate of name === "auto" ? FASTEST_FIRST : [name]) {
    try {
      await start(candidate, options);
    } catch (cause) {
      // A native package can fail in any way at all (no addon, wrong glibc, no CUDA): all mean "not available".
      const reason = firstLine(cause);
      if (name !== "auto") {
        throw new EngineError(
          "NO_RUNTIME",
          `[useBackend] the backend ${candidate} is not available: ${reason}. ${remedy(candidate, options)}`,
          { cause },
        );
      }
      unavailable[candidate] = reason;
      continue;
    }
    const description = describe(candidate, options);
    options.log?.(description);
    return { name: candidate, description, unavailable };
  }
  throw new EngineError(
    "NO_RUNTIME",
    `[useBackend] no backend loads: ${Object.entries(unavailable)
      .map(([backend, reason]) => `${backend}: ${reason}`)
      .join("; ")}. Reinstall @tensorflow/tfjs.`,
  );
}

async function start(name: BackendName, options: BackendOptions): Promise<void> {
  const load = options.load ?? ((specifier: string) => import(specifier));
  if (name === "cpu") {
    silenceCpuBanner();
    await activate("cpu");
  } else if (name === "wasm") {
    await prepareWasm(await load("@tensorflow/tfjs-backend-wasm"));
    await activate("wasm");
  } else {
    const major = nodeMajor(options);
    if (major > LAST_NATIVE_NODE) {
      throw new Error(
        `Node ${major} has no binaries of @tensorflow/${name} and lacks util.isNullOrUndefined, which it calls`,
      );
    }
    if (!options.lib) await load(`@tensorflow/${name}`);
    await activate("tensorflow");
  }
}

async function activate(registeredName: string): Promise<void> {
  if (!(await tf.setBackend(registeredName))) {
    throw new Error(`TensorFlow.js could not start its backend "${registeredName}"`);
  }
}

async function prepareWasm(module: unknown): Promise<void> {
  const { setWasmPaths } = module as typeof import("@tensorflow/tfjs-backend-wasm");
  if (typeof process === "object" && process.versions?.node) {
    const { createRequire } = await import("node:module");
    const entry = createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm");
    try {
      setWasmPaths(entry.replace(/[^/\\]*$/, ""));
    } catch (error) {
      // It refuses once the backend runs, whose files have then been found.
      if (!tf.findBackend("wasm")) throw error;
    }
  }
  if (!tf.getKernel("UnsortedSegmentSum", "wasm")) {
    tf.registerKernel({
      kernelName: "UnsortedSegmentSum",
      backendName: "wasm",
      kernelFunc: unsortedSegmentSumInWasm as unknown as tf.KernelFunc,
    });
  }
}

/** The backend lacks this kernel, and the gradient of an embedding look-up needs it. */
function unsortedSegmentSumInWasm({
  inputs: { x, segmentIds },
  attrs: { numSegments },
  backend,
}: {
  inputs: { x: tf.TensorInfo; segmentIds: tf.TensorInfo };
  attrs: { numSegments: number };
  backend: import("@tensorflow/tfjs-backend-wasm").BackendWasm;
}): tf.TensorInfo {
  const rest = x.shape.slice(segmentIds.shape.length);
  const width = rest.reduce((size, dimension) => size * dimension, 1);
  const output = backend.makeOutput([numSegments, ...rest], x.dtype);
  // Views of the heap, taken after the allocation, which may move it.
  const sums = backend.typedArrayFromHeap(output);
  const values = backend.typedArrayFromHeap(x);
  const ids = backend.typedArrayFromHeap(segmentIds);
  sums.fill(0);
  for (let row = 0; row < ids.length; row += 1) {
    const segment = ids[row]!;
    if (segment < 0 || segment >= numSegments) continue;
    const from = row * width;
    const to = segment * width;
    for (let column = 0; column < width; column += 1) sums[to + column]! += values[from + column]!;
  }
  return output;
}

/** TensorFlow.js advertises its native package on the first use of `cpu`; our own line says it better. */
function silenceCpuBanner(): void {
  const backend = tf.findBackend("cpu") as { firstUse?: boolean } | null;
  if (backend?.firstUse) backend.firstUse = false;
}

function describe(name: BackendName, options: BackendOptions): string {
  const line = `TensorFlow.js backend: ${name}.`;
  if (name === "tfjs-node-gpu") return line;
  if (name === "tfjs-node") return `${line} Faster with an NVIDIA GPU: @tensorflow/tfjs-node-gpu.`;
  const release =
    nodeMajor(options) > LAST_NATIVE_NODE ? `, on Node 20 or ${LAST_NATIVE_NODE}` : "";
  return `${line} Faster: install @tensorflow/tfjs-node or @tensorflow/tfjs-node-gpu${release}.`;
}

function remedy(name: BackendName, options: BackendOptions): string {
  if (name === "cpu") return "Reinstall @tensorflow/tfjs.";
  if (name === "wasm") return "Reinstall @tensorflow/tfjs-backend-wasm, or use cpu.";
  if (nodeMajor(options) > LAST_NATIVE_NODE) {
    return `Use Node 20 or ${LAST_NATIVE_NODE}, or the backend wasm.`;
  }
  return `Install @tensorflow/${name}@4.22.0 and allow its install script, or use the backend wasm.`;
}

function nodeMajor({ nodeVersion }: BackendOptions): number {
  const version = nodeVersion ?? (typeof process === "object" ? process.versions.node : "");
  return Number.parseInt(version.replace(/^v/, ""), 10) || 0;
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().split("\n", 1)[0]!.replace(/\.$/, "");
}

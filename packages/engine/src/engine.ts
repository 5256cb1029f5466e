/** @file Chooses what runs tensor functions, and compiles them for it. */
import { availableParallelism } from "node:os";
import * as tf from "@tensorflow/tfjs";
import { useBackend } from "./backends.js";
import { compiledFunction } from "./compile.js";
import { eagerFunction } from "./eager.js";
import { EngineError } from "./errors.js";
import { createGraphCache, graphFolder, processorOf } from "./graph-cache.js";
import { openModel } from "./open.js";
import { loadOrt, type OrtRuntime, SessionCache } from "./session.js";
import { trace } from "./trace/trace.js";
import type { CompiledFunction, Engine, EngineOptions, Runtime } from "./types.js";

/** ONNX opset of traced graphs: the newest that every supported runtime and the export share. */
const OPSET = 18;

/**
 * Finds a runtime.
 * @throws EngineError `NO_RUNTIME` when the one that was asked for does not load
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const wanted = chooseRuntime(options.runtime);
  const threads = options.threads ?? availableParallelism();
  if (!Number.isInteger(threads) || threads < 1)
    throw new EngineError(
      "BAD_OPTION",
      `[engine] threads must be a whole number >= 1, got ${threads}.`,
    );
  const { runtime, reasons } =
    wanted === "eager" ? { runtime: undefined, reasons: [] } : await loadOrt(wanted);
  if (!runtime) {
    if (wanted !== "auto" && wanted !== "eager")
      throw new EngineError(
        "NO_RUNTIME",
        `[engine] ${wanted} does not load here (${reasons.join("; ")}). Install it, or leave the runtime open.`,
      );
    return eagerEngine(options, reasons);
  }
  const providers = options.providers ?? ["cpu"];
  const { profile, spin = false } = options;
  if (profile !== undefined && runtime.name !== "onnxruntime-node")
    throw new EngineError(
      "BAD_OPTION",
      `[engine] profile needs onnxruntime-node, got ${runtime.name}. Leave profile out, or install onnxruntime-node.`,
    );
  const graphs = graphCacheOf(options, runtime, providers);
  const sessions = new SessionCache(runtime, { providers, threads, spin, profile }, graphs);
  // Whoever asked for a runtime by name knows of the others.
  const hint =
    runtime.name === "onnxruntime-node" || wanted !== "auto"
      ? ""
      : ` (slower; for the native one: npm install onnxruntime-node, with ONNXRUNTIME_NODE_INSTALL=skip where downloads are blocked${reasons.length > 0 ? `; it did not load: ${reasons.join("; ")}` : ""})`;
  const used =
    runtime.name === "onnxruntime-web"
      ? "1 thread"
      : `${threads} thread${threads === 1 ? "" : "s"}${spin ? " that spin" : ""}`;
  const where = runtime.name === "onnxruntime-web" ? "wasm" : providers.join(", ");
  const description = `compiled, ${runtime.name} on ${where}, ${used}${hint}`;
  options.log?.(description);
  let disposed = false;
  return {
    runtime: runtime.name,
    description,
    threads: runtime.name === "onnxruntime-web" ? 1 : threads,
    compile(fn, { name, inputs, constants = {}, sizes, opset = OPSET, ownMemory = true }) {
      if (disposed) throw engineDisposed();
      const request = { name, fn, inputs, constants, sizes, opset };
      const isKept = Object.keys(constants).length === 0;
      return compiledFunction(name, trace(request), sessions, () => trace(request).model, {
        isKept,
        ownMemory,
      });
    },
    async open(model, { name }) {
      if (disposed) throw engineDisposed();
      return openModel(name, model, sessions);
    },
    dispose() {
      disposed = true;
      return sessions.dispose();
    },
  };
}

/** Other providers compile parts of a graph for themselves, and such graphs can't be written; nor are there files on the web. */
function graphCacheOf(
  { graphCache }: EngineOptions,
  { name, module }: OrtRuntime,
  providers: readonly string[],
) {
  const folder = graphFolder(graphCache);
  const version = module.env.versions?.node;
  if (folder === undefined || version === undefined || name !== "onnxruntime-node")
    return undefined;
  if (providers.length !== 1 || providers[0] !== "cpu") return undefined;
  return createGraphCache({ folder, setting: [name, version, processorOf()] });
}

const RUNTIMES: readonly Runtime[] = ["onnxruntime-node", "onnxruntime-web", "eager"];

/** The option, else the environment variable CEE_RUNTIME, else `auto`. */
function chooseRuntime(option: EngineOptions["runtime"]): "auto" | Runtime {
  const wanted = option ?? process.env.CEE_RUNTIME ?? "auto";
  if (wanted === "auto" || RUNTIMES.includes(wanted as Runtime)) return wanted as Runtime;
  throw new EngineError(
    "BAD_OPTION",
    `[engine] there is no runtime "${wanted}". Known: auto, ${RUNTIMES.join(", ")}.`,
  );
}

async function eagerEngine(options: EngineOptions, reasons: readonly string[]): Promise<Engine> {
  const backend = await useBackend(options.backend ?? "auto");
  const registered = tf.getBackend();
  const functions = new Set<CompiledFunction>();
  let disposed = false;
  const description = `eager, ${backend.description}${reasons.length > 0 ? ` (ONNX Runtime did not load: ${reasons.join("; ")})` : ""}`;
  options.log?.(description);
  return {
    runtime: "eager",
    description,
    threads: 1,
    compile(fn, compileOptions) {
      if (disposed) throw engineDisposed();
      const made = eagerFunction(fn, compileOptions, registered);
      functions.add(made);
      return made;
    },
    async open(_model, { name }) {
      throw new EngineError(
        "NO_RUNTIME",
        `[${name}] an ONNX model needs ONNX Runtime, got the eager runtime. Install onnxruntime-node, or leave the runtime open.`,
      );
    },
    async dispose() {
      disposed = true;
      for (const made of functions) await made.dispose();
    },
  };
}

function engineDisposed(): EngineError {
  return new EngineError("DISPOSED", "[engine] the engine was disposed of. Create another.");
}

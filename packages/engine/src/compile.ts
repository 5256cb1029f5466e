/** @file A traced function as something that runs: checked inputs, borrowed sessions, outputs in place. */
import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-common";
import { EngineError } from "./errors.js";
import { inputCheck, intoCheck, type KnownSizes } from "./inputs.js";
import { hashOf, type SessionCache, type SessionUse } from "./session.js";
import { rebuild, type TracedFunction } from "./trace/trace.js";
import type { CompiledFunction, HostTensor, HostTree, RunOptions } from "./types.js";

/** Models above this size are dropped once their session has taken its own copy. */
const KEPT_BYTES = 2 ** 25;

/**
 * Wraps a traced function; its session is created at the first run. `retrace` makes the model once more.
 */
export function compiledFunction(
  name: string,
  { model: traceModel, ...traced }: TracedFunction,
  sessions: SessionCache,
  retrace: () => Uint8Array,
  use: SessionUse,
): CompiledFunction {
  let model: Uint8Array | undefined = traceModel;
  const digest = hashOf(traceModel);
  const key = use.ownMemory ? digest : `${digest}-shared`;
  const toOrt = sessions.runtime.module.Tensor;
  // Host tensors are immutable in type and shape, so their wrappers are reused while they live.
  const wrappers = new WeakMap<HostTensor, OrtTensor>();
  const wrap = (tensor: HostTensor): OrtTensor => {
    const known = wrappers.get(tensor);
    if (known && known.data === tensor.data) return known;
    const made = new toOrt(tensor.dtype, tensor.data, tensor.shape);
    wrappers.set(tensor, made);
    return made;
  };
  const fed = traced.inputs
    .filter(({ path }) => traced.used.has(path))
    .map(({ path }) => ({ path, name: `in/${path}` }));
  const produced = traced.outputs.map(({ path, dtype }) => ({ path, dtype, name: `out/${path}` }));
  const checkInputs = inputCheck(name, traced);
  const checkInto = intoCheck(name, traced.outputs);
  const isNative = sessions.runtime.name === "onnxruntime-node";
  let session: Promise<InferenceSession> | undefined;
  let disposed = false;

  const modelBytes = (): Uint8Array => {
    if (model) return model;
    const again = retrace();
    if (hashOf(again) !== digest)
      throw new EngineError(
        "BAD_MODEL",
        `[${name}] the model can't be made once more, because its constants were changed after it was compiled. Call onnx() before the first run, or leave them unchanged.`,
      );
    return again;
  };

  const borrow = (): Promise<InferenceSession> => {
    if (!session) {
      const borrowed = sessions.borrow(key, name, modelBytes, use);
      session = borrowed;
      borrowed.then(
        () => {
          if (model && model.length > KEPT_BYTES) model = undefined;
        },
        () => {
          session = undefined;
        },
      );
    }
    return session;
  };

  const run = async (
    inputs: { readonly [key: string]: HostTree },
    { into }: RunOptions = {},
  ): Promise<HostTree> => {
    if (disposed) throw disposedError(name);
    sessions.checkAlive(name);
    const { tensors, sizes } = checkInputs(inputs);
    const places = checkInto(into, tensors, sizes);
    const feeds: Record<string, OrtTensor> = {};
    for (const { path, name: input } of fed) feeds[input] = wrap(tensors.get(path) as HostTensor);
    const fetches: Record<string, OrtTensor | null> = {};
    if (isNative && places.size > 0)
      for (const { path, name: output } of produced) {
        const place = places.get(path);
        // The runtime takes no empty arrays in advance.
        fetches[output] = place && place.data.length > 0 ? wrap(place) : null;
      }
    const ready = await borrow();
    let results: Readonly<Record<string, OrtTensor>>;
    try {
      results = await sessions.inTurn(() =>
        isNative && places.size > 0 ? ready.run(feeds, fetches) : ready.run(feeds),
      );
    } catch (cause) {
      // Ended meanwhile: the runtime's own words would send the reader elsewhere.
      if (disposed) throw disposedError(name);
      sessions.checkAlive(name);
      throw new EngineError(
        "RUN_FAILED",
        `[${name}] the graph failed while running with ${printSizes(sizes)}: ${messageOf(cause)}. Check the sizes and that ids lie within their tables.`,
        { cause },
      );
    }
    const outputs = produced.map(({ path, dtype, name: output }): HostTensor => {
      const result = results[output] as OrtTensor;
      const data = result.data as HostTensor["data"];
      const place = places.get(path);
      if (!place) return { dtype, shape: [...result.dims], data };
      // The native runtime has written there; what it returns is a copy.
      if (!isNative) place.data.set(data);
      return place;
    });
    return rebuild(traced.tree, outputs) as HostTree;
  };

  return {
    name,
    run: run as CompiledFunction["run"],
    onnx: modelBytes,
    async dispose() {
      if (disposed) return;
      disposed = true;
      if (session) await sessions.release(key);
    },
  };
}

export function disposedError(name: string): EngineError {
  return new EngineError(
    "DISPOSED",
    `[${name}] the function was disposed of. Compile it again before running it.`,
  );
}

function messageOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).trim().replace(/\.$/, "");
}

function printSizes(sizes: KnownSizes): string {
  if (sizes.size === 0) return "static sizes";
  return [...sizes].map(([symbol, size]) => `${symbol} = ${size}`).join(", ");
}

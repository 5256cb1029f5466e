/** @file A traced function as something that runs: checked inputs, borrowed sessions, outputs in place. */
import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-common";
import { EngineError } from "./errors.js";
import { hashOf, type SessionCache } from "./session.js";
import { isHost, rebuild, type TracedFunction, type TracedInput } from "./trace/trace.js";
import { flatten } from "./tree.js";
import type { CompiledFunction, HostTensor, HostTree, RunOptions, Tree } from "./types.js";

/** Wraps a traced function; its session is created at the first run. */
export function compiledFunction(
  name: string,
  traced: TracedFunction,
  sessions: SessionCache,
): CompiledFunction {
  const key = hashOf(traced.model);
  let session: Promise<InferenceSession> | undefined;
  let disposed = false;
  const wrap = (tensor: HostTensor): OrtTensor =>
    new sessions.runtime.module.Tensor(tensor.dtype, tensor.data, tensor.shape);

  const run = async (
    inputs: { readonly [key: string]: HostTree },
    { into }: RunOptions = {},
  ): Promise<HostTree> => {
    if (disposed) throw disposedError(name);
    const leaves = checkInputs(name, traced.inputs, inputs);
    session ??= sessions.borrow(key, name, traced.model);
    const feeds: Record<string, OrtTensor> = {};
    for (const [path, tensor] of leaves)
      if (traced.used.has(path)) feeds[`in/${path}`] = wrap(tensor);
    const places = into === undefined ? undefined : intoPlaces(name, traced, into);
    const ready = await session;
    let results: Readonly<Record<string, OrtTensor>>;
    try {
      results = places
        ? await ready.run(
            feeds,
            Object.fromEntries(
              traced.outputs.map(({ path }) => {
                const place = places.get(path);
                return [`out/${path}`, place ? wrap(place) : null];
              }),
            ),
          )
        : await ready.run(feeds);
    } catch (cause) {
      throw new EngineError(
        "RUN_FAILED",
        `[${name}] the graph failed while running: ${cause instanceof Error ? cause.message : String(cause)}`,
        { cause },
      );
    }
    const outputs = traced.outputs.map(({ path, dtype }): HostTensor => {
      const place = places?.get(path);
      if (place) return place;
      const result = results[`out/${path}`] as OrtTensor;
      return { dtype, shape: [...result.dims], data: result.data as HostTensor["data"] };
    });
    return rebuild(traced.tree, outputs) as HostTree;
  };

  return {
    name,
    run: run as CompiledFunction["run"],
    onnx: () => traced.model,
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

/** The preallocated arrays by output path; those that are missing are allocated by the runtime. */
function intoPlaces(
  name: string,
  traced: TracedFunction,
  into: HostTree,
): ReadonlyMap<string, HostTensor> {
  const known = new Map(traced.outputs.map((output) => [output.path, output]));
  const places = new Map<string, HostTensor>();
  for (const { path, leaf } of flatten(into as Tree<HostTensor>, isHost)) {
    const output = known.get(path === "" ? "result" : path);
    if (!output || output.dtype !== leaf.dtype)
      throw new EngineError(
        "BAD_INPUT",
        `[${name}] into.${path} is ${output ? `${leaf.dtype}, the output is ${output.dtype}` : "no output of this function"}. Outputs: ${[...known.keys()].join(", ")}.`,
      );
    places.set(output.path, leaf);
  }
  return places;
}

/**
 * Checks a run's inputs against the specs and lists them by path.
 * @throws EngineError `BAD_INPUT`
 */
export function checkInputs(
  name: string,
  specs: readonly TracedInput[],
  inputs: { readonly [key: string]: HostTree },
): ReadonlyMap<string, HostTensor> {
  const given = new Map(
    flatten(inputs as Tree<HostTensor>, isHost).map(({ path, leaf }) => [path, leaf]),
  );
  const symbols = new Map<string, { readonly size: number; readonly path: string }>();
  const complain = (path: string, what: string): never => {
    throw new EngineError("BAD_INPUT", `[${name}] input ${path} ${what}`);
  };
  for (const { path, spec } of specs) {
    const tensor = given.get(path);
    if (!tensor) {
      complain(path, `is missing. Expected ${spec.dtype} [${spec.shape.join(", ")}].`);
      continue;
    }
    const { dtype, shape, data } = tensor;
    const fits =
      dtype === spec.dtype &&
      shape.length === spec.shape.length &&
      shape.every(
        (size, axis) => typeof spec.shape[axis] === "string" || spec.shape[axis] === size,
      );
    if (!fits)
      complain(
        path,
        `must be ${spec.dtype} [${spec.shape.join(", ")}], got ${dtype} [${shape.join(", ")}]. Feed what it was compiled for, or compile again.`,
      );
    const count = shape.reduce((product, size) => product * size, 1);
    if (data.length !== count)
      complain(path, `has ${data.length} numbers, its shape [${shape.join(", ")}] needs ${count}.`);
    const array = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }[dtype];
    if (!(data instanceof array))
      complain(path, `is ${dtype} and must hold a ${array.name}, got ${data.constructor.name}.`);
    spec.shape.forEach((size, axis) => {
      if (typeof size !== "string") return;
      const known = symbols.get(size);
      if (known && known.size !== shape[axis])
        complain(
          path,
          `has ${size} = ${shape[axis]}, but ${known.path} has ${size} = ${known.size}. Sizes of one symbol must agree.`,
        );
      symbols.set(size, { size: shape[axis] as number, path });
    });
  }
  return given;
}

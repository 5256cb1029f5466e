/** @file The symbolic TensorFlow.js backend: kernels that are called on it append to the trace in progress. */
import * as tf from "@tensorflow/tfjs";
import { EngineError } from "../errors.js";
import type { ConstantData, Value, ValueType } from "../onnx/graph.js";
import { kernels } from "./kernels/index.js";
import type { KernelCall } from "./kernels/kernel.js";
import { sameShape, type Tracing } from "./tracing.js";

export const TRACE_BACKEND = "cee-trace";

/** The data of a traced tensor: a value of the graph, or host data that becomes one when a kernel uses it. */
type Entry = { value?: Value; readonly host?: HostData; references: number };
interface HostData {
  readonly values: ArrayLike<number>;
  readonly shape: readonly number[];
  readonly dtype: tf.DataType;
}

class TraceBackend extends tf.KernelBackend {
  #entries = new Map<object, Entry>();
  tracing: Tracing | undefined;
  #order = 0;

  override numDataIds(): number {
    return this.#entries.size;
  }

  override write(
    values: tf.backend_util.BackendValues,
    shape: number[],
    dtype: tf.DataType,
  ): object {
    const id = this.#newId();
    this.#entries.set(id, { host: { values: asNumbers(values), shape, dtype }, references: 1 });
    return id;
  }

  override move(
    id: object,
    values: tf.backend_util.BackendValues,
    shape: number[],
    dtype: tf.DataType,
    references: number,
  ): void {
    this.#entries.set(id, { host: { values: asNumbers(values), shape, dtype }, references });
  }

  override refCount(id: object): number {
    return this.#entries.get(id)?.references ?? 0;
  }
  override incRef(id: object): void {
    const entry = this.#entries.get(id);
    if (entry) entry.references += 1;
  }
  decRef(id: object): void {
    const entry = this.#entries.get(id);
    if (entry) entry.references -= 1;
  }
  override disposeData(id: object, force = false): boolean {
    const entry = this.#entries.get(id);
    if (!entry) return true;
    entry.references -= 1;
    if (!force && entry.references > 0) return false;
    this.#entries.delete(id);
    return true;
  }
  override memory() {
    return { unreliable: true, reasons: ["traced tensors hold no data"] } as never;
  }
  override floatPrecision(): 16 | 32 {
    return 32;
  }
  override epsilon(): number {
    return 1e-7;
  }
  override timerAvailable(): boolean {
    return false;
  }
  override dispose(): void {
    this.#entries.clear();
  }

  /** Only constants have values: what the function itself wrote down, or read from outside. */
  override readSync(id: object): tf.backend_util.BackendValues {
    const host = this.#entries.get(id)?.host;
    return host ? (host.values as tf.backend_util.BackendValues) : this.#refuseRead();
  }
  override async read(id: object): Promise<tf.backend_util.BackendValues> {
    return this.readSync(id);
  }

  #refuseRead(): never {
    const name = this.tracing?.name ?? "a compiled function";
    throw new EngineError(
      "READ_TRACED",
      `[${name}] the function reads the values of a traced tensor (dataSync, data, array or print), so what it does next would depend on numbers that exist only when the graph runs. Compute with tensors instead (tf.where, masks), or return the tensor and decide on the host.`,
    );
  }

  /** Wraps a value of the graph as the data of a tensor. */
  own(value: Value): tf.TensorInfo {
    const dataId = this.#newId();
    this.#entries.set(dataId, { value, references: 1 });
    return {
      dataId: dataId as tf.DataId,
      shape: [...value.shape],
      dtype: value.type as tf.DataType,
    };
  }

  /** The graph's value behind a tensor. */
  graphValue(info: tf.TensorInfo): Value {
    const tracing = this.tracing;
    if (!tracing) throw new Error("internal: a traced kernel outside of a trace");
    const entry = this.#entries.get(info.dataId as object) ?? this.#capture(info, tracing);
    entry.value ??= constantOf(tracing, entry.host as HostData);
    // Reshaping shares data: the same data may be seen under another shape.
    return sameShape(entry.value.shape, info.shape)
      ? entry.value
      : tracing.reshape(entry.value, info.shape);
  }

  /** Copies a tensor that was made before the trace, on another backend; it becomes a constant. */
  #capture(info: tf.TensorInfo, tracing: Tracing): Entry {
    const engine = tf.engine() as unknown as {
      state: { tensorInfo: WeakMap<object, { backend: tf.KernelBackend }> };
    };
    const owner = engine.state.tensorInfo.get(info.dataId as object)?.backend;
    if (!owner || owner === this)
      throw new EngineError(
        "TRACE_FAILED",
        `[${tracing.name}] a tensor of an earlier trace, or a disposed one, is used. Return tensors from the compiled function instead of keeping them.`,
      );
    const values = asNumbers(owner.readSync(info.dataId as object));
    const entry: Entry = {
      host: { values, shape: info.shape, dtype: info.dtype },
      references: 1,
    };
    this.#entries.set(info.dataId as object, entry);
    return entry;
  }

  #newId(): object {
    this.#order += 1;
    return { id: this.#order };
  }
}

function asNumbers(values: tf.backend_util.BackendValues): ArrayLike<number> {
  if (values.length > 0 && typeof (values as ArrayLike<unknown>)[0] !== "number")
    throw new EngineError(
      "TRACE_FAILED",
      "[trace] a string or complex tensor can't be traced. Use float32, int32 or bool.",
    );
  return values as unknown as ArrayLike<number>;
}

/** Host data as a constant; one repeated number becomes an Expand, so that `tf.ones` of any size costs nothing. */
function constantOf(tracing: Tracing, { values, shape, dtype }: HostData): Value {
  const type = dtype as "float32" | "int32" | "bool";
  const first = values[0] ?? 0;
  if (values.length > 1 && isUniform(values, first)) return tracing.fill(type, shape, first);
  const array = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }[type];
  const data: ConstantData = values instanceof array ? values : array.from(values);
  return tracing.graph.constant(type as ValueType, shape, data);
}

function isUniform(values: ArrayLike<number>, first: number): boolean {
  for (let index = 1; index < values.length; index += 1)
    if (!Object.is(values[index], first)) return false;
  return true;
}

let instance: TraceBackend | undefined;

function traceBackend(): TraceBackend {
  if (instance) return instance;
  const made = new TraceBackend();
  instance = made;
  // Never chosen by itself: its priority is below every other backend's.
  tf.registerBackend(TRACE_BACKEND, () => made, -1000);
  for (const [kernelName, kernel] of Object.entries(kernels))
    tf.registerKernel({
      kernelName,
      backendName: TRACE_BACKEND,
      kernelFunc: ({ inputs, attrs }) => {
        const tracing = made.tracing as Tracing;
        const named = inputs as Record<string, tf.TensorInfo>;
        tracing.graph.origin = kernelName;
        const call: KernelCall = {
          t: tracing,
          has: (name) => named[name] !== undefined && named[name] !== null,
          input: (name) => made.graphValue(named[name] as tf.TensorInfo),
          inputs: () => Object.values(named).map((info) => made.graphValue(info)),
          attrs: (attrs ?? {}) as Record<string, unknown>,
        };
        const result = kernel(call);
        return Array.isArray(result)
          ? result.map((value: Value) => made.own(value))
          : made.own(result as Value);
      },
    });
  return made;
}

/** True while a function is being traced. */
export function isTracing(): boolean {
  return instance?.tracing !== undefined && tf.engine().backendName === TRACE_BACKEND;
}

/** Runs `body` with TensorFlow.js on the symbolic backend. */
export function traceWith<T>(
  tracing: Tracing,
  body: (wrap: (value: Value) => tf.Tensor, unwrap: (tensor: tf.Tensor) => Value) => T,
): T {
  const backend = traceBackend();
  if (backend.tracing)
    throw new EngineError(
      "TRACE_FAILED",
      `[${tracing.name}] is compiled from inside ${backend.tracing.name}, which is being traced. Compile one after the other.`,
    );
  const engine = tf.engine() as unknown as {
    backendName: string | null;
    backendInstance: unknown;
  };
  const before = { name: engine.backendName, instance: engine.backendInstance };
  backend.tracing = tracing;
  try {
    // Takes effect before it returns: the backend's factory is synchronous.
    void tf.setBackend(TRACE_BACKEND);
    return tf.engine().tidy(
      () =>
        body(
          (value) => {
            const { dataId, shape, dtype } = backend.own(value);
            return tf.engine().makeTensorFromDataId(dataId, shape, dtype, backend) as tf.Tensor;
          },
          (tensor) => backend.graphValue(tensor),
        ) as never,
    ) as T;
  } catch (cause) {
    throw explain(cause, tracing.name);
  } finally {
    backend.tracing = undefined;
    engine.backendName = before.name;
    engine.backendInstance = before.instance;
    backend.dispose();
  }
}

/** Names the kernel where TensorFlow.js found none for the symbolic backend. */
function explain(cause: unknown, name: string): unknown {
  if (cause instanceof EngineError) return cause;
  const message = cause instanceof Error ? cause.message : String(cause);
  const kernel = /Kernel '([^']+)' not registered for backend 'cee-trace'/.exec(message)?.[1];
  if (kernel)
    return new EngineError(
      "UNMAPPED_KERNEL",
      `[${name}] the function uses the TensorFlow.js kernel ${kernel}, which has no mapping to ONNX. Express it with other operations, give it one with defineTracedOp, or run with runtime "eager".`,
      { cause },
    );
  return new EngineError(
    "TRACE_FAILED",
    `[${name}] the function failed while it was traced: ${message}`,
    {
      cause,
    },
  );
}

/** Appends nodes made by hand to the trace in progress and wraps their values; see `defineTracedOp`. */
export function emit(
  name: string,
  inputs: readonly tf.Tensor[],
  build: (tracing: Tracing, values: readonly Value[]) => Value | readonly Value[],
): tf.Tensor[] {
  const backend = traceBackend();
  const tracing = backend.tracing as Tracing;
  tracing.graph.origin = name;
  const built = build(
    tracing,
    inputs.map((tensor) => backend.graphValue(tensor)),
  );
  return (Array.isArray(built) ? (built as readonly Value[]) : [built as Value]).map((value) => {
    const { dataId, shape, dtype } = backend.own(value);
    return tf.engine().makeTensorFromDataId(dataId, shape, dtype, backend) as tf.Tensor;
  });
}

/**
 * @file What crosses the border between host code and tensor functions.
 *
 * A tensor function is plain `(inputs) => outputs` over TensorFlow.js tensors in trees of arrays and objects. The host
 * holds the same trees with {@link HostTensor} leaves.
 */
import type { Tensor } from "@tensorflow/tfjs";

export type DType = "float32" | "int32" | "bool";

/** A dense, row-major tensor in host memory. */
export interface HostTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** `bool` is stored as bytes 0 and 1. */
  readonly data: Float32Array | Int32Array | Uint8Array;
}

/** A tree: a leaf, a list of trees, or an object of trees. */
export type Tree<TLeaf> = TLeaf | readonly Tree<TLeaf>[] | { readonly [key: string]: Tree<TLeaf> };

export type HostTree = Tree<HostTensor>;
export type TensorTree = Tree<Tensor>;

/** The type and shape of one input; a string in `shape` names a symbolic dimension, `"batch"`, or a sum, `"past+length"`. */
export interface TensorSpec {
  readonly dtype: DType;
  readonly shape: readonly (number | string)[];
}
export type SpecTree = Tree<TensorSpec>;

/** Parameters by path, e.g. `backbone.encoder.layer.0.output.dense.weight`. */
export type HostParams = Readonly<Record<string, HostTensor>>;
export type TensorParams = Readonly<Record<string, Tensor>>;

export type Runtime = "onnxruntime-node" | "onnxruntime-web" | "eager";
export type BackendName = "tfjs-node-gpu" | "tfjs-node" | "wasm" | "cpu";

export interface EngineOptions {
  /**
   * `auto` takes onnxruntime-node, else onnxruntime-web, else eager TensorFlow.js.
   * @default "auto"
   */
  readonly runtime?: "auto" | Runtime;
  /**
   * The TensorFlow.js backend of the eager runtime.
   * @default "auto" (the first of tfjs-node-gpu, tfjs-node, wasm, cpu that loads)
   */
  readonly backend?: "auto" | BackendName;
  /**
   * ONNX Runtime execution providers, in order of preference.
   * @default ["cpu"]
   */
  readonly providers?: readonly string[];
  /**
   * Intra-op threads of ONNX Runtime.
   * @default the number of processors available to this process
   */
  readonly threads?: number;
  /**
   * Whether ONNX Runtime's threads spin while a graph runs, instead of sleeping between its operations; behind it they sleep
   * either way. Answers come sooner where processors are idle, and much later where others need them; onnxruntime-node only.
   * @default false
   */
  readonly spin?: boolean;
  /**
   * Path that ONNX Runtime's profiles start with, a JSON file of every session's kernels and their times, written when the
   * session ends; onnxruntime-node only. Profiling slows small kernels down.
   * @default none is written
   */
  readonly profile?: string;
  /**
   * Keeps on disk what ONNX Runtime made of graphs without weights, so that the next process that compiles the same one starts
   * it sooner: a folder, or `false` for nowhere. At most 256 MiB; onnxruntime-node with the provider `cpu` only.
   * @default `graphs` in `$CEE_CACHE`, else in `~/.cache/cee`; nowhere if the environment variable CEE_GRAPH_CACHE is `off`
   */
  readonly graphCache?: boolean | string;
  /** Called once with each line worth showing to a person, such as which runtime was taken. */
  readonly log?: (line: string) => void;
}

export interface CompileOptions {
  /** Names the function in errors, logs and the ONNX file. */
  readonly name: string;
  readonly inputs: { readonly [key: string]: SpecTree };
  /** Baked into the graph as constants (weights, for inference); merged with the inputs for the function. */
  readonly constants?: { readonly [key: string]: HostTree };
  /**
   * Sums of symbolic dimensions, such as `"length-1"`, that sizes inside the function may have beside those that `inputs`
   * names. Products need no mention.
   */
  readonly sizes?: readonly string[];
  /**
   * ONNX opset of the graph.
   * @default 18
   */
  readonly opset?: number;
  /**
   * Whether the runtime keeps memory of its own for what the function computes on the way. Functions that run in turn, such as
   * the layers of a model, do better without: they then use the same memory, which stays in the processor's caches.
   * @default true
   */
  readonly ownMemory?: boolean;
}

export interface RunOptions {
  /** Arrays to write the outputs into, shaped like the outputs; must not be inputs of the same run. */
  readonly into?: HostTree;
}

/** A tensor function ready to run at any size of its symbolic dimensions. */
export interface CompiledFunction {
  readonly name: string;
  /** Runs the function. @throws EngineError `BAD_INPUT` when an input is missing or has another type or shape. */
  run<TOutput extends HostTree = HostTree>(
    inputs: { readonly [key: string]: HostTree },
    options?: RunOptions,
  ): Promise<TOutput>;
  /** The ONNX model, or `undefined` in the eager runtime. */
  onnx(): Uint8Array | undefined;
  dispose(): Promise<void>;
}

/** A tensor of an ONNX model that was opened as it is. */
export interface OnnxTensor {
  readonly type: DType | "int64";
  readonly shape: readonly number[];
  readonly data: HostTensor["data"] | BigInt64Array;
}

/** An ONNX model, ready to run. */
export interface OpenedModel {
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** @throws EngineError `BAD_INPUT` when an input is missing, unknown or misshapen; `RUN_FAILED`, `DISPOSED` */
  run(feeds: Readonly<Record<string, OnnxTensor>>): Promise<Readonly<Record<string, OnnxTensor>>>;
  dispose(): Promise<void>;
}

export interface Engine {
  readonly runtime: Runtime;
  /** One line: which runtime and backend were taken, with how many threads, and how to get a faster one. */
  readonly description: string;
  readonly threads: number;
  /** Traces `fn` now; the session is created at the first run and shared by equal graphs. */
  compile(
    // biome-ignore lint/suspicious/noExplicitAny: the caller states the tree it takes; specs are checked at run time
    fn: (inputs: any) => TensorTree,
    options: CompileOptions,
  ): CompiledFunction;
  /**
   * Opens an ONNX model, such as an exported one; the session is shared by equal models. A path is for models whose weights
   * lie in a file of their own; onnxruntime-web finds no such weights where they belong to a branch.
   * @throws EngineError `NO_RUNTIME` in the eager runtime, `RUN_FAILED` when the runtime refuses the model
   */
  open(model: Uint8Array | string, options: { readonly name: string }): Promise<OpenedModel>;
  /** Ends every session that this engine made. */
  dispose(): Promise<void>;
}

/**
 * @file Puts traced parts together into one ONNX model, with branches.
 *
 * A part that is inlined into a branch brings its weights into that branch: ONNX Runtime packs and fuses weights only
 * where they are constants of the graph that uses them.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
} from "onnx-buf";
import { EngineError } from "../errors.js";
import { externalise, weightBytes } from "./external-data.js";
import {
  type Attributes,
  attributeProto,
  dataOf,
  tensorProto,
  type ValueType,
  valueInfo,
} from "./graph.js";
import type { OnnxPart } from "./part.js";
import { type Precision, type PrecisionOptions, toPrecision } from "./precision.js";

/** An edge of the model under construction. */
export interface OnnxValue {
  readonly name: string;
  readonly type: ValueType;
}

export interface OnnxPort {
  readonly type: ValueType;
  /** Sizes, or names of those that are known only at run time. */
  readonly dims: readonly (number | string)[];
}

/** The main graph or a branch, while it is being written. Values of outer graphs may be used. */
export interface OnnxScope {
  node(
    op: string,
    inputs: readonly OnnxValue[],
    type: ValueType,
    attributes?: Attributes,
  ): OnnxValue;
  constant(type: ValueType, shape: readonly number[], numbers: readonly number[]): OnnxValue;
  /**
   * Writes a part's nodes and weights here. `feeds` are the part's inputs by path; the result is its outputs by path.
   * @throws EngineError `BAD_OPTION` when an input is missing or has another type, or the part has another opset
   */
  inline(
    part: OnnxPart,
    feeds: Readonly<Record<string, OnnxValue>>,
  ): Readonly<Record<string, OnnxValue>>;
  /** Runs one of two branches, each of which gives `outputs`. */
  branch(
    condition: OnnxValue,
    outputs: readonly OnnxPort[],
    branches: {
      readonly whenTrue: (scope: OnnxScope) => readonly OnnxValue[];
      readonly whenFalse: (scope: OnnxScope) => readonly OnnxValue[];
    },
  ): readonly OnnxValue[];
}

export interface OnnxAssembly {
  readonly opset: number;
  readonly inputs: Readonly<Record<string, OnnxPort>>;
  readonly outputs: Readonly<Record<string, OnnxPort>>;
  /** What readers of the file may want to know, as text by name. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly description?: string;
  /** Writes the main graph; gives the outputs by name. */
  readonly build: (
    scope: OnnxScope,
    inputs: Readonly<Record<string, OnnxValue>>,
  ) => Readonly<Record<string, OnnxValue>>;
}

export interface AssembleOptions extends PrecisionOptions {
  /** Of large weights. @default "float32" */
  readonly precision?: Precision;
}

/** Protocol buffers end at 2 GB; what is copied on the way needs room as well. */
const LARGEST = 1.5e9;

/**
 * Builds the model. Equal parts put together equally give equal bytes.
 * @throws EngineError `BAD_OPTION`, also for weights above 1.5 GB: {@link assembleOnnxFiles} takes them
 */
export function assembleOnnx(assembly: OnnxAssembly, options: AssembleOptions = {}): Uint8Array {
  const { model, data } = assembleOnnxFiles(assembly, { ...options, dataFile: "weights" });
  if (!data) return model;
  throw badAssembly(`the weights take more than ${LARGEST} bytes, too many for one file`);
}

export interface OnnxFiles {
  readonly model: Uint8Array;
  /** Content of the weights' file, in order; `undefined` where the model holds them. */
  readonly data: readonly Uint8Array[] | undefined;
}

export interface AssembleFilesOptions extends AssembleOptions {
  /** Name of the weights' file, which has to lie beside the model's. */
  readonly dataFile: string;
  /** Bytes of weights that one file holds; more go to the other. @default 1.5e9 */
  readonly largest?: number;
}

/** The same, with large weights in a file of their own. @throws EngineError `BAD_OPTION` */
export function assembleOnnxFiles(
  assembly: OnnxAssembly,
  { precision = "float32", dataFile, largest = LARGEST, ...options }: AssembleFilesOptions,
): OnnxFiles {
  const model = assembleModel(assembly);
  toPrecision(model, precision, options);
  const data = weightBytes(model) > largest ? externalise(model, dataFile) : undefined;
  return { model: toBinary(ModelProtoSchema, model), data };
}

function assembleModel(assembly: OnnxAssembly): ModelProto {
  const names = createNames([...Object.keys(assembly.inputs), ...Object.keys(assembly.outputs)]);
  const graph = new GraphWriter(assembly.opset, names);
  const inputs = Object.fromEntries(
    Object.entries(assembly.inputs).map(([name, { type }]) => [name, { name, type }]),
  );
  const made = assembly.build(graph, inputs);
  const outputs = Object.entries(assembly.outputs).map(([name, port]) => {
    const value = made[name];
    if (!value) throw badAssembly(`the output ${name} was not built`);
    graph.copyTo(value, name);
    return valueInfo(name, port.type, port.dims);
  });
  return create(ModelProtoSchema, {
    // The format version of opset 17 and 18.
    irVersion: assembly.opset <= 18 ? 8n : 10n,
    producerName: "cee",
    docString: assembly.description ?? "",
    opsetImport: [
      create(OperatorSetIdProtoSchema, { domain: "", version: BigInt(assembly.opset) }),
    ],
    metadataProps: Object.entries(assembly.metadata ?? {}).map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value }),
    ),
    graph: create(GraphProtoSchema, {
      name: "exits",
      node: graph.nodes,
      initializer: graph.weights,
      input: Object.entries(assembly.inputs).map(([name, { type, dims }]) =>
        valueInfo(name, type, dims),
      ),
      output: outputs,
    }),
  });
}

type Names = (hint: string) => string;

/** Names are unique in the whole model: a branch must not reuse one of its outer graphs. */
function createNames(taken: readonly string[]): Names {
  const used = new Set(taken);
  return (hint) => {
    let name = hint;
    for (let count = 1; used.has(name); count += 1) name = `${hint}_${count}`;
    used.add(name);
    return name;
  };
}

class GraphWriter implements OnnxScope {
  readonly nodes: NodeProto[] = [];
  readonly weights: TensorProto[] = [];
  /** Names of values that this graph's own nodes make. */
  readonly #made = new Set<string>();

  constructor(
    readonly opset: number,
    readonly names: Names,
  ) {}

  node(
    op: string,
    inputs: readonly OnnxValue[],
    type: ValueType,
    attributes: Attributes = {},
  ): OnnxValue {
    const name = this.names(op.toLowerCase());
    this.#push(
      op,
      inputs.map((input) => input.name),
      [name],
      Object.entries(attributes).map(([key, value]) => attributeProto(key, value)),
    );
    return { name, type };
  }

  constant(type: ValueType, shape: readonly number[], numbers: readonly number[]): OnnxValue {
    const value = { name: this.names("constant"), type, shape };
    this.weights.push(tensorProto({ value, data: dataOf(type, numbers) }));
    return { name: value.name, type };
  }

  inline(
    part: OnnxPart,
    feeds: Readonly<Record<string, OnnxValue>>,
  ): Readonly<Record<string, OnnxValue>> {
    if (part.opset !== this.opset)
      throw badAssembly(`${part.name} has opset ${part.opset}, the model ${this.opset}`);
    const renamed = new Map<string, string>([["", ""]]);
    for (const { path, spec } of part.inputs) {
      const feed = feeds[path];
      if (!feed) throw badAssembly(`${part.name} is not given its input ${path}`);
      if (feed.type !== spec.dtype)
        throw badAssembly(`${part.name} takes ${path} as ${spec.dtype}, got ${feed.type}`);
      renamed.set(`in/${path}`, feed.name);
    }
    const fresh = (name: string) => {
      const made = this.names(`${part.name}/${name}`);
      renamed.set(name, made);
      return made;
    };
    const nameOf = (name: string) => renamed.get(name) as string;
    for (const weight of part.graph.initializer)
      this.weights.push({ ...weight, name: fresh(weight.name) });
    for (const node of part.graph.node) {
      const input = node.input.map(nameOf);
      const output = node.output.map((name) => (name === "" ? "" : fresh(name)));
      this.nodes.push({ ...node, name: this.names(`${part.name}/${node.opType}`), input, output });
      for (const name of output) this.#made.add(name);
    }
    return Object.fromEntries(
      part.outputs.map(({ path, dtype }) => [
        path,
        { name: nameOf(`out/${path}`), type: dtype as ValueType },
      ]),
    );
  }

  branch(
    condition: OnnxValue,
    outputs: readonly OnnxPort[],
    branches: Parameters<OnnxScope["branch"]>[2],
  ): readonly OnnxValue[] {
    const names = outputs.map(() => this.names("exit"));
    this.#push("If", [condition.name], names, [
      this.#subgraph("then_branch", outputs, branches.whenTrue),
      this.#subgraph("else_branch", outputs, branches.whenFalse),
    ]);
    return names.map((name, index) => ({ name, type: (outputs[index] as OnnxPort).type }));
  }

  /** Gives a value a name of the caller's choice. */
  copyTo(value: OnnxValue, name: string): void {
    this.#push("Identity", [value.name], [name], []);
  }

  #subgraph(
    name: string,
    outputs: readonly OnnxPort[],
    build: (scope: OnnxScope) => readonly OnnxValue[],
  ): AttributeProto {
    const inner = new GraphWriter(this.opset, this.names);
    const made = build(inner);
    const output = outputs.map(({ type, dims }, index) => {
      const value = made[index];
      if (value?.type !== type)
        throw badAssembly(`a branch gives ${value?.type ?? "nothing"} where ${type} is due`);
      // A branch may only return what its own nodes make.
      const own = inner.#made.has(value.name) ? value : inner.node("Identity", [value], type);
      return valueInfo(own.name, type, dims);
    });
    return create(AttributeProtoSchema, {
      name,
      type: AttributeType.GRAPH,
      g: create(GraphProtoSchema, {
        name: this.names(name),
        node: inner.nodes,
        initializer: inner.weights,
        output,
      }),
    });
  }

  #push(
    opType: string,
    input: readonly string[],
    output: readonly string[],
    attribute: AttributeProto[],
  ): void {
    const name = this.names(`node/${opType}`);
    this.nodes.push(
      create(NodeProtoSchema, {
        name,
        opType,
        input: [...input],
        output: [...output],
        attribute,
      }),
    );
    for (const made of output) this.#made.add(made);
  }
}

function badAssembly(what: string): EngineError {
  return new EngineError(
    "BAD_OPTION",
    `[assembleOnnx] ${what}. Build the model from what it needs.`,
  );
}

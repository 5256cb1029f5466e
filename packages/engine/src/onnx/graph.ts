/** @file An ONNX graph under construction: values, nodes with common-subexpression elimination, and serialisation. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
} from "onnx-buf";

export type ValueType =
  | "float32"
  | "int32"
  | "int64"
  | "uint32"
  | "uint8"
  | "int8"
  | "bool"
  | "float64";

/** ONNX's element type numbers. */
export const elementTypes: Readonly<Record<ValueType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float64: 11,
  uint32: 12,
};

/** One edge of the graph. `shape` is the shape while tracing, with stand-ins for symbolic sizes. */
export interface Value {
  readonly name: string;
  readonly type: ValueType;
  readonly shape: readonly number[];
}

/** Numbers become INT (whole) or FLOAT through `{ float }`; lists become INTS. */
export type Attribute = number | { readonly float: number } | string | readonly number[];
export type Attributes = Readonly<Record<string, Attribute>>;

export interface Node {
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes: Attributes;
  readonly outputs: readonly Value[];
  /** The TensorFlow.js kernel, or the traced operation, that made it; for errors. */
  readonly origin: string;
  /** Where in the traced function, if the trace records places. */
  readonly place: string | undefined;
}

export interface Constant {
  readonly value: Value;
  readonly data: ConstantData;
}
export type ConstantData =
  | Float32Array
  | Float64Array
  | Int32Array
  | Uint32Array
  | Uint8Array
  | Int8Array
  | BigInt64Array;

export interface GraphInput {
  readonly value: Value;
  /** Dimensions for the file: numbers, or names of symbolic ones. */
  readonly dims: readonly (number | string)[];
}

/** Builds one graph. Equal nodes and equal small constants are made once. */
export class GraphBuilder {
  readonly nodes: Node[] = [];
  readonly constants = new Map<string, Constant>();
  readonly inputs: GraphInput[] = [];
  readonly #known = new Map<string, readonly Value[]>();
  #count = 0;
  /** What new nodes are attributed to. */
  origin = "";
  /** Finds the place in the traced function; slow, so only set to explain a failure. */
  locate: (() => string | undefined) | undefined;

  constructor(readonly opset: number) {}

  input(
    name: string,
    type: ValueType,
    shape: readonly number[],
    dims: readonly (number | string)[],
  ): Value {
    const value = { name, type, shape };
    this.inputs.push({ value, dims });
    return value;
  }

  constant(type: ValueType, shape: readonly number[], data: ConstantData): Value {
    const small = data.length <= 64;
    const key = small
      ? `const:${type}:${shape.join(",")}:${Array.from(data as ArrayLike<number | bigint>, bits).join(",")}`
      : "";
    const known = small ? this.#known.get(key) : undefined;
    if (known) return known[0] as Value;
    const value = { name: this.#name("c"), type, shape };
    this.constants.set(value.name, { value, data });
    if (small) this.#known.set(key, [value]);
    return value;
  }

  /** A named constant, such as a weight that was baked in. */
  weight(name: string, type: ValueType, shape: readonly number[], data: ConstantData): Value {
    const value = { name, type, shape };
    this.constants.set(name, { value, data });
    return value;
  }

  scalar(
    type: "float32" | "int32" | "int64" | "bool" | "float64" | "uint32",
    number: number,
  ): Value {
    return this.constant(type, [], dataOf(type, [number]));
  }

  ints(numbers: readonly number[]): Value {
    return this.constant("int64", [numbers.length], dataOf("int64", numbers));
  }

  /** Adds a node with one output. */
  node(
    op: string,
    inputs: readonly (Value | undefined)[],
    output: { readonly type: ValueType; readonly shape: readonly number[] },
    attributes: Attributes = {},
    domain = "",
  ): Value {
    return this.nodeOf(op, inputs, [output], attributes, domain)[0] as Value;
  }

  /** Adds a node with several outputs. */
  nodeOf(
    op: string,
    inputs: readonly (Value | undefined)[],
    outputs: readonly { readonly type: ValueType; readonly shape: readonly number[] }[],
    attributes: Attributes = {},
    domain = "",
  ): readonly Value[] {
    const key = `${domain}:${op}(${inputs.map((input) => input?.name ?? "").join(",")})${JSON.stringify(attributes)}`;
    const known = this.#known.get(key);
    if (known) return known;
    const values = outputs.map(({ type, shape }) => ({ name: this.#name("v"), type, shape }));
    const { origin } = this;
    const place = this.locate?.();
    this.nodes.push({ op, domain, inputs, attributes, outputs: values, origin, place });
    this.#known.set(key, values);
    return values;
  }

  #name(prefix: string): string {
    this.#count += 1;
    return `${prefix}${this.#count}`;
  }
}

/** Distinguishes -0 from 0 and NaNs from each other by printing. */
function bits(value: number | bigint): string {
  return Object.is(value, -0) ? "-0" : String(value);
}

export function dataOf(type: ValueType, numbers: readonly number[]): ConstantData {
  switch (type) {
    case "float32":
      return Float32Array.from(numbers);
    case "float64":
      return Float64Array.from(numbers);
    case "int32":
      return Int32Array.from(numbers);
    case "uint32":
      return Uint32Array.from(numbers);
    case "int8":
      return Int8Array.from(numbers);
    case "int64":
      return BigInt64Array.from(numbers, (number) => BigInt(number));
    default:
      return Uint8Array.from(numbers);
  }
}

/** Nodes that some output needs, in order. */
export function liveNodes(nodes: readonly Node[], outputs: readonly Value[]): Node[] {
  const needed = new Set(outputs.map((value) => value.name));
  const live: Node[] = [];
  for (let index = nodes.length - 1; index >= 0; index -= 1) {
    const node = nodes[index] as Node;
    if (!node.outputs.some((value) => needed.has(value.name))) continue;
    for (const input of node.inputs) if (input) needed.add(input.name);
    live.push(node);
  }
  return live.reverse();
}

export interface GraphOutput {
  readonly name: string;
  readonly value: Value;
  readonly dims: readonly (number | string)[];
}

/** Serialises the live part of a graph as an ONNX model. Equal graphs give equal bytes. */
export function toModel(builder: GraphBuilder, outputs: readonly GraphOutput[]): Uint8Array {
  const live = liveNodes(
    builder.nodes,
    outputs.map((output) => output.value),
  );
  const used = new Set(outputs.map((output) => output.value.name));
  for (const node of live) for (const input of node.inputs) if (input) used.add(input.name);
  // An output takes the name of the value that it is, unless that is an input, a constant, or another output already.
  const made = new Set(live.flatMap((node) => node.outputs.map((value) => value.name)));
  const renamed = new Map<string, string>();
  const copies = outputs.filter(({ name, value }) => {
    if (!made.has(value.name) || renamed.has(value.name)) return true;
    renamed.set(value.name, name);
    return false;
  });
  const nameOf = (value: Value): string => renamed.get(value.name) ?? value.name;
  const domains = new Set(live.map((node) => node.domain));
  domains.add("");
  const model = create(ModelProtoSchema, {
    irVersion: builder.opset <= 18 ? 8n : 10n,
    producerName: "cee",
    opsetImport: [...domains].map((domain) =>
      create(OperatorSetIdProtoSchema, {
        domain,
        version: BigInt(domain === "" ? builder.opset : 1),
      }),
    ),
    graph: create(GraphProtoSchema, {
      name: "graph",
      node: [
        ...live.map((node) =>
          create(NodeProtoSchema, {
            opType: node.op,
            domain: node.domain,
            input: node.inputs.map((input) => (input ? nameOf(input) : "")),
            output: node.outputs.map(nameOf),
            attribute: Object.entries(node.attributes).map(([key, value]) =>
              attributeProto(key, value),
            ),
          }),
        ),
        ...copies.map((output) =>
          create(NodeProtoSchema, {
            opType: "Identity",
            input: [nameOf(output.value)],
            output: [output.name],
          }),
        ),
      ],
      initializer: [...builder.constants.values()]
        .filter(({ value }) => used.has(value.name))
        .map(tensorProto),
      input: builder.inputs
        .filter(({ value }) => used.has(value.name))
        .map(({ value, dims }) => valueInfo(value.name, value.type, dims)),
      output: outputs.map(({ name: output, value, dims }) => valueInfo(output, value.type, dims)),
    }),
  });
  return toBinary(ModelProtoSchema, model);
}

export function attributeProto(name: string, value: Attribute): AttributeProto {
  if (typeof value === "number")
    return create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(value) });
  if (typeof value === "string")
    return create(AttributeProtoSchema, {
      name,
      type: AttributeType.STRING,
      s: new TextEncoder().encode(value) as Uint8Array<ArrayBuffer>,
    });
  if ("float" in value)
    return create(AttributeProtoSchema, { name, type: AttributeType.FLOAT, f: value.float });
  return create(AttributeProtoSchema, {
    name,
    type: AttributeType.INTS,
    ints: value.map((number) => BigInt(number)),
  });
}

export function tensorProto({ value, data }: Constant): TensorProto {
  return create(TensorProtoSchema, {
    name: value.name,
    dims: value.shape.map((size) => BigInt(size)),
    dataType: elementTypes[value.type],
    rawData: new Uint8Array(
      data.buffer,
      data.byteOffset,
      data.byteLength,
    ) as Uint8Array<ArrayBuffer>,
  });
}

export function valueInfo(name: string, type: ValueType, dims: readonly (number | string)[]) {
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, {
      value: {
        case: "tensorType",
        value: create(TypeProto_TensorSchema, {
          elemType: elementTypes[type],
          shape: create(TensorShapeProtoSchema, {
            dim: dims.map((dim) =>
              create(TensorShapeProto_DimensionSchema, {
                value:
                  typeof dim === "number"
                    ? { case: "dimValue", value: BigInt(dim) }
                    : { case: "dimParam", value: dim },
              }),
            ),
          }),
        }),
      },
    }),
  });
}

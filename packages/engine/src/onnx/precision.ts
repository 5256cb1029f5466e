/**
 * @file Smaller numbers for the weights of a finished model: half precision in the file, or products in 8-bit integers.
 *
 * N = rows of a product, I, O = features in and out.
 */
import { create } from "@bufbuild/protobuf";
import {
  type GraphProto,
  type ModelProto,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
} from "onnx-buf";
import { attributeProto, type ConstantData, tensorProto, type ValueType } from "./graph.js";
import { graphsOf } from "./walk.js";

/**
 * - `float16`: large weights lie in the file in half precision, rounded to the nearest; the runtime widens them when it
 *   loads the model, and computes as before. Half the size.
 * - `int8`: products with large weights run in 8-bit integers. Weights have a scale per output; the scale of the other side
 *   is found at run time over all rows, so that a row's last digits depend on the rows beside it. A quarter of the size.
 */
export type Precision = "float32" | "float16" | "int8";

export interface PrecisionOptions {
  /** Weights, by name, that stay as they are. @default none */
  readonly keep?: (weight: string) => boolean;
}

const FLOAT = 1;
const FLOAT16 = 10;
/** Smaller weights gain nothing. */
const LEAST = 1024;
/** Seven bits: two 8-bit products and their sum fit 16 bits, where processors without dot products add them up. */
const HIGHEST = 64;

/** Changes the model in place. */
export function toPrecision(
  model: ModelProto,
  precision: Precision,
  { keep = () => false }: PrecisionOptions = {},
): void {
  if (precision === "float32") return;
  for (const graph of graphsOf(model))
    if (precision === "float16") halve(graph, keep);
    else quantise(graph, keep);
}

function isLarge({ dataType, rawData }: TensorProto): boolean {
  return dataType === FLOAT && rawData.length >= 4 * LEAST;
}

function halve(graph: GraphProto, keep: (weight: string) => boolean): void {
  const casts: NodeProto[] = [];
  for (const weight of graph.initializer) {
    if (!isLarge(weight) || keep(weight.name)) continue;
    const { name } = weight;
    const stored = `${name}/half`;
    weight.rawData = new Uint8Array(toHalf(floatsOf(weight)).buffer as ArrayBuffer);
    weight.dataType = FLOAT16;
    weight.name = stored;
    casts.push(node("Cast", [stored], [name], { to: FLOAT }));
  }
  graph.node.unshift(...casts);
}

function quantise(graph: GraphProto, keep: (weight: string) => boolean): void {
  const weights = new Map(graph.initializer.map((weight) => [weight.name, weight]));
  const uses = new Map<string, number>();
  for (const { input } of graph.node)
    for (const name of input) uses.set(name, (uses.get(name) ?? 0) + 1);
  /** Quantised inputs, by the name of what was quantised: queries, keys and values share one. */
  const known = new Map<string, readonly [values: string, scale: string, zero: string]>();
  const nodes: NodeProto[] = [];
  for (const one of graph.node) {
    const [x, name, bias] = one.input as [string, string, string | undefined];
    const weight = one.opType === "Gemm" ? weights.get(name) : undefined;
    if (!weight || !isLarge(weight) || keep(name) || uses.get(name) !== 1 || !isPlain(one)) {
      nodes.push(one);
      continue;
    }
    let quantised = known.get(x);
    if (!quantised) {
      quantised = [`${x}/int8`, `${x}/scale`, `${x}/zero`];
      known.set(x, quantised);
      nodes.push(node("DynamicQuantizeLinear", [x], quantised));
    }
    const [values, scale, zero] = quantised;
    const [output] = one.output as [string];
    const { data, scales } = toColumns(weight);
    const [O, I] = weight.dims.map(Number) as [number, number];
    graph.initializer.splice(graph.initializer.indexOf(weight), 1);
    graph.initializer.push(
      constant(`${name}/int8`, "int8", [I, O], data),
      constant(`${name}/scales`, "float32", [O], scales),
    );
    const made = (what: string) => `${output}/${what}`;
    const sum = bias ? made("scaled") : output;
    nodes.push(
      node("MatMulInteger", [values, `${name}/int8`, zero], [made("sum")]),
      node("Cast", [made("sum")], [made("float")], { to: FLOAT }),
      node("Mul", [scale, `${name}/scales`], [made("scale")]),
      node("Mul", [made("float"), made("scale")], [sum]),
      ...(bias ? [node("Add", [sum, bias], [output])] : []),
    );
  }
  graph.node = nodes;
}

/** Whether a Gemm is `x weight^T + bias`. */
function isPlain({ attribute }: NodeProto): boolean {
  const of = (name: string) => attribute.find((one) => one.name === name);
  return (
    of("transB")?.i === 1n &&
    (of("transA")?.i ?? 0n) === 0n &&
    (of("alpha")?.f ?? 1) === 1 &&
    (of("beta")?.f ?? 1) === 1
  );
}

/** A weight `[O, I]` as 8-bit integers `[I, O]` with a scale per output. */
function toColumns(weight: TensorProto): {
  readonly data: Int8Array;
  readonly scales: Float32Array;
} {
  const [O, I] = weight.dims.map(Number) as [number, number];
  const floats = floatsOf(weight);
  const data = new Int8Array(I * O);
  const scales = new Float32Array(O);
  for (let output = 0; output < O; output += 1) {
    const row = floats.subarray(output * I, (output + 1) * I);
    let largest = 0;
    for (const value of row) largest = Math.max(largest, Math.abs(value));
    // A row of zeros has any scale.
    const scale = largest === 0 ? 1 : largest / HIGHEST;
    scales[output] = scale;
    for (let input = 0; input < I; input += 1)
      data[input * O + output] = Math.round((row[input] as number) / scale);
  }
  return { data, scales };
}

function floatsOf({ rawData }: TensorProto): Float32Array {
  // A copy: the bytes may lie anywhere in a larger array.
  return new Float32Array(rawData.slice().buffer);
}

/** Rounded to the nearest, ties to even; what is too large becomes the largest. */
function toHalf(floats: Float32Array): Uint16Array {
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  return Uint16Array.from(bits, (bit, index) => {
    const sign = (bit >>> 16) & 0x8000;
    const magnitude = Math.abs(floats[index] as number);
    if (Number.isNaN(magnitude)) return sign | 0x7e00;
    if (magnitude >= 65504)
      return sign | (magnitude === Number.POSITIVE_INFINITY ? 0x7c00 : 0x7bff);
    // Below the smallest normal number, steps are 2^-24.
    if (magnitude < 2 ** -14) return sign | roundEven(magnitude * 2 ** 24);
    const exponent = Math.floor(Math.log2(magnitude));
    const power = 2 ** exponent > magnitude ? exponent - 1 : exponent;
    // A mantissa that rounds up to 2 carries into the exponent, as it should.
    return sign | (((power + 15) << 10) + roundEven((magnitude / 2 ** power - 1) * 1024));
  });
}

function roundEven(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

function constant(
  name: string,
  type: ValueType,
  shape: readonly number[],
  data: ConstantData,
): TensorProto {
  return tensorProto({ value: { name, type, shape }, data });
}

function node(
  opType: string,
  input: readonly string[],
  output: readonly string[],
  attributes: Readonly<Record<string, number>> = {},
): NodeProto {
  return create(NodeProtoSchema, {
    name: `${output[0]}/${opType}`,
    opType,
    input: [...input],
    output: [...output],
    attribute: Object.entries(attributes).map(([key, value]) => attributeProto(key, value)),
  });
}

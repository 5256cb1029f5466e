/** @file Checks what a run is given: inputs against their specs, and arrays to write into against the outputs. */
import { EngineError } from "./errors.js";
import { type Expression, evaluate, isSum, parseExpression } from "./trace/symbols.js";
import { isHost, type TracedInput, type TracedOutput } from "./trace/trace.js";
import { visit } from "./tree.js";
import type { DType, HostTensor, HostTree, Tree } from "./types.js";

/** Sizes of symbols in one run. */
export type KnownSizes = ReadonlyMap<string, number>;

export interface CheckedInputs {
  readonly tensors: ReadonlyMap<string, HostTensor>;
  readonly sizes: KnownSizes;
}

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const;

/** One run's inputs, checked against the specs and listed by path. @throws EngineError `BAD_INPUT` */
export type InputCheck = (inputs: { readonly [key: string]: HostTree }) => CheckedInputs;

/** What the sizes of one input say. */
interface InputPlan {
  readonly path: string;
  readonly spec: TracedInput["spec"];
  readonly symbols: readonly { readonly axis: number; readonly symbol: string }[];
  readonly sums: readonly { readonly axis: number; readonly expression: Expression }[];
}

/** Makes the check of a function's inputs; whatever does not depend on a run is done here. */
export function inputCheck(
  name: string,
  { inputs: specs }: { readonly inputs: readonly TracedInput[] },
): InputCheck {
  const complain = (path: string, what: string): never => {
    throw new EngineError("BAD_INPUT", `[${name}] input ${path} ${what}`);
  };
  const plans = specs.map(({ path, spec }): InputPlan => {
    const axes = spec.shape.flatMap((symbol, axis) =>
      typeof symbol === "string" ? [{ axis, symbol }] : [],
    );
    return {
      ...{ path, spec },
      symbols: axes.filter(({ symbol }) => SIMPLE.test(symbol)),
      sums: axes
        .filter(({ symbol }) => !SIMPLE.test(symbol))
        .map(({ axis, symbol }) => ({ axis, expression: parseExpression(symbol) })),
    };
  });
  const hasSums = plans.some(({ sums }) => sums.length > 0);
  return (inputs) => {
    const given = new Map<string, HostTensor>();
    visit(inputs as Tree<HostTensor>, isHost, "", (leaf, path) => given.set(path, leaf));
    const sizes = new Map<string, number>();
    const sources = new Map<string, string>();
    const agree = (path: string, symbol: string, size: number) => {
      const known = sizes.get(symbol);
      if (known === undefined) {
        sizes.set(symbol, size);
        sources.set(symbol, path);
      } else if (known !== size)
        complain(
          path,
          `has ${symbol} = ${size}, but ${sources.get(symbol)} has ${symbol} = ${known}. Sizes of one symbol must agree.`,
        );
    };
    for (const { path, spec, symbols } of plans) {
      const tensor = given.get(path) ?? complain(path, missing(spec, path, given));
      checkTensor(tensor, path, complain);
      const { dtype, shape } = tensor;
      if (dtype !== spec.dtype || !fitsShape(shape, spec.shape))
        complain(
          path,
          `must be ${spec.dtype} [${spec.shape.join(", ")}], got ${dtype} [${shape.join(", ")}]. Feed what it was compiled for, or compile again.`,
        );
      for (const { axis, symbol } of symbols) agree(path, symbol, shape[axis] as number);
    }
    if (hasSums)
      for (const { path, sums } of plans)
        for (const { axis, expression } of sums) {
          const size = given.get(path)?.shape[axis] as number;
          const open = expression.terms.filter((term) => !sizes.has(term.symbol));
          const [own] = open;
          const known = evaluate(expression, (symbol) => sizes.get(symbol) ?? 0) as number;
          if (own && open.length === 1) agree(path, own.symbol, own.sign * (size - known));
          else if (!own && known !== size)
            complain(
              path,
              `has ${expression.text} = ${size}, but the other inputs make it ${known}. Sizes of one symbol must agree.`,
            );
        }
    if (given.size > specs.length) {
      const wanted = new Set(specs.map(({ path }) => path));
      const unknown = [...given.keys()].filter((path) => !wanted.has(path));
      complain(
        unknown.slice(0, 5).join(", "),
        "is not among the inputs that the function was compiled for. Leave it out, or compile with it.",
      );
    }
    return { tensors: given, sizes };
  };
}

function fitsShape(shape: readonly number[], wanted: readonly (number | string)[]): boolean {
  if (shape.length !== wanted.length) return false;
  for (let axis = 0; axis < shape.length; axis += 1) {
    const size = wanted[axis];
    if (typeof size === "number" && size !== shape[axis]) return false;
  }
  return true;
}

const SIMPLE = /^\w+$/;

function missing(
  spec: TracedInput["spec"],
  path: string,
  given: ReadonlyMap<string, HostTensor>,
): string {
  const others = [...given.keys()].filter((key) => key.includes(path) || path.includes(key));
  return `is missing. Expected ${spec.dtype} [${spec.shape.join(", ")}]${others.length > 0 ? `; found ${others.slice(0, 3).join(", ")}` : ""}.`;
}

function checkTensor(
  { dtype, shape, data }: HostTensor,
  path: string,
  complain: (path: string, what: string) => never,
): void {
  const array = (arrays as Record<string, (typeof arrays)[DType]>)[dtype];
  if (!array) complain(path, `has the type ${dtype}. Use float32, int32 or bool.`);
  else if (!(data instanceof array))
    complain(
      path,
      `is ${dtype} and must hold a ${array.name}, got ${(data as object).constructor.name}.`,
    );
  let count = 1;
  for (const size of shape) {
    if (!Number.isInteger(size) || size < 0)
      complain(path, `has the shape [${shape.join(", ")}]. Sizes must be whole numbers >= 0.`);
    count *= size;
  }
  if (data.length !== count)
    complain(path, `has ${data.length} numbers, its shape [${shape.join(", ")}] needs ${count}.`);
}

/** Arrays that outputs are written into, by output path; outputs without one are allocated. @throws EngineError `BAD_INPUT` */
export type IntoCheck = (
  into: HostTree | undefined,
  inputs: ReadonlyMap<string, HostTensor>,
  sizes: KnownSizes,
) => ReadonlyMap<string, HostTensor>;

/** Makes the check of the arrays that a function's outputs are written into. */
export function intoCheck(
  name: string,
  outputs: readonly Pick<TracedOutput, "path" | "dtype" | "dims">[],
): IntoCheck {
  const known = new Map(
    outputs.map(({ path, dtype, dims }) => [path, { dtype, dims, axes: dims.map(sizeReader) }]),
  );
  const complain = (path: string, what: string): never => {
    throw new EngineError("BAD_INPUT", `[${name}] into ${path || "result"} ${what}`);
  };
  return (into, inputs, sizes) => {
    if (into === undefined) return NONE;
    const owners = new Map<ArrayBufferLike, string>();
    for (const [path, { data }] of inputs) if (data.length > 0) owners.set(data.buffer, path);
    const places = new Map<string, HostTensor>();
    visit(into as Tree<HostTensor>, isHost, "", (leaf, path) => {
      const output = path === "" ? "result" : path;
      const { dtype, dims, axes } =
        known.get(output) ??
        complain(path, `is no output of this function. Outputs: ${[...known.keys()].join(", ")}.`);
      checkTensor(leaf, path, complain);
      const fits =
        leaf.dtype === dtype &&
        leaf.shape.length === axes.length &&
        axes.every((axis, at) => (axis(sizes) ?? leaf.shape[at]) === leaf.shape[at]);
      if (!fits)
        complain(
          path,
          `must be ${dtype} [${axes.map((axis, at) => axis(sizes) ?? dims[at]).join(", ")}], got ${leaf.dtype} [${leaf.shape.join(", ")}].`,
        );
      const owner = leaf.data.length > 0 ? owners.get(leaf.data.buffer) : undefined;
      if (owner !== undefined && overlaps(leaf, inputs.get(owner) as HostTensor))
        complain(path, `is the memory of the input ${owner}. Use two buffers in turn.`);
      places.set(output, leaf);
    });
    return places;
  };
}

const NONE: ReadonlyMap<string, HostTensor> = new Map();

function overlaps({ data: a }: HostTensor, { data: b }: HostTensor): boolean {
  return (
    a.buffer === b.buffer &&
    a.byteOffset < b.byteOffset + b.byteLength &&
    b.byteOffset < a.byteOffset + a.byteLength
  );
}

/** Reads an output's size, a number or a product of symbols, sums and numbers; `undefined` where it is not known. */
function sizeReader(dim: number | string): (sizes: KnownSizes) => number | undefined {
  if (typeof dim === "number") return () => dim;
  const parts = dim.split("*").map(partReader);
  return (sizes) => {
    let product = 1;
    for (const part of parts) {
      const size = part(sizes);
      if (size === undefined) return undefined;
      product *= size;
    }
    return product;
  };
}

function partReader(part: string): (sizes: KnownSizes) => number | undefined {
  if (/^\d+$/.test(part)) return () => Number(part);
  const expression = parseExpression(part);
  return isSum(expression)
    ? (sizes) => evaluate(expression, (symbol) => sizes.get(symbol))
    : (sizes) => sizes.get(part);
}

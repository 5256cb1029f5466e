/** @file Checks what a run is given: inputs against their specs, and arrays to write into against the outputs. */
import { EngineError } from "./errors.js";
import { type Expression, evaluate, isSum, parseExpression } from "./trace/symbols.js";
import { isHost, type TracedInput, type TracedOutput } from "./trace/trace.js";
import { flatten } from "./tree.js";
import type { DType, HostTensor, HostTree, Tree } from "./types.js";

/** Sizes of symbols in one run. */
export type KnownSizes = ReadonlyMap<string, number>;

export interface CheckedInputs {
  readonly tensors: ReadonlyMap<string, HostTensor>;
  readonly sizes: KnownSizes;
}

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const;

/**
 * Checks a run's inputs against the specs and lists them by path.
 * @throws EngineError `BAD_INPUT`
 */
export function checkInputs(
  name: string,
  { inputs: specs }: { readonly inputs: readonly TracedInput[] },
  inputs: { readonly [key: string]: HostTree },
): CheckedInputs {
  const given = new Map(
    flatten(inputs as Tree<HostTensor>, isHost).map(({ path, leaf }) => [path, leaf]),
  );
  const complain = (path: string, what: string): never => {
    throw new EngineError("BAD_INPUT", `[${name}] input ${path} ${what}`);
  };
  const sizes = new Map<string, number>();
  const sources = new Map<string, string>();
  const sums: { path: string; size: number; expression: Expression }[] = [];
  const agree = (path: string, symbol: string, size: number) => {
    const known = sizes.get(symbol);
    if (known !== undefined && known !== size)
      complain(
        path,
        `has ${symbol} = ${size}, but ${sources.get(symbol)} has ${symbol} = ${known}. Sizes of one symbol must agree.`,
      );
    sizes.set(symbol, size);
    if (!sources.has(symbol)) sources.set(symbol, path);
  };
  for (const { path, spec } of specs) {
    const tensor = given.get(path) ?? complain(path, missing(spec, path, given));
    checkTensor(tensor, path, complain);
    const { dtype, shape } = tensor;
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
    for (const [axis, symbol] of spec.shape.entries()) {
      if (typeof symbol === "number") continue;
      const size = shape[axis] as number;
      if (SIMPLE.test(symbol)) agree(path, symbol, size);
      else sums.push({ path, size, expression: parseExpression(symbol) });
    }
  }
  for (const { path, size, expression } of sums) {
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
  if (!shape.every((size) => Number.isInteger(size) && size >= 0))
    complain(path, `has the shape [${shape.join(", ")}]. Sizes must be whole numbers >= 0.`);
  const count = shape.reduce((product, size) => product * size, 1);
  if (data.length !== count)
    complain(path, `has ${data.length} numbers, its shape [${shape.join(", ")}] needs ${count}.`);
}

/** Outputs by path. */
export type KnownOutputs = ReadonlyMap<string, Pick<TracedOutput, "path" | "dtype" | "dims">>;

/**
 * Checks the arrays that outputs are written into and lists them by output path; outputs without one are allocated.
 * @throws EngineError `BAD_INPUT`
 */
export function checkInto(
  name: string,
  known: KnownOutputs,
  into: HostTree | undefined,
  inputs: ReadonlyMap<string, HostTensor>,
  sizes: KnownSizes,
): ReadonlyMap<string, HostTensor> {
  const places = new Map<string, HostTensor>();
  if (into === undefined) return places;
  const complain = (path: string, what: string): never => {
    throw new EngineError("BAD_INPUT", `[${name}] into ${path || "result"} ${what}`);
  };
  const owners = new Map<ArrayBufferLike, string>();
  for (const [path, { data }] of inputs) if (data.length > 0) owners.set(data.buffer, path);
  for (const { path, leaf } of flatten(into as Tree<HostTensor>, isHost)) {
    const output =
      known.get(path === "" ? "result" : path) ??
      complain(path, `is no output of this function. Outputs: ${[...known.keys()].join(", ")}.`);
    checkTensor(leaf, path, complain);
    const shape = output.dims.map((dim) => sizeOf(dim, sizes));
    const fits =
      leaf.dtype === output.dtype &&
      leaf.shape.length === shape.length &&
      shape.every((size, axis) => size === undefined || size === leaf.shape[axis]);
    if (!fits)
      complain(
        path,
        `must be ${output.dtype} [${shape.map((size, axis) => size ?? output.dims[axis]).join(", ")}], got ${leaf.dtype} [${leaf.shape.join(", ")}].`,
      );
    const owner = leaf.data.length > 0 ? owners.get(leaf.data.buffer) : undefined;
    if (owner !== undefined && overlaps(leaf, inputs.get(owner) as HostTensor))
      complain(path, `is the memory of the input ${owner}. Use two buffers in turn.`);
    places.set(output.path, leaf);
  }
  return places;
}

function overlaps({ data: a }: HostTensor, { data: b }: HostTensor): boolean {
  return (
    a.buffer === b.buffer &&
    a.byteOffset < b.byteOffset + b.byteLength &&
    b.byteOffset < a.byteOffset + a.byteLength
  );
}

/** An output's size: a number, or a product of symbols, sums and numbers. */
function sizeOf(dim: number | string, sizes: KnownSizes): number | undefined {
  if (typeof dim === "number") return dim;
  let product = 1;
  for (const part of dim.split("*")) {
    const size = /^\d+$/.test(part) ? Number(part) : (sizes.get(part) ?? evaluatePart(part, sizes));
    if (size === undefined) return undefined;
    product *= size;
  }
  return product;
}

function evaluatePart(part: string, sizes: KnownSizes): number | undefined {
  const expression = parseExpression(part);
  return isSum(expression) ? evaluate(expression, (symbol) => sizes.get(symbol)) : undefined;
}

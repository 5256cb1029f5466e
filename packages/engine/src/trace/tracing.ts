/** @file One trace in progress: the graph, its symbols, and helpers that kernels build with. */
import { EngineError } from "../errors.js";
import { elementTypes, GraphBuilder, type Value, type ValueType } from "../onnx/graph.js";
import { type Expression, factorise, isSum, type SymbolTable } from "./symbols.js";

export class Tracing {
  readonly graph: GraphBuilder;
  readonly #sources = new Map<string, { readonly value: Value; readonly axis: number }>();
  readonly #expressions: ReadonlyMap<string, Expression>;
  /** What a reshaped value was reshaped from. */
  readonly #reshaped = new Map<Value, Value>();

  constructor(
    readonly name: string,
    readonly table: SymbolTable,
    expressions: readonly Expression[],
    opset: number,
  ) {
    this.graph = new GraphBuilder(opset);
    this.#expressions = new Map(expressions.map((expression) => [expression.text, expression]));
  }

  /** Declares where the size of a symbol, or of a sum, can be read at run time. */
  declare(symbol: string, value: Value, axis: number): void {
    if (!this.#sources.has(symbol)) this.#sources.set(symbol, { value, axis });
  }

  isSymbolic(size: number): boolean {
    return factorise(size, this.table).symbols.length > 0;
  }

  /** One size as an int64 `[1]` value. */
  size(size: number): Value {
    const { factor, symbols } = factorise(size, this.table);
    let product: Value | undefined;
    for (const symbol of symbols) {
      const next = this.#sizeOf(symbol);
      product = product
        ? this.graph.node("Mul", [product, next], { type: "int64", shape: [1] })
        : next;
    }
    if (!product) return this.graph.ints([size]);
    return factor === 1
      ? product
      : this.graph.node("Mul", [product, this.graph.ints([factor])], { type: "int64", shape: [1] });
  }

  /** A shape as an int64 `[rank]` value. */
  shape(shape: readonly number[]): Value {
    if (!shape.some((size) => this.isSymbolic(size))) return this.graph.ints(shape);
    const parts: Value[] = [];
    let run: number[] = [];
    const flush = () => {
      if (run.length > 0) parts.push(this.graph.ints(run));
      run = [];
    };
    for (const size of shape) {
      if (this.isSymbolic(size)) {
        flush();
        parts.push(this.size(size));
      } else run.push(size);
    }
    flush();
    if (parts.length === 1) return parts[0] as Value;
    return this.graph.node("Concat", parts, { type: "int64", shape: [shape.length] }, { axis: 0 });
  }

  #sizeOf(symbol: string): Value {
    const source = this.#sources.get(symbol);
    if (source) {
      const { value, axis } = source;
      return this.graph.node(
        "Shape",
        [value],
        { type: "int64", shape: [1] },
        { start: axis, end: axis + 1 },
      );
    }
    const sum = this.#expressions.get(symbol);
    if (sum && isSum(sum)) return this.#total(sum.terms, sum.offset);
    // No input has this symbol alone: take it from a sum of which all other symbols are known.
    for (const candidate of this.#expressions.values()) {
      const own = candidate.terms.find((term) => term.symbol === symbol);
      const others = candidate.terms.filter((term) => term !== own);
      if (!own || !this.#sources.has(candidate.text)) continue;
      if (!others.every((term) => this.#sources.has(term.symbol))) continue;
      const flip = (sign: 1 | -1): 1 | -1 => (sign === own.sign ? -1 : 1);
      return this.#total(
        [
          { symbol: candidate.text, sign: own.sign },
          ...others.map((term) => ({ symbol: term.symbol, sign: flip(term.sign) })),
        ],
        -own.sign * candidate.offset,
      );
    }
    throw new EngineError(
      "BAD_OPTION",
      `[${this.name}] no input tells the size of the symbolic dimension "${symbol}". Give an input that has it as a dimension of its own.`,
    );
  }

  #total(
    terms: readonly { readonly symbol: string; readonly sign: 1 | -1 }[],
    offset: number,
  ): Value {
    let total: Value | undefined = offset === 0 ? undefined : this.graph.ints([offset]);
    for (const { symbol, sign } of [...terms].sort((a, b) => b.sign - a.sign)) {
      const size = this.#sizeOf(symbol);
      const start: Value = total ?? this.graph.ints([0]);
      total =
        total === undefined && sign === 1
          ? size
          : this.graph.node(sign === 1 ? "Add" : "Sub", [start, size], {
              type: "int64",
              shape: [1],
            });
    }
    return total as Value;
  }

  cast(value: Value, type: ValueType): Value {
    if (value.type === type) return value;
    return this.graph.node(
      "Cast",
      [value],
      { type, shape: value.shape },
      { to: elementTypes[type] },
    );
  }

  reshape(value: Value, shape: readonly number[]): Value {
    if (sameShape(value.shape, shape)) return value;
    // There and back again: what was reshaped is there already.
    const before = this.#reshaped.get(value);
    if (before && sameShape(before.shape, shape)) return before;
    const made = this.#reshape(value, shape);
    this.#reshaped.set(made, value);
    return made;
  }

  #reshape(value: Value, shape: readonly number[]): Value {
    // Prefers 0 (copy) or -1 (infer) over computed sizes: they cost nothing at run time. Never both in one shape:
    // where a copied size is 0, such as the past length of a first token, nothing can be inferred.
    const symbolic = shape.map((size) => this.isSymbolic(size));
    const copied = shape.map((size, axis) => symbolic[axis] && value.shape[axis] === size);
    const isCopy = symbolic.every((is, axis) => is === copied[axis]);
    const isInferable = symbolic.filter(Boolean).length === 1 && !shape.includes(0);
    const output = { type: value.type, shape };
    if ((isCopy && !shape.includes(0)) || isInferable)
      return this.graph.node(
        "Reshape",
        [
          value,
          this.graph.ints(
            shape.map((size, axis) => (symbolic[axis] ? (isInferable ? -1 : 0) : size)),
          ),
        ],
        output,
      );
    return this.graph.node("Reshape", [value, this.shape(shape)], output, { allowzero: 1 });
  }

  transpose(value: Value, perm: readonly number[]): Value {
    if (perm.every((axis, index) => axis === index)) return value;
    return this.graph.node(
      "Transpose",
      [value],
      { type: value.type, shape: perm.map((axis) => value.shape[axis] as number) },
      { perm },
    );
  }

  /** A tensor of one repeated number. */
  fill(type: "float32" | "int32" | "bool", shape: readonly number[], number: number): Value {
    const scalar = this.graph.scalar(type, number);
    if (shape.length === 0) return scalar;
    return this.expand(scalar, shape);
  }

  expand(value: Value, shape: readonly number[]): Value {
    if (sameShape(value.shape, shape)) return value;
    return this.graph.node("Expand", [value, this.shape(shape)], { type: value.type, shape });
  }

  unary(op: string, value: Value, type: ValueType = value.type): Value {
    return this.graph.node(op, [value], { type, shape: value.shape });
  }

  binary(op: string, a: Value, b: Value, type: ValueType = a.type): Value {
    return this.graph.node(op, [a, b], { type, shape: broadcastShape(a.shape, b.shape) });
  }

  /** Reductions take their axes as an input from opset 18 on (ReduceSum from 13), as an attribute before. */
  reduce(
    op: string,
    value: Value,
    axes: readonly number[],
    keepDims: boolean,
    type = value.type,
  ): Value {
    const shape = value.shape
      .map((size, axis) => (axes.includes(axis) ? 1 : size))
      .filter((_, axis) => keepDims || !axes.includes(axis));
    const keepdims = keepDims ? 1 : 0;
    if (axes.length === 0) return value;
    if (op === "ReduceSum" || this.graph.opset >= 18)
      return this.graph.node(op, [value, this.graph.ints(axes)], { type, shape }, { keepdims });
    return this.graph.node(op, [value], { type, shape }, { axes: [...axes], keepdims });
  }
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, index) => {
    const x = a[a.length - rank + index] ?? 1;
    const y = b[b.length - rank + index] ?? 1;
    if (x !== y && x !== 1 && y !== 1)
      throw new EngineError(
        "TRACE_FAILED",
        `[trace] shapes [${a.join(", ")}] and [${b.join(", ")}] don't broadcast. Reshape one of them.`,
      );
    return x === 1 ? y : x;
  });
}

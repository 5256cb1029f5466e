/**
 * @file Symbolic dimensions: each symbol is a prime while tracing, so that a size computed from it can be recognised.
 *
 * Products of symbols are recognised by themselves. Sums such as `past+length` are recognised where a spec (or the
 * `sizes` option) names them, and stand for the sum of their symbols' primes.
 */
import { EngineError } from "../errors.js";

/** Primes large enough to be rare as sizes and small enough that `tf.ones(shape)` stays cheap. */
const CANDIDATES = [
  53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151,
  157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257,
];

/** A symbol, or a sum that a spec names: `past+length`, `length-1`. */
export interface Expression {
  readonly text: string;
  readonly terms: readonly { readonly symbol: string; readonly sign: 1 | -1 }[];
  readonly offset: number;
}

/**
 * Reads the name of a symbolic dimension.
 * @throws EngineError `BAD_OPTION`
 */
export function parseExpression(text: string): Expression {
  const compact = text.replace(/\s+/g, "");
  if (!/^[A-Za-z_]\w*([+-](\d+|[A-Za-z_]\w*))*$/.test(compact))
    throw new EngineError(
      "BAD_OPTION",
      `[trace] a symbolic dimension is a name or a sum of names and numbers, got "${text}". Write for example "batch", "past+length" or "length-1".`,
    );
  const terms: { symbol: string; sign: 1 | -1 }[] = [];
  let offset = 0;
  for (const [, mark, word] of compact.matchAll(/([+-]?)(\w+)/g) as Iterable<string[]>) {
    const sign = mark === "-" ? -1 : 1;
    if (/^\d/.test(word as string)) offset += sign * Number(word);
    else terms.push({ symbol: word as string, sign });
  }
  return { text: compact, terms, offset };
}

export function isSum(expression: Expression): boolean {
  return expression.terms.length > 1 || expression.offset !== 0;
}

/** The value of an expression where all its symbols are known. */
export function evaluate(
  { terms, offset }: Expression,
  sizeOf: (symbol: string) => number | undefined,
): number | undefined {
  let total = offset;
  for (const { symbol, sign } of terms) {
    const size = sizeOf(symbol);
    if (size === undefined) return undefined;
    total += sign * size;
  }
  return total;
}

export interface SymbolTable {
  /** The stand-in of each symbol and sum, sums first: a sum's size is never a multiple of a symbol's. */
  readonly sizes: ReadonlyMap<string, number>;
}

/**
 * Picks stand-ins for `count` traces, among primes that divide no static size.
 * @throws EngineError `SYMBOL_COLLISION` when there are not enough of them
 */
export function chooseStandIns(
  name: string,
  expressions: readonly Expression[],
  staticSizes: readonly number[],
  count: number,
): readonly SymbolTable[] {
  const sums = expressions.filter(isSum);
  const symbols = [
    ...new Set(expressions.flatMap(({ terms }) => terms.map((term) => term.symbol))),
  ];
  const divides = (divisor: number) =>
    staticSizes.some((size) => size !== 0 && size % divisor === 0);
  const free = CANDIDATES.filter((prime) => !divides(prime));
  const tables: SymbolTable[] = [];
  for (let from = 0; tables.length < count && from + symbols.length <= free.length; ) {
    // Every other trace has the symbols' order of size reversed, so that a comparison of two symbols shows.
    const order = tables.length % 2 === 0 ? symbols : [...symbols].reverse();
    const primes = new Map(order.map((symbol, index) => [symbol, free[from + index] as number]));
    const sizes = sums.map(
      (sum) => [sum.text, evaluate(sum, (symbol) => primes.get(symbol)) as number] as const,
    );
    const isTellable = sizes.every(
      ([, size], index) =>
        largestPrimeFactor(size) > 10 &&
        !divides(size) &&
        [...primes.values()].every((prime) => size % prime !== 0) &&
        sizes.every(([, other], place) => place === index || other % size !== 0),
    );
    if (isTellable)
      tables.push({
        sizes: new Map([
          ...sizes,
          ...symbols.map((name) => [name, primes.get(name) as number] as const),
        ]),
      });
    from += isTellable ? symbols.length : 1;
  }
  if (tables.length < count)
    throw new EngineError(
      "SYMBOL_COLLISION",
      `[${name}] the symbolic dimensions ${expressions.map(({ text }) => text).join(", ")} can't be told from the static sizes ${[...new Set(staticSizes)].join(", ")}. Use fewer symbols, or make a static size symbolic.`,
    );
  return tables;
}

function largestPrimeFactor(size: number): number {
  let rest = size;
  for (let divisor = 2; divisor * divisor <= rest; divisor += 1)
    while (rest % divisor === 0 && rest !== divisor) rest /= divisor;
  return rest;
}

/** A size as a static factor times symbols and sums; one may occur more than once. */
export interface Factors {
  readonly factor: number;
  readonly symbols: readonly string[];
}

/** Splits a traced size into its static part and its symbols. */
export function factorise(size: number, table: SymbolTable): Factors {
  const symbols: string[] = [];
  let factor = size;
  for (const [symbol, standIn] of table.sizes) {
    while (factor !== 0 && factor % standIn === 0) {
      symbols.push(symbol);
      factor /= standIn;
    }
  }
  return { factor, symbols };
}

/** A size for people: `batch`, `12`, `2*batch*length`. */
export function describeSize(size: number, table: SymbolTable): string | number {
  const { factor, symbols } = factorise(size, table);
  if (symbols.length === 0) return size;
  return [...(factor === 1 ? [] : [factor]), ...symbols].join("*");
}

/** Says what a number is in terms of the symbols, from its values in two traces: `1 / batch`, `length - 1`. */
export function explainNumber(
  a: number,
  b: number,
  tableA: SymbolTable,
  tableB: SymbolTable,
): string | undefined {
  const names = [...tableA.sizes.keys()];
  const products = [
    ...names.map((name) => [name]),
    ...names.flatMap((left, index) => names.slice(index).map((right) => [left, right])),
  ];
  const near = (x: number, y: number) => Math.abs(x - y) <= 1e-6 * Math.max(1e-3, Math.abs(y));
  let best: { readonly text: string; readonly distance: number } | undefined;
  const consider = (text: string, distance: number) => {
    if (!best || distance < best.distance) best = { text, distance };
  };
  for (const product of products) {
    const valueIn = (table: SymbolTable) =>
      product.reduce((size, name) => size * (table.sizes.get(name) as number), 1);
    const [p, q] = [valueIn(tableA), valueIn(tableB)];
    const text = product.join(" * ");
    if (near(a * p, b * q)) {
      const top = Number((a * p).toPrecision(6));
      consider(`${top} / ${product.length > 1 ? `(${text})` : text}`, 0.5);
    }
    const slope = (a - b) / (p - q);
    const offset = a - slope * p;
    if (!Number.isInteger(slope) || slope === 0 || !Number.isInteger(offset)) continue;
    if (Math.abs(slope) > 64 || Math.abs(offset) > 64) continue;
    const scaled = slope === 1 ? text : `${slope} * ${text}`;
    consider(
      offset === 0 ? scaled : `${scaled} ${offset < 0 ? "-" : "+"} ${Math.abs(offset)}`,
      Math.abs(slope) - 1 + Math.abs(offset),
    );
  }
  return best?.text;
}

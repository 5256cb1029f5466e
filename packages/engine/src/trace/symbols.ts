/**
 * @file Symbolic dimensions: each symbol is a prime while tracing, so that it can be told from every static size.
 */

/** Primes that are large enough to be rare as sizes and small enough that `tf.ones(shape)` stays cheap. */
const CANDIDATES = [
  101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191,
];

export interface SymbolTable {
  /** The stand-in of each symbol. */
  readonly sizes: ReadonlyMap<string, number>;
}

/**
 * Picks two stand-ins per symbol, for the two traces, among primes that divide no static size.
 * @returns undefined when there are not enough of them
 */
export function chooseStandIns(
  symbols: readonly string[],
  staticSizes: readonly number[],
): readonly [SymbolTable, SymbolTable] | undefined {
  const free = CANDIDATES.filter((prime) =>
    staticSizes.every((size) => size === 0 || size % prime !== 0),
  );
  if (free.length < symbols.length * 2) return undefined;
  const table = (offset: number): SymbolTable => ({
    sizes: new Map(symbols.map((symbol, index) => [symbol, free[index * 2 + offset] as number])),
  });
  return [table(0), table(1)];
}

/** A size as a static factor times symbols; a symbol may occur more than once. */
export interface Factors {
  readonly factor: number;
  readonly symbols: readonly string[];
}

/** Splits a traced size into its static part and its symbols. */
export function factorise(size: number, table: SymbolTable): Factors {
  const symbols: string[] = [];
  let factor = size;
  for (const [symbol, prime] of table.sizes) {
    while (factor !== 0 && factor % prime === 0) {
      symbols.push(symbol);
      factor /= prime;
    }
  }
  return { factor, symbols };
}

/** A size for people: `batch`, `12`, `batch*length`. */
export function describeSize(size: number, table: SymbolTable): string | number {
  const { factor, symbols } = factorise(size, table);
  if (symbols.length === 0) return size;
  return [...(factor === 1 ? [] : [factor]), ...symbols].join("*");
}

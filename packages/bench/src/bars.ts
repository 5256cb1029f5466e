/** @file The bars that the project sets itself, in words. */

export interface Bar {
  readonly name: string;
  readonly value: number;
  readonly limit: string;
  readonly isMet: boolean;
}

/** A line for each. */
export function barLines(bars: readonly Bar[]): string[] {
  return bars.map(
    ({ name, value, limit, isMet }) =>
      `${isMet ? "met    " : "NOT MET"}  ${name}: ${value.toFixed(3)} (${limit})`,
  );
}

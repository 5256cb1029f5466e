/** @file The bars that the project sets itself, in words. */

export interface Bar {
  readonly name: string;
  readonly value: number;
  readonly limit: string;
  readonly isMet: boolean;
  /** The measured value misses the bar, and its 95 % interval holds the limit: the run does not settle it. @default false */
  readonly isOpen?: boolean;
}

/** A line for each. */
export function barLines(bars: readonly Bar[]): string[] {
  return bars.map(
    ({ name, value, limit, isMet, isOpen = false }) =>
      `${isOpen ? "OPEN   " : isMet ? "met    " : "NOT MET"}  ${name}: ${value.toFixed(3)} (${limit}${isOpen ? "; the limit lies within the interval, so that this run does not settle it" : ""})`,
  );
}

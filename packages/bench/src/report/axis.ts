/** @file An axis of a chart: round limits and ticks around the data. */

/** `percent` of a fraction, `times` for factors, `number` for anything else, as it is. */
export type Unit = "percent" | "times" | "number";

export interface Axis {
  readonly low: number;
  readonly high: number;
  readonly ticks: readonly { readonly value: number; readonly label: string }[];
  /** Where a value lies, 0 at the low end and 1 at the high end. */
  at(value: number): number;
}

/** Shares are drawn to scale, factors logarithmically, as twice as fast is one step wherever it starts. */
export function axis(values: readonly number[], unit: Unit, about: number): Axis {
  const known = values.filter(Number.isFinite);
  const least = known.length === 0 ? (unit === "times" ? 1 : 0) : Math.min(...known);
  const most = known.length === 0 ? least : Math.max(...known);
  return unit === "times" ? logarithmic(least, most) : linear(least, most, about, unit);
}

function linear(least: number, most: number, about: number, unit: "percent" | "number"): Axis {
  const span = Math.max(most - least, 0.02);
  const rough = span / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough)!;
  const first = Math.floor(least / step + 1e-9);
  const last = Math.max(Math.ceil(most / step - 1e-9), first + 1);
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => {
    const value = (first + index) * step;
    const text =
      unit === "percent" ? (100 * value).toFixed(step < 0.0099 ? 1 : 0) : plain(value, step);
    return { value, label: text.replace("-", "−") };
  });
  const [low, high] = [first * step, last * step];
  return { low, high, ticks, at: (value) => (value - low) / (high - low) };
}

/** As many digits as the step has. */
function plain(value: number, step: number): string {
  return value.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
}

const factors = [0.25, 0.5, 0.7, 1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

function logarithmic(least: number, most: number): Axis {
  const below = factors.findLastIndex((factor) => factor <= least + 1e-9);
  const above = factors.findIndex((factor) => factor >= most - 1e-9);
  const first = Math.max(0, below);
  const last = above < 0 ? factors.length - 1 : Math.max(above, first + 1);
  const shown = factors.slice(first, last + 1);
  const [low, high] = [Math.min(shown[0]!, least), Math.max(shown.at(-1)!, most)];
  return {
    low,
    high,
    ticks: shown.map((value) => ({ value, label: `${value}×` })),
    at: (value) => Math.log(value / low) / Math.log(high / low),
  };
}

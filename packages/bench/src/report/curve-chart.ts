/** @file The chart of score against saved layers, as inline SVG. */
import { escapeHtml } from "./html.js";

export interface ChartPoint {
  /** Saved layers, a fraction. */
  readonly x: number;
  /** Score, a fraction. */
  readonly y: number;
  /** What hovering shows; lines are separated by `\n`. */
  readonly tip: string;
  /** Operating points are drawn larger. */
  readonly mark?: "full" | "no-loss" | "one-percent";
}

export interface ChartSeries {
  readonly name: string;
  /** Colour and marker; the same in every chart of a report. */
  readonly style: number;
  readonly points: readonly ChartPoint[];
}

export interface CurveChart {
  /** Read out in place of the picture. */
  readonly description: string;
  readonly yTitle: string;
  readonly series: readonly ChartSeries[];
  /** A dashed line with a name. */
  readonly reference?: { readonly y: number; readonly name: string };
}

/** Colours are CSS variables --c0 to --c7; beyond these, shapes and dashes tell methods apart. */
export const COLOURS = 8;
const WIDTH = 440;
const HEIGHT = 300;
const LEFT = 46;
const RIGHT = 14;
const TOP = 14;
const BOTTOM = 42;

export function curveChart({ description, yTitle, series, reference }: CurveChart): string {
  const all = series.flatMap(({ points }) => points);
  const ys = [...all.map(({ y }) => y), ...(reference ? [reference.y] : [])];
  const xs = all.map(({ x }) => x);
  const y = axis(Math.min(...ys), Math.max(...ys), 5);
  const x = axis(Math.min(0, ...xs), Math.max(0.5, ...xs), 6);
  const toX = (value: number) =>
    LEFT + ((value - x.low) / (x.high - x.low)) * (WIDTH - LEFT - RIGHT);
  const toY = (value: number) =>
    HEIGHT - BOTTOM - ((value - y.low) / (y.high - y.low)) * (HEIGHT - TOP - BOTTOM);

  const parts: string[] = [];
  for (const tick of y.ticks) {
    const at = round(toY(tick));
    parts.push(
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}"/>`,
      `<text class="tick" x="${LEFT - 6}" y="${at + 4}" text-anchor="end">${label(tick, y.step)}</text>`,
    );
  }
  for (const tick of x.ticks) {
    const at = round(toX(tick));
    parts.push(
      `<line class="grid" x1="${at}" x2="${at}" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/>`,
      `<text class="tick" x="${at}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${label(tick, x.step)}%</text>`,
    );
  }
  parts.push(
    `<text class="axis" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 6}" text-anchor="middle">saved layers</text>`,
    `<text class="axis" x="13" y="${(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" ` +
      `transform="rotate(-90 13 ${(TOP + HEIGHT - BOTTOM) / 2})">${escapeHtml(yTitle)}</text>`,
  );
  if (reference) {
    const at = round(toY(reference.y));
    parts.push(
      `<line class="reference" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}"/>`,
      `<text class="tick" x="${WIDTH - RIGHT}" y="${at - 4}" text-anchor="end">${escapeHtml(reference.name)}</text>`,
    );
  }
  for (const { style, points } of series) {
    const sorted = [...points].sort((a, b) => a.x - b.x || b.y - a.y);
    const path = sorted
      .map(
        (point, index) => `${index === 0 ? "M" : "L"}${round(toX(point.x))} ${round(toY(point.y))}`,
      )
      .join("");
    const dash = style >= COLOURS ? ' stroke-dasharray="5 3"' : "";
    const marks = sorted
      .map((point) => {
        const [cx, cy] = [round(toX(point.x)), round(toY(point.y))];
        const shape = marker(style, cx, cy, point.mark === undefined ? 2.6 : 4.6);
        const ring =
          point.mark === "no-loss" || point.mark === "one-percent"
            ? `<circle class="ring ${point.mark}" cx="${cx}" cy="${cy}" r="8.5"/>`
            : "";
        return `<g data-tip="${escapeHtml(point.tip)}"><circle class="hit" cx="${cx}" cy="${cy}" r="11"/>${ring}${shape}</g>`;
      })
      .join("");
    parts.push(
      `<g class="series" data-series="${style}" style="--series:var(--c${style % COLOURS})">` +
        `<path class="curve" d="${path}"${dash}/>${marks}</g>`,
    );
  }
  return (
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(description)}">` +
    `${parts.join("\n")}</svg>`
  );
}

/** A method's sign: filled shapes in turn, so that colour is not the only difference. */
export function marker(style: number, x: number, y: number, size: number): string {
  const s = size;
  const polygon = (points: readonly (readonly [number, number])[]) =>
    `<polygon class="mark" points="${points.map(([dx, dy]) => `${round(x + dx * s)},${round(y + dy * s)}`).join(" ")}"/>`;
  switch (style % 5) {
    case 0:
      return `<circle class="mark" cx="${x}" cy="${y}" r="${round(s)}"/>`;
    case 1:
      return polygon([
        [-0.9, -0.9],
        [0.9, -0.9],
        [0.9, 0.9],
        [-0.9, 0.9],
      ]);
    case 2:
      return polygon([
        [0, -1.25],
        [1.15, 0.85],
        [-1.15, 0.85],
      ]);
    case 3:
      return polygon([
        [0, -1.3],
        [1.3, 0],
        [0, 1.3],
        [-1.3, 0],
      ]);
    default:
      return polygon([
        [0, 1.25],
        [1.15, -0.85],
        [-1.15, -0.85],
      ]);
  }
}

/** Round limits and ticks around a range. */
export function axis(
  least: number,
  most: number,
  about: number,
): { low: number; high: number; step: number; ticks: number[] } {
  const span = Math.max(most - least, 0.02);
  const rough = span / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough)!;
  const first = Math.floor(least / step + 1e-9);
  const last = Math.max(Math.ceil(most / step - 1e-9), first + 1);
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
  return { low: first * step, high: last * step, step, ticks };
}

function label(value: number, step: number): string {
  return (100 * value).toFixed(step < 0.0099 ? 1 : 0);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** @file A chart of score against a saving, as SVG without anything from outside. */
import { axis, type Unit } from "./axis.js";
import { type Html, html } from "./html.js";
import { COLOURS, dashOf, markerPath } from "./marker.js";

export interface ChartPoint {
  readonly x: number;
  /** Score, a fraction, unless the chart says otherwise. */
  readonly y: number;
  /** Place of its text among the card's tips. */
  readonly tip?: number;
  /** Operating points are drawn larger, and ringed. */
  readonly mark?: "full" | "no-loss" | "one-percent";
}

export interface ChartSeries {
  readonly name: string;
  /** Colour, marker and dash; the same in every chart of a report. */
  readonly style: number;
  readonly points: readonly ChartPoint[];
}

export interface CurveChart {
  /** Read out in place of the picture. */
  readonly description: string;
  readonly x: { readonly title: string; readonly unit: Unit };
  /** @default percent of a score */
  readonly y?: { readonly unit: Unit };
  readonly yTitle: string;
  readonly series: readonly ChartSeries[];
  /** A dashed line with a name. */
  readonly reference?: { readonly y: number; readonly name: string };
  /** Points stand alone, without a line through them. */
  readonly scattered?: boolean;
}

/** Height of a tick's letters. */
const TEXT = 12;

export const CHART = { width: 420, height: 300, left: 58, right: 16, top: 12, bottom: 44 } as const;

/** The drawing, without its `<svg>`. */
export function curveChartBody({
  x: { title, unit },
  y: { unit: yUnit } = { unit: "percent" },
  yTitle,
  series,
  reference,
  scattered,
}: CurveChart): Html {
  const { width, height, left, right, top, bottom } = CHART;
  const all = series.flatMap(({ points }) => points);
  const xs = all.map(({ x }) => x);
  const ys = all.map(({ y }) => y);
  const origin = { percent: [0, 0.2], times: [1], number: [] }[unit];
  const x = axis([...origin, ...xs], unit, 5);
  const y = axis(reference ? [...ys, reference.y] : ys, yUnit, 5);
  const toX = (value: number) => round(left + x.at(value) * (width - left - right));
  const toY = (value: number) => round(height - bottom - y.at(value) * (height - top - bottom));
  const middle = (top + height - bottom) / 2;
  // The line's name stands above it, or below where the picture ends.
  const nameAt = (line: number) => (line - 5 - TEXT < 0 ? line + TEXT + 3 : line - 5);
  return html`${y.ticks.map(({ value, label }) => {
    const at = toY(value);
    return html`<line class="grid" x1="${left}" x2="${width - right}" y1="${at}" y2="${at}"/><text class="tick" x="${left - 6}" y="${at + 4}" text-anchor="end">${label}</text>`;
  })}${x.ticks.map(({ value, label }) => {
    const at = toX(value);
    return html`<line class="grid" x1="${at}" x2="${at}" y1="${top}" y2="${height - bottom}"/><text class="tick" x="${at}" y="${height - bottom + 16}" text-anchor="middle">${label}</text>`;
  })}<text class="axis" x="${(left + width - right) / 2}" y="${height - 8}" text-anchor="middle">${title}</text><text class="axis" x="12" y="${middle}" text-anchor="middle" transform="rotate(-90 12 ${middle})">${yTitle}</text>${
    reference &&
    html`<line class="reference" x1="${left}" x2="${width - right}" y1="${toY(reference.y)}" y2="${toY(reference.y)}"/><text class="tick halo" x="${width - right - 2}" y="${nameAt(toY(reference.y))}" text-anchor="end">${reference.name}</text>`
  }${series.map(({ style, points }) => {
    const sorted = [...points].sort((a, b) => a.x - b.x || b.y - a.y);
    const dash = dashOf(style);
    const line = sorted
      .map((point, index) => `${index === 0 ? "M" : "L"}${toX(point.x)} ${toY(point.y)}`)
      .join("");
    return html`
<g class="series s${style % COLOURS}" data-m="${style}">${
      scattered || sorted.length < 2
        ? undefined
        : html`<path class="curve" d="${line}" ${dash === "" ? html`` : html`stroke-dasharray="${dash}"`}/>`
    }${sorted.map(
      ({ x: px, y: py, tip, mark }) =>
        html`<g class="point" transform="translate(${toX(px)} ${toY(py)})" ${tip === undefined ? html`` : html`data-i="${tip}"`}>${
          mark === "no-loss" || mark === "one-percent"
            ? html`<circle class="ring ${mark}" r="8"/>`
            : undefined
        }<path class="mark" d="${markerPath(style, mark === undefined ? 2.6 : 4.4)}"/></g>`,
    )}</g>`;
  })}`;
}

/** The chart as an element of a page. */
export function curveChart(chart: CurveChart): Html {
  return html`<svg viewBox="0 0 ${CHART.width} ${CHART.height}" role="img" aria-label="${chart.description}">${curveChartBody(chart)}</svg>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** @file Curves of the report: score against saved layers, speed-up, measured time and tokens per second, per task. */
import type { ResultRow } from "../results.js";
import type { Unit } from "./axis.js";
import { methodFilter } from "./comparison-section.js";
import { type ChartPoint, type ChartSeries, type CurveChart, curveChart } from "./curve-chart.js";
import { type Html, html, htmlTable } from "./html.js";
import { COLOURS, markerPath } from "./marker.js";
import { pointsTable } from "./points-table.js";
import {
  type Column,
  isReference,
  knobText,
  percent,
  pointTitles,
  savedTimeText,
  type View,
} from "./view.js";

/** What a curve can be drawn against. */
export type AxisName = "saved" | "speedup" | "work" | "time" | "rate";

export const axes: Readonly<
  Record<AxisName, { readonly title: string; readonly chip: string; readonly unit: Unit }>
> = {
  saved: { title: "saved layers, %", chip: "saved layers", unit: "percent" },
  speedup: { title: "speed-up, layers / mean exit layer", chip: "speed-up", unit: "times" },
  work: {
    title: "saved layers, or operations by the cost model, %",
    chip: "saved work",
    unit: "percent",
  },
  time: { title: "saved time, % (measured)", chip: "measured time", unit: "percent" },
  rate: { title: "tokens per second (measured)", chip: "tokens per second", unit: "number" },
};

/**
 * Work is worth a chart of its own only where some method saves work without saving layers, and tokens per second where
 * texts were generated.
 */
export function axesOf(view: View): AxisName[] {
  const has = (field: "cost" | "tokensPerSecond") =>
    view.rows.some((row) => row[field] !== undefined);
  return (Object.keys(axes) as AxisName[]).filter(
    (name) => (name !== "work" || has("cost")) && (name !== "rate" || has("tokensPerSecond")),
  );
}

export function curvesSection(view: View): Html {
  if (view.columns.length === 0) return html``;
  const hasRate = axesOf(view).includes("rate");
  const sign = (style: number) =>
    html`<svg viewBox="-8 -8 16 16" class="s${style % COLOURS}" aria-hidden="true"><path class="mark" d="${markerPath(style, 5)}"/></svg>`;
  return html`<section id="curves"><h2>Curves</h2>
<p class="note">Every point is a value of a method's knob. A solid ring marks the fastest point without loss, a dashed ring the fastest within 1 %; the dashed line is
full depth. ${hasRate ? "Saved time is given for those points, tokens per second for all; a method's points took turns with full depth, its large mark on the line, and are to be compared with that one" : "Time is measured at those points only"}. Point at a mark or tap it for its numbers; with the keyboard, focus a chart and walk with the arrow keys.</p>
${methodFilter(view, sign)}
<div class="controls pick" role="group" aria-label="Against what the score is drawn"><span>Score against</span>${axesOf(
    view,
  ).map(
    (name, index) =>
      html`<button type="button" class="chip" data-choose="axis" data-key="${name}" aria-pressed="${String(index === 0)}">${axes[name].chip}</button>`,
  )}</div>
<div class="cards">${view.columns.map((column, index) => card(view, column, index))}</div></section>`;
}

function card(view: View, column: Column, index: number): Html {
  const { points, tips } = pointsOf(view, column);
  const charts = axesOf(view).map((name) => {
    const chart = taskChart(view, column, name, points);
    return chart
      ? html`<div class="plot" tabindex="0" role="group" aria-roledescription="chart" aria-label="${chart.description}; arrow keys walk through the points" data-axis="${name}">${curveChart(chart)}</div>`
      : html`<p class="note" data-axis="${name}">${name === "time" || name === "rate" ? "No time was measured on this task." : "No method of this task has exit layers."}</p>`;
  });
  return html`
<article class="card" data-c="${index}" data-tips="${JSON.stringify(tips)}"><h3>${column.title}</h3>${charts}<details><summary>Operating points</summary>${htmlTable(
    pointsTable(view, column),
  )}</details></article>`;
}

interface DrawnRow {
  readonly row: ResultRow;
  readonly tip: number;
}

/** A chart of one task, also for pictures outside the page; `undefined` without a point to draw. */
export function taskChart(
  view: View,
  column: Column,
  name: AxisName,
  drawn: readonly DrawnRow[] = pointsOf(view, column).points,
): CurveChart | undefined {
  const value = (row: ResultRow): number | null =>
    ({
      saved: row.savedLayers,
      speedup: row.speedup,
      work: row.cost === undefined ? row.savedLayers : 1 - row.cost,
      time: row.savedRuntime,
      rate: row.tokensPerSecond ?? null,
    })[name];
  const series: ChartSeries[] = [];
  for (const [style, method] of view.methods.entries()) {
    if (isReference(view, method)) continue;
    for (const seed of view.seeds) {
      const points = drawn.flatMap(({ row, tip }): ChartPoint[] => {
        const x = value(row);
        if (row.method !== method || row.seed !== seed || x === null) return [];
        // Full depth is the line, and needs no mark per method where time is drawn.
        if (name === "time" && row.operatingPoint === "full") return [];
        return [
          {
            x,
            y: row.score,
            tip,
            ...(row.operatingPoint === "curve" ? {} : { mark: row.operatingPoint }),
          },
        ];
      });
      if (points.length > 0) series.push({ name: view.methodTitle(method), style, points });
    }
  }
  if (series.length === 0) return undefined;
  const full = column.rows.filter(
    ({ operatingPoint, method }) => operatingPoint === "full" && isReference(view, method),
  );
  const mean = full.reduce((sum, { score }) => sum + score, 0) / full.length;
  return {
    description: `${column.metricTitle} against ${axes[name].chip} on ${column.title}, one line per method`,
    x: { title: axes[name].title, unit: axes[name].unit },
    yTitle: `${column.metricTitle}, %`,
    series,
    scattered: name === "time" || name === "rate",
    ...(full.length > 0 ? { reference: { y: mean, name: view.methodTitle(full[0]!.method) } } : {}),
  };
}

/** Rows to draw, each once: an operating point that is also on the curve is drawn as the operating point. */
function pointsOf(view: View, { rows }: Column) {
  const keyOf = ({ method, seed, savedLayers, score, knob, options }: ResultRow) =>
    JSON.stringify([method, seed, savedLayers, score, knob?.value, knob ? null : options]);
  const groups = new Map<string, ResultRow[]>();
  const rank = ["one-percent", "no-loss", "full", "curve"];
  for (const row of [...rows].sort(
    (a, b) => rank.indexOf(a.operatingPoint) - rank.indexOf(b.operatingPoint),
  )) {
    groups.set(keyOf(row), [...(groups.get(keyOf(row)) ?? []), row]);
  }
  const same = [...groups.values()];
  return {
    points: same.map((group, tip): DrawnRow => ({ row: group[0]!, tip })),
    tips: same.map((group) => tipOf(view, group)),
  };
}

function tipOf(view: View, same: readonly ResultRow[]): string {
  const row = same[0]!;
  const points = same.filter(({ operatingPoint }) => operatingPoint !== "curve");
  const names = [...new Set(points.map(({ operatingPoint }) => pointTitles[operatingPoint]))];
  const interval = row.intervals?.score;
  const lines = [
    [view.methodTitle(row.method), ...names].join(", "),
    `${row.metric} ${percent(row.score)}${interval ? ` [${interval.map(percent).join(", ")}]` : ""} (full depth ${percent(row.fullScore)})`,
  ];
  if (row.meanExitLayer !== null) {
    lines.push(
      `mean exit layer ${row.meanExitLayer.toFixed(2)} of ${row.layers}: saved ${percent(row.savedLayers!)} %, speed-up ${row.speedup!.toFixed(2)}×`,
    );
  }
  if (row.cost !== undefined) lines.push(`operations ${percent(row.cost)} % of full depth`);
  if (row.knob) lines.push(`${row.knob.name} = ${knobText(row.knob.value)}`);
  const { savedRuntime, tokensPerSecond } = row;
  if (tokensPerSecond !== undefined) lines.push(`${tokensPerSecond.toFixed(0)} tokens per second`);
  if (savedRuntime !== null) lines.push(`measured time ${savedTimeText(row)}`);
  else if (tokensPerSecond === undefined) lines.push("time not measured here");
  if (view.seeds.length > 1) lines.push(`seed ${row.seed}`);
  return lines.join("\n");
}

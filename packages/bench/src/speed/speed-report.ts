/** @file The speed benchmark's report: tables and charts in one HTML file, and the charts as pictures. */
import { chartPicture } from "../export/picture.js";
import { type CurveChart, curveChart } from "../report/curve-chart.js";
import { type Html, html, htmlTable, raw } from "../report/html.js";
import { COLOURS, markerPath } from "../report/marker.js";
import { style } from "../report/style.js";
import { SYSTEMS } from "./forced.js";
import type { SpeedResults } from "./results.js";
import { speedTables } from "./tables.js";

export interface SpeedChart {
  /** Kebab-case, for a file. */
  readonly name: string;
  readonly title: string;
  readonly chart: CurveChart;
}

export function speedCharts({ depths, mixed, latency }: SpeedResults): SpeedChart[] {
  const charts: SpeedChart[] = [];
  for (const width of new Set(depths.map((part) => part.width))) {
    const parts = depths.filter((part) => part.width === width);
    const systems = (parts[0]?.timed ?? []).map(({ system }) => system);
    charts.push({
      name: `forced-exits-${width}`,
      title: `Batch 1, exit forced, width ${width}`,
      chart: {
        description: `Time over that of the model that ends there, by exit layer, at width ${width}`,
        x: { title: "exit layer", unit: "number" },
        y: { unit: "number" },
        yTitle: "time / model that ends there",
        reference: { y: 1, name: SYSTEMS.truncated },
        series: systems.slice(1).map((name, index) => ({
          name,
          style: index,
          points: parts.map(({ layer, timed }) => ({
            x: layer,
            y: timed.find(({ system }) => system === name)?.ratio.estimate ?? Number.NaN,
          })),
        })),
      },
    });
  }
  for (const width of new Set(mixed.map((part) => part.width))) {
    const parts = mixed.filter((part) => part.width === width);
    const systems = (parts[0]?.timed ?? []).slice(1).map(({ system }) => system);
    charts.push({
      name: `mixed-exits-${width}`,
      title: `Mixed exits, width ${width}`,
      chart: {
        description: `Share of the ideal gain by batch size, at width ${width}`,
        x: { title: "rows in the batch", unit: "number" },
        y: { unit: "percent" },
        yTitle: "share of the ideal gain, %",
        reference: { y: 1, name: "ideal" },
        series: systems.map((name, index) => ({
          name,
          style: index,
          points: parts.map(({ batch, timed }) => ({
            x: batch,
            y: timed.find(({ system }) => system === name)?.efficiency.estimate ?? Number.NaN,
          })),
        })),
      },
    });
  }
  const open = latency.filter(({ load }) => load !== "closed");
  if (open.length > 0)
    charts.push({
      name: "latency",
      title: "95th percentile under load",
      chart: {
        description: "95th percentile of latency by load, in milliseconds",
        x: { title: "arrivals, % of full depth's capacity", unit: "percent" },
        y: { unit: "number" },
        yTitle: "p95, ms",
        series: [...new Set(open.map(({ system }) => system))].map((name, index) => ({
          name,
          style: index,
          points: open
            .filter(({ system }) => system === name)
            .map(({ load, p95 }) => ({ x: load as number, y: p95.estimate })),
        })),
      },
    });
  return charts;
}

const policy =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/** Renders the report's HTML; the same results give the same text. */
export function renderSpeedReport(results: SpeedResults): string {
  const title = "How fast early exit is here";
  const { command, date, machine, versions, settings, notes } = results;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${raw(policy)}">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${raw(style)}</style>
</head>
<body>
<main>
<h1>${title}</h1>
<p>Same weights, same exits, same inputs; interleaved rounds in one run; 95 % intervals of a paired bootstrap over rounds.</p>
<section id="charts"><h2>Charts</h2><div class="cards">${speedCharts(results).map((one) =>
    card(one),
  )}</div></section>
<section id="tables"><h2>Tables</h2>${speedTables(results).map(htmlTable)}</section>
<section id="run"><h2>This run</h2>
<p><code>${command}</code></p>
<p>${date}. ${pairs(machine)}. ${pairs(versions)}. ${pairs(settings)}.</p>
${notes.map((note) => html`<p class="note">${note}</p>`)}</section>
</main>
</body>
</html>
`.html;
}

function card({ title, chart }: SpeedChart): Html {
  return html`<article class="card"><h3>${title}</h3><div class="plot">${curveChart(chart)}</div><p class="note">${chart.series.map(
    ({ name, style: own }) =>
      html`<span class="s${own % COLOURS}"><svg viewBox="-8 -8 16 16" width="12" height="12" class="s${own % COLOURS}" aria-hidden="true"><path class="mark" d="${markerPath(own, 5)}"/></svg> ${name}</span> `,
  )}</p></article>`;
}

function pairs(record: Readonly<Record<string, unknown>>): string {
  return Object.entries(record)
    .map(([key, value]) => `${key} ${Array.isArray(value) ? value.join(", ") : String(value)}`)
    .join("; ");
}

/** The charts as SVG files that stand alone. */
export function speedPictures(
  results: SpeedResults,
): { readonly name: string; readonly svg: string }[] {
  return speedCharts(results).map(({ name, title, chart }) => ({
    name,
    svg: chartPicture(chart, title),
  }));
}

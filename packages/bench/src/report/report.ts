/**
 * @file The report of a run: one HTML file that opens offline. The Table-3-shaped table, a chart of score against
 * saved layers and the operating points per task, exit histograms, and what is needed to run it again.
 */
import { type ResultRow, type Results, writeFileWhole } from "../results.js";
import type { Cell, Table } from "../table/table.js";
import { formatSaved, metricTitle, tableThree } from "../table/table-three.js";
import { type ChartPoint, type ChartSeries, COLOURS, curveChart, marker } from "./curve-chart.js";
import { histogramChart } from "./histogram-chart.js";
import { escapeHtml, htmlTable } from "./html.js";
import { script, style } from "./page.js";
import { paperTable3 } from "./paper-table-3.js";

export interface ReportOptions {
  /** @default "Early exit for language models" */
  readonly title?: string;
  /** Column order. @default order of first appearance in the rows */
  readonly tasks?: readonly string[];
  /** Row order. @default order of first appearance in the rows */
  readonly methods?: readonly string[];
  readonly taskTitles?: Readonly<Record<string, string>>;
  readonly methodTitles?: Readonly<Record<string, string>>;
  /** @default "dev" */
  readonly split?: string;
}

interface Context extends Required<Omit<ReportOptions, "title">> {
  readonly rows: readonly ResultRow[];
}

/** Writes the report, whole or not at all. @throws BenchError `WRITE_FAILED` */
export async function writeReport(
  results: Results,
  file: string,
  options: ReportOptions = {},
): Promise<void> {
  await writeFileWhole(file, renderReport(results, options));
}

/** Renders the report's HTML; the same results give the same text. */
export function renderReport(results: Results, options: ReportOptions = {}): string {
  const split = options.split ?? "dev";
  const rows = results.rows.filter((row) => row.split === split);
  const context: Context = {
    rows,
    split,
    tasks: options.tasks ?? [...new Set(rows.map(({ task }) => task))],
    methods: options.methods ?? [...new Set(rows.map(({ method }) => method))],
    taskTitles: options.taskTitles ?? {},
    methodTitles: options.methodTitles ?? {},
  };
  const title = options.title ?? "Early exit for language models";
  const seeds = [...new Set(rows.map(({ seed }) => seed))].sort((a, b) => a - b);
  const sections = [
    `<h1>${escapeHtml(title)}</h1>`,
    `<p>${count(context.methods.length, "method")} on ${count(context.tasks.length, "task")}, ` +
      `${escapeHtml(split)} split, ${count(seeds.length, "seed")}; ` +
      `data: ${escapeHtml(results.data.source)}, preset: ${escapeHtml(results.preset)}.</p>`,
    `<pre><code>${escapeHtml(results.command)}</code></pre>`,
    "<h2>Comparison</h2>",
    rows.length === 0
      ? "<p>This run has no rows.</p>"
      : htmlTable(
          tableThree(rows, { ...options, split, tasks: context.tasks, methods: context.methods }),
        ),
    ...missingSection(results, context),
    paperSection(),
    ...(rows.length === 0 ? [] : [curvesSection(context), histogramsSection(context)]),
    runSection(results, seeds),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<main>
${sections.join("\n")}
</main>
<div id="tip" role="status"></div>
<script>${script}</script>
</body>
</html>
`;
}

function curvesSection(context: Context): string {
  const { tasks, methods } = context;
  const legend = methods
    .map((method, index) => {
      const sign = `<svg viewBox="-8 -8 16 16" style="--series:var(--c${index % COLOURS})" aria-hidden="true">${marker(index, 0, 0, 5)}</svg>`;
      return `<button type="button" aria-pressed="true" data-for="${index}">${sign}${escapeHtml(methodTitle(context, method))}</button>`;
    })
    .join("");
  const cards = tasks.map((task) => {
    const rows = context.rows.filter((row) => row.task === task);
    return `<section class="card"><h3>${escapeHtml(taskTitle(context, task))}</h3>${taskChart(context, task, rows)}
<details><summary>Operating points</summary>${htmlTable(pointsTable(context, rows))}</details></section>`;
  });
  return `<h2>Score against saved layers</h2>
<p class="note">Every point is a knob value: hover or tap for details. A solid ring marks the fastest point without loss, a dashed ring the
fastest within 1 %; large marks without a ring are full depth. Press a method to hide or show it.</p>
<div class="legend" role="group" aria-label="Methods shown">${legend}</div>
<div class="cards">${cards.join("\n")}</div>`;
}

function taskChart(context: Context, task: string, rows: readonly ResultRow[]): string {
  const series: ChartSeries[] = [];
  for (const [index, method] of context.methods.entries()) {
    const own = rows.filter((row) => row.method === method && row.savedLayers !== null);
    for (const seed of new Set(own.map((row) => row.seed))) {
      const points = own.filter((row) => row.seed === seed);
      series.push({ name: method, style: index, points: chartPoints(context, points) });
    }
  }
  const metric = rows[0]?.metric ?? "score";
  if (series.every(({ points }) => points.length === 0)) {
    return `<p class="note">No method of this task has exit layers.</p>`;
  }
  const exitMethods = new Set(
    rows.filter(({ operatingPoint }) => operatingPoint !== "full").map(({ method }) => method),
  );
  const full = rows.find(
    ({ operatingPoint, method }) => operatingPoint === "full" && !exitMethods.has(method),
  );
  return curveChart({
    description: `${metricTitle(metric)} against saved layers on ${taskTitle(context, task)}, one line per method`,
    yTitle: `${metricTitle(metric)}, %`,
    series,
    ...(full ? { reference: { y: full.score, name: methodTitle(context, full.method) } } : {}),
  });
}

/** Points of one trained model; an operating point that is also on the curve is drawn once, marked. */
function chartPoints(context: Context, rows: readonly ResultRow[]): ChartPoint[] {
  const keyOf = (row: ResultRow) => JSON.stringify([row.savedLayers, row.score, row.knob?.value]);
  const marked = rows.filter(({ operatingPoint }) => operatingPoint !== "curve");
  const drawn = new Set<string>();
  const points: ChartPoint[] = [];
  for (const row of marked) {
    const mark = row.operatingPoint as "full" | "no-loss" | "one-percent";
    drawn.add(keyOf(row));
    points.push({ x: row.savedLayers!, y: row.score, tip: tipOf(context, row), mark });
  }
  for (const row of rows) {
    if (row.operatingPoint !== "curve" || drawn.has(keyOf(row))) continue;
    points.push({ x: row.savedLayers!, y: row.score, tip: tipOf(context, row) });
  }
  return points;
}

function tipOf(context: Context, row: ResultRow): string {
  const lines = [
    `${methodTitle(context, row.method)}${row.operatingPoint === "curve" ? "" : `, ${pointTitles[row.operatingPoint]}`}`,
    `${metricTitle(row.metric)} ${percent(row.score)} (full depth ${percent(row.fullScore)})`,
    `mean exit layer ${row.meanExitLayer!.toFixed(2)} of ${row.layers}, saved ${percent(row.savedLayers!)}%`,
  ];
  if (row.knob) lines.push(`${row.knob.name} = ${formatKnob(row.knob.value)}`);
  if (row.savedRuntime !== null) lines.push(`saved runtime ${percent(row.savedRuntime)}%`);
  lines.push(`seed ${row.seed}`);
  return lines.join("\n");
}

const pointTitles: Readonly<Record<ResultRow["operatingPoint"], string>> = {
  full: "full depth",
  "no-loss": "no loss",
  "one-percent": "within 1 %",
  curve: "curve",
};

function pointsTable(context: Context, rows: readonly ResultRow[]): Table {
  const chosen = rows.filter(({ operatingPoint }) => operatingPoint !== "curve");
  const hasHeldOut = chosen.some(({ heldOut }) => heldOut !== undefined);
  const hasBalanced = chosen.some(({ scores }) => scores?.["balanced-accuracy"] !== undefined);
  const cell = (text: string): Cell => ({ text });
  const orDash = (value: number | null | undefined, format: (known: number) => string) =>
    cell(value === null || value === undefined ? "–" : format(value));
  return {
    columns: [
      { title: "Method", align: "left" },
      { title: "Point", align: "left" },
      { title: "Seed" },
      { title: "Knob", align: "left" },
      { title: metricTitle(rows[0]?.metric ?? "score") },
      { title: "Full" },
      ...(hasBalanced ? [{ title: "Bal. acc" }] : []),
      { title: "Mean layer" },
      { title: "Layers" },
      { title: "Runtime" },
      ...(hasHeldOut
        ? [
            { title: "Score", group: "Chosen on one half, on the other" },
            { title: "Full", group: "Chosen on one half, on the other" },
            { title: "Layers", group: "Chosen on one half, on the other" },
          ]
        : []),
    ],
    rows: context.methods.flatMap((method, methodIndex) =>
      chosen
        .filter((row) => row.method === method)
        .map((row, rowIndex) => ({
          ruled: methodIndex > 0 && rowIndex === 0,
          cells: [
            cell(methodTitle(context, method)),
            cell(pointTitles[row.operatingPoint]),
            cell(String(row.seed)),
            cell(row.knob ? `${row.knob.name} ${formatKnob(row.knob.value)}` : "–"),
            cell(percent(row.score)),
            cell(percent(row.fullScore)),
            ...(hasBalanced ? [orDash(row.scores?.["balanced-accuracy"], percent)] : []),
            orDash(row.meanExitLayer, (value) => value.toFixed(2)),
            orDash(row.savedLayers, formatSaved),
            orDash(row.savedRuntime, formatSaved),
            ...(hasHeldOut
              ? [
                  orDash(row.heldOut?.score, percent),
                  orDash(row.heldOut?.fullScore, percent),
                  orDash(row.heldOut?.savedLayers, formatSaved),
                ]
              : []),
          ],
        })),
    ),
  };
}

function histogramsSection(context: Context): string {
  const groups = new Set(
    context.rows.flatMap(({ exitHistogramBy }) => Object.keys(exitHistogramBy ?? {})),
  );
  const key =
    groups.size === 0 || groups.size > 3
      ? ""
      : `<p class="note">Bars are stacked by kind of input:${[...groups]
          .map(
            (name, index) =>
              `<span class="key" style="background:var(--g${index})"></span>${escapeHtml(name)}`,
          )
          .join("")}</p>`;
  const parts = context.tasks.map((task) => {
    const charts = context.methods.flatMap((method) =>
      (["one-percent", "no-loss"] as const).flatMap((point) => {
        const rows = context.rows.filter(
          (row) =>
            row.task === task &&
            row.method === method &&
            row.operatingPoint === point &&
            row.exitHistogram !== null,
        );
        return rows.length === 0 ? [] : [histogramFigure(context, rows)];
      }),
    );
    if (charts.length === 0) return "";
    return `<h3>${escapeHtml(taskTitle(context, task))}</h3><div class="small">${charts.join("")}</div>`;
  });
  return `<h2>Where inputs leave</h2>
<p class="note">Inputs per exit layer at the operating points; the dashed line is the mean.${
    context.rows.some(({ seed }) => seed !== context.rows[0]!.seed) ? " Seeds are added up." : ""
  }</p>${key}
${parts.join("\n")}`;
}

/** One histogram of a method at one operating point; several seeds are added up. */
function histogramFigure(context: Context, rows: readonly ResultRow[]): string {
  const first = rows[0]!;
  const sum = (lists: readonly (readonly number[])[]) =>
    lists[0]!.map((_, index) => lists.reduce((total, list) => total + (list[index] ?? 0), 0));
  const counts = sum(rows.map(({ exitHistogram }) => exitHistogram!));
  const total = counts.reduce((all, value) => all + value, 0);
  const meanExitLayer = counts.reduce((all, value, index) => all + value * (index + 1), 0) / total;
  const groups = first.exitHistogramBy
    ? Object.fromEntries(
        Object.keys(first.exitHistogramBy).map((name) => [
          name,
          sum(rows.map(({ exitHistogramBy }) => exitHistogramBy?.[name] ?? [])),
        ]),
      )
    : undefined;
  const name = `${methodTitle(context, first.method)}, ${pointTitles[first.operatingPoint]}`;
  const chart = histogramChart({ counts, meanExitLayer, ...(groups ? { groups } : {}) }, name);
  return `<figure style="margin:0"><figcaption><h4>${escapeHtml(name)}</h4></figcaption>${chart}</figure>`;
}

/** Cells without rows, and why. */
function missingSection({ failures = [], leftOut = [] }: Results, context: Context): string[] {
  const item = (
    { task, method, seed }: { task: string; method: string; seed: number },
    why: string,
  ) =>
    `<li>${escapeHtml(`${taskTitle(context, task)}, ${methodTitle(context, method)}, seed ${seed}: ${why}`)}</li>`;
  const section = (title: string, items: readonly string[]) =>
    items.length === 0 ? [] : [`<h3>${title}</h3><ul>${items.join("")}</ul>`];
  return [
    ...section(
      "Failed",
      failures.map((cell) => item(cell, cell.message)),
    ),
    ...section(
      "Left out",
      leftOut.map((cell) => item(cell, cell.reason)),
    ),
  ];
}

function paperSection(): string {
  const cells = (score: number, saved: number): Cell[] => [
    { text: score.toFixed(1) },
    { text: formatSaved(saved / 100) },
  ];
  const table: Table = {
    columns: [
      { title: "Method", align: "left" },
      ...paperTable3.tasks.flatMap((task) => [
        { title: "Score", group: task.toUpperCase() },
        { title: "Layer", group: task.toUpperCase() },
      ]),
      { title: "Score", group: "Averaged" },
      { title: "Layer", group: "Averaged" },
    ],
    rows: paperTable3.rows.map(({ title, split, tasks, average }, index) => ({
      ruled: index > 0 && paperTable3.rows[index - 1]!.split !== split,
      cells: [
        { text: `${title} (${split})` },
        ...paperTable3.tasks.flatMap((task) => cells(tasks[task]!.score, tasks[task]!.saved)),
        ...cells(average.score, average.saved),
      ],
    })),
    notes: [`Quoted from ${paperTable3.source}. ◇ saved runtime. ★ no accuracy loss.`],
  };
  return `<details><summary>The paper's printed figures, for comparison (quoted)</summary>${htmlTable(table)}</details>`;
}

function runSection(results: Results, seeds: readonly number[]): string {
  const plain = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  const entries: [string, unknown][] = [
    ["seeds", seeds.join(", ")],
    ["backbone", results.backbone],
    ...Object.entries(results.data).map(([name, value]): [string, unknown] => [
      `data: ${name}`,
      value,
    ]),
    ...Object.entries(results.versions ?? {}),
    ...Object.entries(results.machine ?? {}),
  ];
  const list = entries
    .map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(plain(value))}</dd>`)
    .join("\n");
  return `<h2>This run</h2><dl>${list}</dl>`;
}

function taskTitle(context: Context, task: string): string {
  return context.taskTitles[task] ?? task;
}

function methodTitle(context: Context, method: string): string {
  return context.methodTitles[method] ?? method;
}

function percent(value: number): string {
  return (100 * value).toFixed(1);
}

function formatKnob(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

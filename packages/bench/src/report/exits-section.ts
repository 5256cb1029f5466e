/** @file Exit histograms per task, method and class, and the flag for exits that are nothing but the majority class. */
import { type Hardness, hardnessLevels } from "../data/task.js";
import type { ResultRow } from "../results.js";
import { histogramChart, SHADES } from "./histogram-chart.js";
import { type Html, html, htmlTable } from "./html.js";
import { type Column, chosenPoints, percent, pointTitles, type View } from "./view.js";

/** What bars are stacked by. */
interface Stacking {
  readonly name: string;
  readonly title: string;
  groups(row: ResultRow): Readonly<Record<string, readonly number[]>> | undefined;
}

const stackings: readonly Stacking[] = [
  {
    name: "kind",
    title: "kind of input",
    groups: ({ exitHistogramBy }) => easiestFirst(exitHistogramBy),
  },
  { name: "class", title: "class", groups: (row) => row.exitHistogramByClass },
];

/** Generated rows are counted by hardness in the order in which they came. */
function easiestFirst(groups: ResultRow["exitHistogramBy"]): ResultRow["exitHistogramBy"] {
  const rank = (name: string) => hardnessLevels.indexOf(name as Hardness);
  return groups && Object.fromEntries(Object.entries(groups).sort(([a], [b]) => rank(a) - rank(b)));
}

export function exitsSection(view: View): Html {
  const withExits = view.rows.filter(
    ({ exitHistogram, operatingPoint }) => exitHistogram !== null && operatingPoint !== "full",
  );
  if (withExits.length === 0) return html``;
  const points = chosenPoints.filter((point) =>
    withExits.some(({ operatingPoint }) => operatingPoint === point),
  );
  const used = stackings.filter(({ groups }) => withExits.some((row) => groups(row) !== undefined));
  const shown = used.length === 0 ? stackings.slice(0, 1) : used;
  const { leaving } = view.unit;
  return html`<section id="exits"><h2>Where ${leaving} leave</h2>
<p class="note">${leaving === "tokens" ? "Generated tokens per exit layer, each text's first one left out, which comes from its prompt" : "Inputs per exit layer"}; the dashed line is the mean.${view.seeds.length > 1 ? " Seeds are added up." : ""}${
    leaving === "tokens"
      ? undefined
      : html` A flag marks methods whose early exits
are (nearly) all answered with the most frequent class: such layers are saved by guessing, not by deciding.`
  }</p>
<div class="controls pick" role="group" aria-label="Operating point"><span>At the point</span>${points.map((point, index) => chooser("hp", point, pointTitles[point], index === 0))}</div>
${
  shown.length < 2
    ? undefined
    : html`<div class="controls pick" role="group" aria-label="Bars stacked by"><span>Stacked by</span>${shown.map(({ name, title }, index) => chooser("hs", name, title, index === 0))}</div>`
}
${view.columns.map((column, index) => columnFigures(view, column, index, points, shown))}</section>`;
}

function chooser(group: string, key: string, title: string, isFirst: boolean): Html {
  return html`<button type="button" class="chip" data-choose="${group}" data-key="${key}" aria-pressed="${String(isFirst)}">${title}</button>`;
}

function columnFigures(
  view: View,
  column: Column,
  index: number,
  points: readonly (typeof chosenPoints)[number][],
  shown: readonly Stacking[],
): Html {
  const blocks = points.flatMap((point) =>
    shown.map((stacking) => {
      const figures = view.methods.flatMap((method, style) => {
        const rows = column.rows.filter(
          (row) =>
            row.method === method && row.operatingPoint === point && row.exitHistogram !== null,
        );
        return rows.length === 0 ? [] : [figure(view, rows, style, stacking)];
      });
      const body =
        figures.length === 0
          ? html`<p class="note">No method has such a point on this task.</p>`
          : html`${legendOf(column, point, stacking)}<div class="small">${figures}</div>`;
      return html`<div data-hp="${point}"><div data-hs="${stacking.name}">${body}</div></div>`;
    }),
  );
  if (column.rows.every(({ exitHistogram }) => exitHistogram === null)) return html``;
  return html`<div data-c="${index}"><h3>${column.title}</h3>${blocks}${classTable(view, column)}</div>
`;
}

/** What the shades stand for, on this task. */
function legendOf(column: Column, point: string, { groups }: Stacking): Html {
  const names = [
    ...new Set(
      column.rows
        .filter(({ operatingPoint }) => operatingPoint === point)
        .flatMap((row) => Object.keys(groups(row) ?? {})),
    ),
  ];
  if (names.length < 2 || names.length > SHADES) return html``;
  return html`<p class="note">${names.map((name, shade) => html`<span class="key g${shade}"></span>${name}`)}</p>`;
}

/** One histogram of a method at one point; several seeds are added up. */
function figure(view: View, rows: readonly ResultRow[], style: number, stacking: Stacking): Html {
  const first = rows[0]!;
  const sum = (lists: readonly (readonly number[])[]) =>
    lists[0]!.map((_, index) => lists.reduce((total, list) => total + (list[index] ?? 0), 0));
  const counts = sum(rows.map(({ exitHistogram }) => exitHistogram!));
  const total = counts.reduce((all, value) => all + value, 0);
  const meanExitLayer = counts.reduce((all, value, index) => all + value * (index + 1), 0) / total;
  const own = stacking.groups(first);
  const groups =
    own &&
    Object.fromEntries(
      Object.keys(own).map((name) => [
        name,
        sum(rows.map((row) => stacking.groups(row)?.[name] ?? [])),
      ]),
    );
  const name = `${view.methodTitle(first.method)}, ${pointTitles[first.operatingPoint]}`;
  const flagged = rows.filter(({ earlyExits }) => earlyExits?.majorityOnly);
  const flag =
    flagged.length === 0
      ? undefined
      : html`<span class="flag">early exits: only “${flagged[0]!.earlyExits!.answer}”${rows.length > 1 ? ` (${flagged.length} of ${rows.length} seeds)` : ""}</span>`;
  return html`<figure data-m="${style}"><figcaption><h4>${view.methodTitle(first.method)}</h4>${flag}<span class="dim">mean layer ${meanExitLayer.toFixed(2)}</span></figcaption><div class="plot" tabindex="0" role="group" aria-roledescription="chart" aria-label="Exits of ${name}; arrow keys walk through the layers">${histogramChart(
    { counts, meanExitLayer, ...(groups ? { groups } : {}) },
    name,
  )}</div></figure>`;
}

/** Per class: how many, how many right, how deep. */
function classTable(view: View, column: Column): Html {
  const rows = column.rows.filter(
    ({ perClass, operatingPoint }) =>
      perClass !== undefined && (operatingPoint === "one-percent" || operatingPoint === "no-loss"),
  );
  if (rows.length === 0) return html``;
  const table = htmlTable({
    caption: `${column.title}: by class`,
    columns: [
      { title: "Method", align: "left" },
      { title: "Point", align: "left" },
      { title: "Seed" },
      { title: "Class", align: "left" },
      { title: "Rows" },
      { title: "Right, %" },
      { title: "Answered" },
      { title: "Mean layer" },
      { title: "Early exits", align: "left" },
    ],
    rows: rows.flatMap((row) =>
      row.perClass!.map(({ label, n, accuracy, predicted, meanExitLayer }, index) => ({
        ruled: index === 0,
        cells: [
          { text: view.methodTitle(row.method) },
          { text: pointTitles[row.operatingPoint] },
          { text: String(row.seed) },
          { text: label },
          { text: String(n) },
          { text: percent(accuracy) },
          { text: String(predicted) },
          { text: meanExitLayer === null ? "–" : meanExitLayer.toFixed(2) },
          { text: index === 0 ? earlyText(row) : "" },
        ],
      })),
    ),
  });
  return html`<details><summary>By class</summary>${table}</details>`;
}

function earlyText({ earlyExits }: ResultRow): string {
  if (!earlyExits) return "–";
  const { n, upTo, answer, share, majorityOnly } = earlyExits;
  if (n === 0) return `none up to layer ${upTo}`;
  return `${n} up to layer ${upTo}, ${percent(share)} % “${answer}”${majorityOnly ? ": only the majority class" : ""}`;
}

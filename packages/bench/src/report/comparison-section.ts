/** @file The table of the report: every method at its operating points, with saved layers and measured time side by side. */
import { meanAndError } from "../metrics/statistics.js";
import type { OperatingPoint, ResultRow } from "../results.js";
import { beatsAll } from "../table/table-three.js";
import { type Html, html, scrollBox, sortHeading } from "./html.js";
import {
  type Column,
  chosenPoints,
  count,
  isReference,
  percent,
  pointTitles,
  savedText,
  type View,
} from "./view.js";

type Range = readonly [low: number, high: number];

interface Value {
  readonly score: number;
  readonly scoreError: number;
  /** Mean of the seeds' bounds. */
  readonly interval: Range | undefined;
  readonly saved: number | null;
  readonly savedInterval: Range | undefined;
  readonly time: number | null;
  /** Operations as a share of full depth's, where there is no exit layer. */
  readonly cost: number | undefined;
  readonly seeds: number;
}

interface Line {
  readonly method: string;
  readonly point: OperatingPoint;
  readonly values: readonly (Value | undefined)[];
  readonly average: Value | undefined;
}

export function comparisonSection(view: View): Html {
  const { columns } = view;
  if (columns.length === 0) {
    return html`<section id="comparison"><h2>Comparison</h2><p>This run has no rows.</p>${reasons(view)}</section>`;
  }
  const blocks = blocksOf(view);
  const averaged = columns.filter(({ split }) => split === view.split);
  const hasAverage = averaged.length > 1;
  const groups = [
    ...columns.map(({ title }, index) => ({ title, key: html`data-c="${index}"` })),
    ...(hasAverage ? [{ title: "Averaged", key: html`` }] : []),
  ];
  const headings = groups.flatMap(({ key }, index) =>
    [columns[index]?.metricTitle ?? "Score", "Layers", "Time"].map((title, within) =>
      sortHeading(title, html`class="${within === 0 ? "start" : ""}" ${key}`),
    ),
  );
  const body = blocks.flatMap((lines, block) =>
    lines.map((line, index) => lineOf(view, line, lines, block > 0 && index === 0, hasAverage)),
  );
  return html`<section id="comparison"><h2>Comparison</h2>
<p class="note">Each method at the fastest point that loses at most 1 % (relative) of its own full-depth score, and at the fastest without loss,
chosen on this split as the paper does. <em>Layers</em> and <em>Time</em> are what that saves: −53% is 53 % less than full depth of the same
model; time is measured at batch 1 in this run. ${noteOf(view)}</p>
${filters(view)}
${scrollBox(
  "Comparison of methods",
  html`<table class="sortable" id="comparison-table"><thead><tr><td></td><td></td>${groups.map(
    ({ title, key }) => html`<th scope="colgroup" colspan="3" class="start" ${key}>${title}</th>`,
  )}</tr><tr>${sortHeading("Method", html`class="left"`)}${sortHeading("Point", html`class="left"`)}${headings}</tr></thead><tbody>
${body}</tbody></table>`,
)}
${reasons(view)}
${comparisonDetails(view)}
${heldOutDetails(view)}
</section>`;
}

function noteOf(view: View): string {
  const notes: string[] = [];
  if (view.rows.some(({ intervals }) => intervals !== undefined)) {
    notes.push(
      `In brackets: 95 % intervals by paired bootstrap over ${view.unit.drawn}${view.seeds.length > 1 ? " (means of the seeds' bounds)" : ""}.`,
    );
  }
  if (view.seeds.length > 1) notes.push("±: standard error over seeds.");
  if (view.results.taken?.length) {
    notes.push(
      `${count(view.results.taken.length, "cell")} of the table were finished by earlier runs, which measured their times.`,
    );
  }
  notes.push(
    "Bold, by the paper's rule: no other method of the block scores higher or saves more layers. Press a heading to sort.",
  );
  return notes.join(" ");
}

const FEW = 8;

function filters(view: View): Html {
  const tasks =
    view.columns.length < 2
      ? undefined
      : html`<div class="controls" role="group" aria-label="Tasks shown"><span>Tasks</span>${view.columns.map(
          ({ title }, index) =>
            html`<button type="button" class="chip" data-toggle="c" data-key="${index}" aria-pressed="true">${title}</button>`,
        )}</div>`;
  const points = html`<div class="controls" role="group" aria-label="Points shown"><span>Points</span>${(
    ["full", ...chosenPoints] as const
  ).map(
    (point) =>
      html`<button type="button" class="chip" data-toggle="p" data-key="${point}" aria-pressed="true">${pointTitles[point]}</button>`,
  )}</div>`;
  // Many methods are listed with their signs above the curves; here they would push the table off the screen.
  const methods =
    view.methods.length > FEW
      ? html`<details><summary>Methods shown (${view.methods.length})</summary>${methodFilter(view)}</details>`
      : methodFilter(view);
  return html`${methods}${tasks}${points}`;
}

/** Chips that show and hide methods everywhere on the page. */
export function methodFilter(view: View, sign?: (style: number) => Html): Html {
  const chips = view.methods.map(
    (method, index) =>
      html`<button type="button" class="chip" data-toggle="m" data-key="${index}" aria-pressed="true">${sign?.(index)}${view.methodTitle(method)}</button>`,
  );
  const every =
    view.methods.length < 5
      ? undefined
      : html`<button type="button" class="chip" data-every="m" data-visible="true">all</button><button type="button" class="chip" data-every="m" data-visible="false">none</button>`;
  return html`<div class="controls legend" role="group" aria-label="Methods shown"><span>Methods</span>${chips}${every}</div>`;
}

/** References, then each chosen point: the blocks of the paper's table. */
function blocksOf(view: View): readonly (readonly Line[])[] {
  const line = (method: string, point: OperatingPoint): Line => {
    const values = view.columns.map(({ rows }) =>
      summaryOf(rows.filter((row) => row.method === method && row.operatingPoint === point)),
    );
    const averaged = values.filter((_, index) => view.columns[index]!.split === view.split);
    return { method, point, values, average: averageOf(averaged) };
  };
  const references = view.methods.filter((method) => isReference(view, method));
  const others = view.methods.filter((method) => !references.includes(method));
  const full = (references.length > 0 ? references : others).map((method) => line(method, "full"));
  return [
    full.filter(({ values }) => values.some((value) => value !== undefined)),
    ...chosenPoints.map((point) => others.map((method) => line(method, point))),
  ].filter((block) => block.length > 0);
}

function summaryOf(rows: readonly ResultRow[]): Value | undefined {
  if (rows.length === 0) return undefined;
  const score = meanAndError(rows.map((row) => row.score));
  const mean = (values: readonly (number | null)[]) =>
    values.every((value) => value !== null) ? meanAndError(values).mean : null;
  const range = (of: (row: ResultRow) => Range | null | undefined): Range | undefined => {
    const ranges = rows.map(of).filter((one) => one !== null && one !== undefined);
    if (ranges.length !== rows.length) return undefined;
    return [
      meanAndError(ranges.map(([low]) => low)).mean,
      meanAndError(ranges.map(([, high]) => high)).mean,
    ];
  };
  return {
    score: score.mean,
    scoreError: score.standardError,
    interval: range(({ intervals }) => intervals?.score),
    saved: mean(rows.map(({ savedLayers }) => savedLayers)),
    savedInterval: range(({ intervals, layers }) =>
      intervals?.meanExitLayer && layers
        ? [1 - intervals.meanExitLayer[1] / layers, 1 - intervals.meanExitLayer[0] / layers]
        : undefined,
    ),
    time: mean(rows.map(({ savedRuntime }) => savedRuntime)),
    cost: mean(rows.map(({ cost }) => cost ?? null)) ?? undefined,
    seeds: rows.length,
  };
}

/** Plain means; none when a task is missing, as a mean over fewer would not compare. */
function averageOf(values: readonly (Value | undefined)[]): Value | undefined {
  const known = values.filter((value) => value !== undefined);
  if (known.length !== values.length || known.length === 0) return undefined;
  const mean = (list: readonly (number | null)[]) =>
    list.every((value) => value !== null) ? meanAndError(list).mean : null;
  return {
    score: meanAndError(known.map(({ score }) => score)).mean,
    scoreError: 0,
    interval: undefined,
    saved: mean(known.map(({ saved }) => saved)),
    savedInterval: undefined,
    time: mean(known.map(({ time }) => time)),
    cost: mean(known.map(({ cost }) => cost ?? null)) ?? undefined,
    seeds: 1,
  };
}

function lineOf(
  view: View,
  line: Line,
  block: readonly Line[],
  ruled: boolean,
  hasAverage: boolean,
): Html {
  const { method, point, values, average } = line;
  const rivals = block.filter((other) => other.method !== method);
  const cells = values.map((value, index) => {
    const isBest =
      point !== "full" &&
      isBold(
        value,
        rivals.map((rival) => rival.values[index]),
      );
    const column = view.columns[index]!;
    return value
      ? valueCells(value, isBest, html`data-c="${index}"`)
      : gapCells(gapOf(view, method, column), html`data-c="${index}"`);
  });
  const averageCells = average
    ? valueCells(
        average,
        point !== "full" &&
          isBold(
            average,
            rivals.map((rival) => rival.average),
          ),
        html``,
      )
    : gapCells(undefined, html``);
  return html`<tr ${ruled ? html`class="ruled"` : html``} data-m="${view.methods.indexOf(method)}" data-p="${point}"><th scope="row">${view.methodTitle(method)}</th><td class="left">${pointTitles[point]}</td>${cells}${hasAverage ? averageCells : undefined}</tr>
`;
}

/** The paper's rule, on saved layers; methods without layers compare with each other by time. */
function isBold(value: Value | undefined, rivals: readonly (Value | undefined)[]): boolean {
  if (!value) return false;
  const byLayers = value.saved !== null;
  const of = (one: Value | undefined) => {
    const saved = byLayers ? one?.saved : one?.saved === null ? one.time : null;
    return one && saved !== null && saved !== undefined ? { score: one.score, saved } : undefined;
  };
  const own = of(value);
  return own !== undefined && beatsAll(own, rivals.map(of));
}

function valueCells(value: Value, isBest: boolean, key: Html): Html {
  const strong = (text: string) => (isBest ? html`<strong>${text}</strong>` : html`${text}`);
  const spread = value.seeds > 1 ? ` ±${percent(value.scoreError)}` : "";
  const small = (text: string | undefined) =>
    text === undefined ? undefined : html`<small>[${text}]</small>`;
  const saved = value.saved;
  return html`<td class="start" data-v="${value.score}" ${key}>${strong(percent(value.score) + spread)}${small(
    value.interval?.map(percent).join(", "),
  )}</td>${
    saved === null
      ? html`<td ${key}>–${value.cost === undefined ? undefined : html`<small>operations ${savedText(1 - value.cost)}</small>`}</td>`
      : html`<td data-v="${saved}" ${key}>${strong(savedText(saved))}${small(
          value.savedInterval && [...value.savedInterval].reverse().map(savedText).join(", "),
        )}</td>`
  }${value.time === null ? html`<td ${key}>–</td>` : html`<td data-v="${value.time}" ${key}>${savedText(value.time)}</td>`}`;
}

function gapCells(gap: { text: string; why: string } | undefined, key: Html): Html {
  const first = gap
    ? html`<td class="start reason" data-v="–" title="${gap.why}" ${key}>${gap.text}</td>`
    : html`<td class="start" ${key}>–</td>`;
  return html`${first}<td ${key}>–</td><td ${key}>–</td>`;
}

function gapOf(view: View, method: string, { task }: Column) {
  const { failures = [], leftOut = [] } = view.results;
  const isHere = (cell: { task: string; method: string }) =>
    cell.task === task && cell.method === method;
  const failure = failures.find(isHere);
  if (failure) return { text: "failed", why: failure.message };
  const left = leftOut.find(isHere);
  if (left) return { text: "left out", why: left.reason };
  return view.rows.some(isHere)
    ? { text: "no point", why: "no point of the curve qualifies" }
    : undefined;
}

/** Cells without rows, and why; cells of one method with the same reason are one line. */
function reasons(view: View): Html {
  const { failures = [], leftOut = [] } = view.results;
  const list = (
    title: string,
    cells: readonly { task: string; method: string; seed: number; why: string }[],
  ) => {
    const lines = new Map<string, string[]>();
    for (const { task, method, seed, why } of cells) {
      const key = `${view.methodTitle(method)}: ${why}`;
      const where = `${view.taskTitle(task)}${view.seeds.length > 1 ? `, seed ${seed}` : ""}`;
      lines.set(key, [...new Set([...(lines.get(key) ?? []), where])]);
    }
    return cells.length === 0
      ? undefined
      : html`<h3>${title}</h3><ul class="reasons">${[...lines].map(
          ([key, where]) => html`<li>${where.join("; ")}: ${key}</li>`,
        )}</ul>`;
  };
  return html`${list(
    "Failed",
    failures.map((cell) => ({ ...cell, why: cell.message })),
  )}${list(
    "Left out",
    leftOut.map((cell) => ({ ...cell, why: cell.reason })),
  )}`;
}

/** Pairs of methods on the same rows, and curves read at equal speed and equal score. */
function comparisonDetails(view: View): Html {
  const { comparisons = [], matched = [] } = view.results;
  const number = (value: number, digits = 1) =>
    `${value > 0 ? "+" : ""}${(100 * value).toFixed(digits)}`.replace("-", "−");
  const p = (value: number) => (value < 0.001 ? "<0.001" : value.toFixed(3));
  const pairs =
    comparisons.length === 0
      ? undefined
      : html`<details><summary>Methods against each other (${comparisons.length} pairs, Holm-corrected)</summary>
<p class="note">First less second at the same operating point on the same rows, in points, with 95 % paired-bootstrap intervals. p-values are corrected over all
pairs of a task, split, seed and point; below 0.05 is bold.</p>${scrollBox(
          "Methods against each other",
          html`<table class="sortable"><thead><tr>${[
            "First",
            "Second",
            "Task",
            "Point",
            "Seed",
          ].map((title) =>
            sortHeading(title, html`class="left"`),
          )}${["Score", "p", "Mean layer", "p", "McNemar p"].map((title) => sortHeading(title))}</tr></thead><tbody>${comparisons.map(
            ({
              first,
              second,
              task,
              split,
              seed,
              operatingPoint,
              scoreDifference,
              exitDifference,
              mcNemar,
            }) => {
              const strong = (value: number) =>
                value < 0.05 ? html`<strong>${p(value)}</strong>` : html`${p(value)}`;
              return html`<tr><th scope="row">${view.methodTitle(first)}</th><td class="left">${view.methodTitle(second)}</td><td class="left">${view.taskTitle(task)}${split === view.split ? "" : `, ${split}`}</td><td class="left">${pointTitles[operatingPoint]}</td><td class="left">${seed}</td>
<td data-v="${scoreDifference.estimate}">${number(scoreDifference.estimate)}<small>[${number(scoreDifference.low)}, ${number(scoreDifference.high)}]</small></td><td data-v="${scoreDifference.holmP}">${strong(scoreDifference.holmP)}</td>${
                exitDifference
                  ? html`<td data-v="${exitDifference.estimate}">${exitDifference.estimate.toFixed(2).replace("-", "−")}<small>[${exitDifference.low.toFixed(2).replace("-", "−")}, ${exitDifference.high.toFixed(2).replace("-", "−")}]</small></td><td data-v="${exitDifference.holmP}">${strong(exitDifference.holmP)}</td>`
                  : html`<td>–</td><td>–</td>`
              }${mcNemar ? html`<td data-v="${mcNemar.holmP}">${strong(mcNemar.holmP)}</td>` : html`<td>–</td>`}</tr>
`;
            },
          )}</tbody></table>`,
        )}</details>`;
  const mean = (one: { mean: number; standardError: number } | null, seeds: number) =>
    one === null
      ? html`<td>–</td>`
      : html`<td data-v="${one.mean}">${percent(one.mean)}${seeds > 1 ? ` ±${percent(one.standardError)}` : ""}</td>`;
  const tables =
    matched.length === 0
      ? []
      : view.columns.map((column) => {
          const own = matched.filter(
            ({ task, split }) => task === column.task && split === column.split,
          );
          const lead = own[0];
          if (!lead) return undefined;
          return html`<h3>${column.title}</h3>${scrollBox(
            `${column.title}: methods at equal speed and at equal score`,
            html`<table class="sortable"><thead><tr><td></td><th scope="colgroup" class="start" colspan="${lead.atSpeed.length}">${column.metricTitle} at saved layers of</th><th scope="colgroup" class="start" colspan="${lead.atScore.length}">Saved layers at a share of the full score of</th><th scope="colgroup" class="start">Mean score</th></tr><tr>${sortHeading("Method", html`class="left"`)}${lead.atSpeed.map(({ savedLayers }) => sortHeading(`${Math.round(100 * savedLayers)} %`))}${lead.atScore.map(({ relativeScore }) => sortHeading(`${Number((100 * relativeScore).toFixed(1))} %`))}${sortHeading("common range")}</tr></thead><tbody>${own.map(
              ({ method, seeds, atSpeed, atScore, area }) =>
                html`<tr data-m="${view.methods.indexOf(method)}"><th scope="row">${view.methodTitle(method)}</th>${atSpeed.map(({ score }) => mean(score, seeds))}${atScore.map(({ savedLayers }) => mean(savedLayers, seeds))}${mean(area?.score ?? null, seeds)}</tr>
`,
            )}</tbody></table>`,
          )}`;
        });
  const atEqual = tables.some((table) => table !== undefined)
    ? html`<details><summary>Methods at equal speed and at equal score</summary><p class="note">Each curve read between its neighbouring points, full depth included; – where it does not reach.</p>${tables}</details>`
    : undefined;
  return html`${pairs}${atEqual}`;
}

/** The points chosen on one half of the rows and reported on the other. */
function heldOutDetails(view: View): Html {
  const rows = view.rows.filter(({ heldOut }) => heldOut !== undefined);
  if (rows.length === 0) return html``;
  return html`<details><summary>Points chosen on one half of the rows, reported on the other</summary>
<p class="note">A point that is chosen and reported on the same rows flatters. Loss is relative to full depth on the same half; SE is its standard error by paired bootstrap, in points of the score.</p>${scrollBox(
    "Held-out operating points",
    html`<table class="sortable"><thead><tr>${["Method", "Task", "Point"].map((title) => sortHeading(title, html`class="left"`))}${["Seed", "Score", "Full", "Loss", "SE", "Layers", "Balanced acc."].map((title) => sortHeading(title))}</tr></thead><tbody>${rows.map(
      (row) => {
        const held = row.heldOut!;
        const column = view.columns.findIndex(
          ({ task, split }) => task === row.task && split === row.split,
        );
        return html`<tr data-m="${view.methods.indexOf(row.method)}" data-c="${column}"><th scope="row">${view.methodTitle(row.method)}</th><td class="left">${view.columns[column]!.title}</td><td class="left">${pointTitles[row.operatingPoint]}</td><td>${row.seed}</td><td>${percent(held.score)}</td><td>${percent(held.fullScore)}</td><td>${percent(held.relativeLoss)} %</td><td>${percent(held.standardError)}</td><td data-v="${held.savedLayers ?? "–"}">${held.savedLayers === null ? "–" : savedText(held.savedLayers)}</td><td>${held.balancedAccuracy === null ? "–" : percent(held.balancedAccuracy)}</td></tr>
`;
      },
    )}</tbody></table>`,
  )}</details>`;
}

/** @file Tables 1 and 2 and Figures 2 to 4 of the paper, made from `paper.json` of `bench paper`. */
import type { Figure4Task, PaperResults } from "../paper/paper-results.js";
import type { Cell, Column, Table } from "../table/table.js";
import { metricTitle } from "../table/table-three.js";
import { type CurveChart, curveChart } from "./curve-chart.js";
import { type Html, html, htmlTable } from "./html.js";
import { lossChart } from "./loss-chart.js";
import { COLOURS, markerPath } from "./marker.js";
import { paperTables12 } from "./paper-tables-1-2.js";
import { percent, type View } from "./view.js";

export function paperSection(view: View): Html {
  const { paper } = view;
  if (!paper) return html``;
  const parts: (Html | undefined)[] = [
    part(
      paper.table1,
      "Table 1: what the memorized layer goes with",
      () => html`<p class="note">Spearman's correlation of the memorized layer with a
training row's loss and with its forgetting events. Italics: quoted from the paper (BERT-base).</p>${htmlTable(table1(view, paper))}`,
    ),
    part(paper.table2, "Table 2: the data", () => htmlTable(table2(view, paper))),
    part(paper.figure2, "Figure 2: losses per layer", () => figure2(view, paper)),
    part(paper.figure3, "Figure 3: score against saved layers", () => figure3(view, paper)),
    part(paper.figure4, "Figure 4: vanilla against hardness-guided reward", () =>
      figure4(view, paper),
    ),
  ];
  const failures =
    paper.failures.length === 0
      ? undefined
      : html`<h3>Could not be made</h3><ul class="reasons">${paper.failures.map(({ part: name, message }) => html`<li>${name}: ${message}</li>`)}</ul>`;
  return html`<section id="figures"><h2>The paper's tables and figures</h2><p class="note">Made by this run with <code>${paper.command}</code>. Table 3 is the comparison above.</p>${parts}${failures}</section>`;
}

function part(rows: readonly unknown[], title: string, content: () => Html): Html | undefined {
  return rows.length === 0 ? undefined : html`<h3>${title}</h3>${content()}`;
}

function table1(view: View, { table1: rows }: PaperResults): Table {
  const quoted: Readonly<Record<string, { loss: number; forgetting: number }>> =
    paperTables12.table1;
  const hasQuoted = rows.some(({ task }) => quoted[task] !== undefined);
  const text = (value: number | undefined): Cell => ({
    text: value === undefined ? "–" : value.toFixed(2).replace("-", "−"),
  });
  const columns: Column[] = [
    { title: "Task", align: "left" },
    { title: "Seed" },
    { title: "Rows" },
    { title: "Ours", group: "Loss" },
    ...(hasQuoted ? [{ title: "Paper (quoted)", group: "Loss" }] : []),
    { title: "Ours", group: "Forgetting events" },
    ...(hasQuoted ? [{ title: "Paper (quoted)", group: "Forgetting events" }] : []),
    { title: "Evaluations" },
    { title: "Never right" },
  ];
  return {
    columns,
    rows: rows.map(({ task, seed, n, loss, forgetting, evaluations, neverRight }) => ({
      cells: [
        { text: view.taskTitle(task) },
        { text: String(seed) },
        { text: String(n) },
        text(loss),
        ...(hasQuoted ? [text(quoted[task]?.loss)] : []),
        text(forgetting),
        ...(hasQuoted ? [text(quoted[task]?.forgetting)] : []),
        { text: String(evaluations) },
        { text: String(neverRight) },
      ],
    })),
    ...(hasQuoted ? { notes: [`Quoted: ${paperTables12.source}.`] } : {}),
  };
}

function table2(view: View, { table2: rows }: PaperResults): Table {
  const quoted: Readonly<Record<string, readonly (string | number)[]>> = paperTables12.table2;
  const hasQuoted = rows.some(({ task }) => quoted[task] !== undefined);
  const orDash = (value: number | null): Cell => ({ text: value === null ? "–" : String(value) });
  return {
    columns: [
      { title: "Task", align: "left" },
      ...[
        "Classes",
        "Metric",
        "Train",
        "Dev",
        "Dev, mismatched",
        "Test",
        "Malformed",
        "Words per row",
        "Majority, %",
      ].map((title) => ({ title })),
      ...(hasQuoted
        ? ["Train", "Dev", "Test"].map((title) => ({ title, group: "Paper (quoted)" }))
        : []),
    ],
    rows: rows.map((row) => ({
      cells: [
        { text: view.taskTitle(row.task) },
        { text: row.classes === 1 ? "regression" : String(row.classes) },
        { text: metricTitle(row.metric) },
        { text: String(row.train) },
        { text: String(row.dev) },
        orDash(row.devMismatched),
        orDash(row.test),
        { text: String(row.malformed) },
        { text: row.meanWords.toFixed(1) },
        { text: row.majority === null ? "–" : percent(row.majority) },
        ...(hasQuoted
          ? [1, 2, 3].map((index) => ({ text: String(quoted[row.task]?.[index] ?? "–") }))
          : []),
      ],
    })),
    ...(hasQuoted ? { notes: [`Quoted: ${paperTables12.source}.`] } : {}),
  };
}

function figure2(view: View, { figure2: panels }: PaperResults): Html {
  const titles = { "weighted-sum": "weighted sum of all exits", consistentee: "ConsistentEE" };
  return html`<p class="note">Training rows by loss, layer by layer: all rows at every layer under the weighted sum, each row at its exit under ConsistentEE. Darker is more
of a layer's rows; below the dashed line a row of a two-class task is right.</p><div class="cards">${panels.map(
    (panel) => {
      const name = `${view.taskTitle(panel.task)}, ${titles[panel.objective]}${panel.alpha === null ? "" : `, alpha ${panel.alpha}`}`;
      return html`<article class="card"><h3>${name}${view.seeds.length > 1 ? `, seed ${panel.seed}` : ""}</h3>${plot(name, lossChart(panel, name))}</article>`;
    },
  )}</div>`;
}

function figure3(view: View, { figure3: curves }: PaperResults): Html {
  const tasks = [...new Set(curves.map(({ task }) => task))];
  return html`<div class="cards">${tasks.map((task) => {
    const own = curves.filter((curve) => curve.task === task);
    const tips: string[] = [];
    const chart: CurveChart = {
      description: `${metricTitle(own[0]!.metric)} against saved layers on ${view.taskTitle(task)}`,
      x: { title: "saved layers, %", unit: "percent" },
      yTitle: `${metricTitle(own[0]!.metric)}, %`,
      series: own.map(({ method, points }) => ({
        name: view.methodTitle(method),
        style: styleOf(view, method),
        points: points.map(({ savedLayers, score, knob, seed }) => {
          tips.push(
            `${view.methodTitle(method)}\nscore ${percent(score)}, saved layers ${percent(savedLayers)} %${knob === null ? "" : `\nknob ${Number(knob.toPrecision(4))}`}\nseed ${seed}`,
          );
          return { x: savedLayers, y: score, tip: tips.length - 1 };
        }),
      })),
      reference: { y: own[0]!.fullScore, name: "full depth" },
    };
    return html`<article class="card" data-tips="${JSON.stringify(tips)}"><h3>${view.taskTitle(task)}</h3>${plot(chart.description, curveChart(chart))}${legend(own.map(({ method }) => [view.methodTitle(method), styleOf(view, method)]))}</article>`;
  })}</div>`;
}

function figure4(view: View, { figure4: tasks }: PaperResults): Html {
  const [first, second] = [styleOf(view, "consistentee"), styleOf(view, "consistentee-vanilla")];
  const styles = first === second ? ([0, 1] as const) : ([first, second] as const);
  return html`<div class="cards">${tasks.map((figure) => {
    const tips: string[] = [];
    const series = (["hardness", "vanilla"] as const).map((reward, index) => ({
      name: `${reward} reward`,
      style: styles[index]!,
      points: figure[reward].map(({ alpha, seed, speedup, score }) => {
        tips.push(
          `${reward} reward\nscore ${percent(score)}, speed-up ${speedup.toFixed(2)}×\nalpha ${alpha}, seed ${seed}`,
        );
        return { x: speedup, y: score, tip: tips.length - 1 };
      }),
    }));
    const description = `${metricTitle(figure.metric)} against speed-up on ${view.taskTitle(figure.task)}, two rewards`;
    const chart = curveChart({
      description,
      x: { title: "speed-up, layers / mean exit layer", unit: "times" },
      yTitle: `${metricTitle(figure.metric)}, %`,
      series,
    });
    return html`<article class="card" data-tips="${JSON.stringify(tips)}"><h3>${view.taskTitle(figure.task)}</h3>${plot(description, chart)}${legend(series.map(({ name, style }) => [name, style]))}${equalSpeed(figure)}</article>`;
  })}</div>`;
}

function equalSpeed({ atEqualSpeedup, metric }: Figure4Task): Html | undefined {
  if (atEqualSpeedup.length === 0)
    return html`<p class="note">The two curves have no speed-up in common.</p>`;
  return htmlTable({
    caption: `${metricTitle(metric)} at equal speed-up`,
    columns: [
      { title: "Speed-up" },
      { title: "Hardness-guided" },
      { title: "Vanilla" },
      { title: "Difference" },
    ],
    rows: atEqualSpeedup.map(({ speedup, vanilla, hardness }) => ({
      cells: [
        { text: `${speedup.toFixed(2)}×` },
        { text: percent(hardness) },
        { text: percent(vanilla) },
        { text: percent(hardness - vanilla) },
      ],
    })),
  });
}

function plot(name: string, chart: Html): Html {
  return html`<div class="plot" tabindex="0" role="group" aria-roledescription="chart" aria-label="${name}; arrow keys walk through it">${chart}</div>`;
}

function legend(entries: readonly (readonly [name: string, style: number])[]): Html {
  return html`<p class="note legend-line">${entries.map(
    ([name, style]) =>
      html`<span class="sign"><svg viewBox="-8 -8 16 16" class="s${style % COLOURS}" aria-hidden="true"><path class="mark" d="${markerPath(style, 5)}"/></svg>${name}</span> `,
  )}</p>`;
}

/** As everywhere else in the report; a method that has no row there comes after all that have. */
function styleOf(view: View, method: string): number {
  const place = view.methods.indexOf(method);
  return place < 0 ? view.methods.length : place;
}

/** @file The paper's printed numbers, marked as quoted: beside ours where a run has the paper's tasks. */
import { meanAndError } from "../metrics/statistics.js";
import type { OperatingPoint } from "../results.js";
import type { Cell, Table } from "../table/table.js";
import { formatSaved } from "../table/table-three.js";
import { type Html, html, htmlTable, scrollBox, sortHeading } from "./html.js";
import { type PaperRow, paperTable3 } from "./paper-table-3.js";
import { percent, savedText, type View } from "./view.js";

/** Our methods under the titles that the paper prints; ◇ is runtime, ★ is without loss. */
const ours: readonly {
  readonly paper: string;
  readonly methods: readonly string[];
  readonly point: OperatingPoint;
}[] = [
  { paper: "BERT-Base", methods: ["full"], point: "full" },
  { paper: "DeeBERT", methods: ["deebert", "entropy"], point: "one-percent" },
  { paper: "PABEE", methods: ["pabee", "patience"], point: "one-percent" },
  { paper: "BERxiT", methods: ["berxit"], point: "one-percent" },
  { paper: "Right-Tool", methods: ["right-tool"], point: "one-percent" },
  { paper: "PCEE-BERT", methods: ["pcee-bert", "pcee"], point: "one-percent" },
  { paper: "HashEE ◇", methods: ["hashee", "hash-ee", "hashee-frequency"], point: "one-percent" },
  { paper: "TR-BERT ◇", methods: ["tr-bert", "trbert"], point: "one-percent" },
  { paper: "ConsistentEE ◇", methods: ["consistentee"], point: "one-percent" },
  { paper: "ConsistentEE", methods: ["consistentee"], point: "one-percent" },
  { paper: "ConsistentEE ★", methods: ["consistentee"], point: "no-loss" },
];

/** Its tables are of classification, so there is nothing to put beside generated texts. */
export function quotedSection(view: View): Html {
  if (view.unit.leaving === "tokens") return html``;
  const beside = besideTable(view);
  return html`<section id="paper"><h2>Beside the paper</h2>
${
  beside ??
  html`<p class="note">This run has none of the paper's tasks, so nothing can be laid beside its printed numbers; they are below for reference.</p>`
}<details><summary>Table 3 of the paper as printed (quoted)</summary>${htmlTable(printedTable())}</details></section>`;
}

function besideTable(view: View): Html | undefined {
  const columns = view.columns.filter(
    ({ task, split }) => split === view.split && paperTable3.tasks.includes(task),
  );
  if (columns.length === 0) return undefined;
  const lines = ours.flatMap(({ paper, methods, point }) => {
    const quoted = paperTable3.rows.find(({ title, split }) => title === paper && split === "dev");
    const method = methods.find((name) => view.methods.includes(name));
    return quoted && method ? [{ quoted, method, point }] : [];
  });
  const isRenamed = lines.some(({ method }) => ["entropy", "patience"].includes(method));
  return html`<p class="note">The paper fine-tunes BERT-base and measures on its own machine: its figures (in italics, quoted from ${paperTable3.source.split(";")[0]!})
say what was published, not what this run should give. This run's backbone is under <a href="#run">This run</a>.${
    isRenamed
      ? " Rows that this run trained by the shared objective stand beside the method whose rule they use."
      : ""
  }</p>${scrollBox(
    "This run beside the paper's printed numbers",
    html`<table class="sortable"><thead><tr><td></td>${columns.map(
      ({ title, metricTitle }) =>
        html`<th scope="colgroup" colspan="4" class="start">${title}, ${metricTitle}</th>`,
    )}</tr><tr>${sortHeading("Method (as printed)", html`class="left"`)}${columns.map(
      () =>
        html`${sortHeading("Ours", html`class="start"`)}${sortHeading("Paper", html`class="quoted"`)}${sortHeading("Ours, saved")}${sortHeading("Paper, saved", html`class="quoted"`)}`,
    )}</tr></thead><tbody>${lines.map(
      ({ quoted, method, point }) =>
        html`<tr data-m="${view.methods.indexOf(method)}"><th scope="row">${quoted.title}</th>${columns.map(
          ({ task, rows }) =>
            besideCells(
              quoted,
              task,
              rows.filter((row) => row.method === method && row.operatingPoint === point),
            ),
        )}</tr>
`,
    )}</tbody></table>`,
  )}<p class="note">◇ saved runtime, otherwise saved layers. ★ without loss of accuracy, otherwise within 1 %.</p>`;
}

function besideCells(quoted: PaperRow, task: string, rows: View["rows"]): Html {
  const printed = quoted.tasks[task]!;
  const saved = rows.map((row) =>
    quoted.measure === "runtime" ? row.savedRuntime : row.savedLayers,
  );
  const isKnown = saved.length > 0 && saved.every((value) => value !== null);
  return html`<td class="start">${rows.length === 0 ? "–" : percent(meanAndError(rows.map(({ score }) => score)).mean)}</td><td class="quoted">${printed.score.toFixed(1)}</td><td>${isKnown ? savedText(meanAndError(saved).mean) : "–"}</td><td class="quoted">${savedText(printed.saved / 100)}</td>`;
}

function printedTable(): Table {
  const cells = (score: number, saved: number): Cell[] => [
    { text: score.toFixed(1) },
    { text: formatSaved(saved / 100) },
  ];
  return {
    columns: [
      { title: "Method", align: "left" },
      ...[...paperTable3.tasks.map((task) => task.toUpperCase()), "Averaged"].flatMap((group) => [
        { title: "Score", group },
        { title: "Layer", group },
      ]),
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
}

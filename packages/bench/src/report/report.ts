/** @file The report of a run as one HTML file that needs nothing else: table, curves, exits, single inputs, and how it was made. */
import type { Results } from "../results.js";
import { writeFileWhole } from "../results.js";
import { reportClient } from "./client.js";
import { comparisonSection } from "./comparison-section.js";
import { curvesSection } from "./curves-section.js";
import { exitsSection } from "./exits-section.js";
import { type Html, html, raw } from "./html.js";
import { inputsSection } from "./inputs-section.js";
import { paperSection } from "./paper-section.js";
import { quotedSection } from "./quoted-section.js";
import { responsesSection } from "./responses-section.js";
import { runSection, summaryLine } from "./run-section.js";
import { style } from "./style.js";
import { type ReportOptions, viewOf } from "./view.js";

export type { ReportOptions } from "./view.js";

/** Nothing is fetched, framed, submitted or based elsewhere; style and script are in the file. */
const policy =
  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/** The tools that run TypeScript wrap functions to keep their names; in the page that does nothing. */
const script = `"use strict";const __name=(value)=>value;(${reportClient.toString()})();`;

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
  const view = viewOf(results, options);
  const sections: readonly (readonly [id: string, title: string, content: Html])[] = [
    ["comparison", "Comparison", comparisonSection(view)],
    ["curves", "Curves", curvesSection(view)],
    ["exits", `Where ${view.unit.leaving} leave`, exitsSection(view)],
    ["inputs", "Single inputs", inputsSection(view)],
    ["responses", "Responses", responsesSection(view)],
    ["figures", "The paper's tables and figures", paperSection(view)],
    ["paper", "Beside the paper", quotedSection(view)],
    ["run", "This run", runSection(view)],
  ];
  const present = sections.filter(([, , content]) => content.html !== "");
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${raw(policy)}">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${view.title}</title>
<style>${raw(style)}</style>
</head>
<body>
<main>
<h1>${view.title}</h1>
${summaryLine(view)}
<nav aria-label="Sections">${present.map(([id, title]) => html`<a href="#${id}">${title}</a>`)}</nav>
${present.map(([, , content]) => content)}
</main>
<div id="tip" role="status"></div>
<script>${raw(script)}</script>
</body>
</html>
`.html;
}

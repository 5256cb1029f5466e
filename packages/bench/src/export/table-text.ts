/** @file The table of a run as Markdown, which the command prints, and as LaTeX. */

import type { ReportOptions } from "../report/view.js";
import type { Results } from "../results.js";
import { type Table, toLatex, toMarkdown } from "../table/table.js";
import { tableThree } from "../table/table-three.js";

/** One table per split, then what failed or was left out. */
export function tableMarkdown(results: Results, options: ReportOptions): string {
  const { failures = [], leftOut = [] } = results;
  const notes = [
    ...failures.map(
      ({ task, method, seed, message }) => `FAILED ${task}, ${method}, seed ${seed}: ${message}`,
    ),
    ...new Set(leftOut.map(({ task, reason }) => `${task}: ${reason}.`)),
  ];
  const parts = tablesOf(results, options).map(
    ([split, table]) =>
      `${split === "dev" ? "" : `Split ${split}:\n\n`}${toMarkdown(table).trimEnd()}`,
  );
  return [...parts, ...(notes.length > 0 ? [notes.join("\n")] : [])].join("\n\n");
}

/** For a document that has `\usepackage{booktabs}`. */
export function tableLatex(results: Results, options: ReportOptions): string {
  const { failures = [], leftOut = [] } = results;
  const comment = (text: string) => `% ${text.replaceAll(/\s+/g, " ")}\n`;
  const head = comment("Needs \\usepackage{booktabs}, and \\usepackage[T1]{fontenc} for < and >.");
  const tables = tablesOf(results, options).map(([split, table]) =>
    toLatex({ caption: `Comparison on ${split}.`, ...table }),
  );
  const notes = [
    ...failures.map(({ task, method, message }) => `FAILED ${task}, ${method}: ${message}`),
    ...new Set(leftOut.map(({ task, reason }) => `${task}: ${reason}.`)),
  ];
  return (
    head + comment(`Made by: ${results.command}`) + tables.join("\n") + notes.map(comment).join("")
  );
}

function tablesOf(results: Results, options: ReportOptions): (readonly [string, Table])[] {
  const { rows } = results;
  // A method that has no row at all is not a row of dashes but a line below.
  const present = (names: readonly string[] | undefined) =>
    (names ?? [...new Set(rows.map(({ method }) => method))]).filter((name) =>
      rows.some(({ method }) => method === name),
    );
  const { taskTitles = {}, methodTitles = {} } = options;
  const splits = [...new Set(rows.map(({ split }) => split))].sort(
    (a, b) => Number(b === "dev") - Number(a === "dev"),
  );
  return splits.map((split) => {
    const here = new Set(rows.filter((row) => row.split === split).map(({ task }) => task));
    const table = tableThree(rows, {
      taskTitles,
      methodTitles,
      methods: present(options.methods),
      tasks: [...new Set([...(options.tasks ?? []), ...here])].filter((task) => here.has(task)),
      split,
    });
    return [split, table] as const;
  });
}

/** @file The table of a run as Markdown, which the command prints, and as LaTeX. */

import type { ReportOptions } from "../report/view.js";
import type { Failure, Results } from "../results.js";
import { type Table, toLatex, toMarkdown } from "../table/table.js";
import { tableThree } from "../table/table-three.js";

/** One table per split, then what failed or was left out. */
export function tableMarkdown(results: Results, options: ReportOptions): string {
  const { failures = [], leftOut = [] } = results;
  const notes = [
    ...failureNotes(failures),
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
    ...failureNotes(failures),
    ...new Set(leftOut.map(({ task, reason }) => `${task}: ${reason}.`)),
  ];
  return (
    head + comment(`Made by: ${results.command}`) + tables.join("\n") + notes.map(comment).join("")
  );
}

/** One line per method and reason: a plugin that was refused failed in every cell for one. */
function failureNotes(failures: readonly Failure[]): string[] {
  const groups = new Map<string, Failure[]>();
  for (const failure of failures) {
    const key = `${failure.method} ${failure.message}`;
    groups.set(key, [...(groups.get(key) ?? []), failure]);
  }
  return [...groups.values()].map((group) => {
    const { method, message } = group[0] as Failure;
    const all = <T>(values: readonly T[]) => [...new Set(values)].join(", ");
    const seeds = all(group.map(({ seed }) => seed));
    return `FAILED ${all(group.map(({ task }) => task))}, ${method}, seed ${seeds}: ${message}`;
  });
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

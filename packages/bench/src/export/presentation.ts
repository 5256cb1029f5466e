/** @file Everything that a run folder holds for reading, made from `results.json` and `paper.json` alone. */
import { existsSync } from "node:fs";
import path from "node:path";
import type { PaperResults } from "../paper/paper-results.js";
import { type AxisName, axesOf, taskChart } from "../report/curves-section.js";
import { type ReportOptions, renderReport } from "../report/report.js";
import { viewOf } from "../report/view.js";
import { type Results, readResults, writeFileWhole } from "../results.js";
import { statisticsTables } from "../table/statistics-tables.js";
import { toMarkdown } from "../table/table.js";
import { readPaper } from "./paper-file.js";
import { chartPicture, openPainter } from "./picture.js";
import { toPointsCsv } from "./points-csv.js";
import { tableLatex, tableMarkdown } from "./table-text.js";

export interface Presentation {
  /** The table as Markdown. */
  readonly table: string;
  /** What was written: files, and the folder of pictures. */
  readonly files: readonly string[];
  /** What could not be made, and why. */
  readonly notes: readonly string[];
}

const pictureNames: Readonly<Record<AxisName, string>> = {
  saved: "saved-layers",
  speedup: "speedup",
  work: "work",
  time: "time",
  rate: "tokens-per-second",
};

/**
 * Writes the report, the table, the points and the curves of a run beside its `results.json`, each whole or not at all.
 * @throws BenchError `WRITE_FAILED`
 */
export async function writePresentation(
  folder: string,
  results: Results,
  { paper }: { readonly paper?: PaperResults } = {},
): Promise<Presentation> {
  const options = reportOptions(results, paper);
  const table = tableMarkdown(results, options);
  const written: string[] = [];
  const write = async (name: string, content: string | Uint8Array) => {
    await writeFileWhole(path.join(folder, name), content);
    // Pictures are many; their folder stands for them.
    const shown = path.join(folder, path.dirname(name) === "." ? name : path.dirname(name));
    if (!written.includes(shown)) written.push(shown);
  };
  await write("report.html", renderReport(results, options));
  await write("table.md", `${table}\n`);
  await write("table.tex", tableLatex(results, options));
  const statistics = statisticsTables(results, options);
  await write("statistics.md", statistics.map(toMarkdown).join("\n"));
  await write("points.csv", toPointsCsv(results.rows));
  const pictures = picturesOf(results, options);
  for (const [name, svg] of pictures) await write(`curves/${name}.svg`, svg);
  if (pictures.length === 0) return { table, files: written, notes: [] };
  const painter = await openPainter();
  if ("missing" in painter) {
    return { table, files: written, notes: [`No PNG of the curves: ${painter.missing}.`] };
  }
  for (const [name, svg] of pictures) await write(`curves/${name}.png`, painter.paint(svg));
  return { table, files: written, notes: [] };
}

/**
 * Makes them again for an earlier run, without training anything.
 * @throws BenchError `MISSING_FILE`, `BAD_RESULTS` or `WRITE_FAILED`
 */
export async function remakePresentation(folder: string): Promise<Presentation> {
  const results = await readResults(path.join(folder, "results.json"));
  const paperFile = path.join(folder, "paper.json");
  const paper = existsSync(paperFile) ? await readPaper(paperFile) : undefined;
  return writePresentation(folder, results, paper ? { paper } : {});
}

/** Titles and order as the run had them. */
function reportOptions({ titles }: Results, paper: PaperResults | undefined): ReportOptions {
  return {
    ...(titles
      ? {
          methods: Object.keys(titles.methods),
          tasks: Object.keys(titles.tasks),
          methodTitles: titles.methods,
          taskTitles: titles.tasks,
        }
      : {}),
    ...(paper ? { paper } : {}),
  };
}

/** Every curve under a file name that any file system takes. */
function picturesOf(results: Results, options: ReportOptions): (readonly [string, string])[] {
  const view = viewOf(results, options);
  const taken = new Set<string>();
  return view.columns.flatMap((column) => {
    const wanted = [column.task, ...(column.split === view.split ? [] : [column.split])].join("-");
    const base =
      wanted
        .replaceAll(/[^\w.-]+/g, "_")
        .replace(/^[.-]+/, "_")
        .slice(0, 60) || "task";
    let name = base;
    for (let count = 2; taken.has(name.toLowerCase()); count += 1) name = `${base}-${count}`;
    taken.add(name.toLowerCase());
    return axesOf(view).flatMap((axis) => {
      const chart = taskChart(view, column, axis);
      return chart
        ? [[`${name}-${pictureNames[axis]}`, chartPicture(chart, column.title)] as const]
        : [];
    });
  });
}

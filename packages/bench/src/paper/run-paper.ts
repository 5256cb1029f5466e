/**
 * @file `bench paper`: Table 3 and everything else that the paper reports on classification, in one run that can be
 * stopped and gone on with: Tables 1 and 2, Figures 2, 3 and 4.
 */
import path from "node:path";
import { writePresentation } from "../export/presentation.js";
import { formatJson } from "../format-json.js";
import type { LoadedData } from "../glue/load.js";
import type { GlueOptions } from "../glue/options.js";
import type { GlueOutcome } from "../glue/output.js";
import { type GlueHooks, runGlue } from "../glue/run.js";
import type { Run } from "../glue/task-run.js";
import { writeFileWhole } from "../results.js";
import { toMarkdown } from "../table/table.js";
import { type Found, paperCompanion, partName } from "./companion.js";
import { figure3, figure4, table2Row } from "./from-results.js";
import type { PaperResults } from "./paper-results.js";
import { paperTables } from "./paper-tables.js";

export interface PaperOutcome extends GlueOutcome {
  /** Absent after a dry run. */
  readonly paper?: PaperResults;
}

/**
 * Runs `bench glue` and, while each task is still open, looks at its training rows.
 * @throws BenchError what `runGlue` throws
 */
export async function runPaper(
  options: GlueOptions,
  hooks: Pick<GlueHooks, "progress" | "signal"> = {},
): Promise<PaperOutcome> {
  let started: { readonly run: Run; readonly data: LoadedData } | undefined;
  const outcome = await runGlue(options, {
    ...hooks,
    companion: paperCompanion,
    onStart: (run, data) => {
      started = { run, data };
    },
  });
  const found = outcome.beside as readonly Found[];
  const parts = found.flatMap((one) => ("part" in one ? [one.part] : []));
  const failures = found.flatMap((one) => ("failure" in one ? [one.failure] : []));
  if (!started) return outcome;
  const { run, data } = started;
  // A worker that died could not say so.
  for (const { task } of data.tasks)
    for (const seed of options.seeds) {
      const part = partName(task.name, seed);
      const isThere =
        parts.some(({ table1 }) => partName(table1.task, table1.seed) === part) ||
        failures.some((failure) => failure.part.endsWith(part));
      if (!isThere) failures.push({ part, message: "its process ended before it was made." });
    }
  const paper: PaperResults = {
    schema: 1,
    command: options.command,
    tasks: data.tasks.map(({ task }) => task.name),
    table1: parts.map(({ table1 }) => table1),
    table2: data.tasks.map(table2Row),
    figure2: parts.flatMap((part) => part.figure2),
    figure3: figure3(outcome.results.rows),
    figure4: figure4(outcome.results.rows),
    failures,
  };
  const files = ["paper.json", "paper.md"].map((name) => path.join(options.out, name));
  const tables = paperTables(paper, {
    taskTitles: Object.fromEntries(data.tasks.map(({ task }) => [task.name, task.title])),
    methodTitles: Object.fromEntries(run.chosen.methods.map(({ name, title }) => [name, title])),
  }).map((table) => toMarkdown(table).trimEnd());
  const lost = failures.map(({ part, message }) => `FAILED ${part}: ${message}`);
  const text = ["Table 3", outcome.table, ...tables, ...lost].join("\n\n");
  await writeFileWhole(files[0] as string, `${formatJson(paper)}\n`);
  await writeFileWhole(files[1] as string, `${text}\n`);
  // Once more, with the paper's figures in it.
  await writePresentation(options.out, outcome.results, { paper });
  return { ...outcome, table: text, files: [...outcome.files, ...files], paper };
}

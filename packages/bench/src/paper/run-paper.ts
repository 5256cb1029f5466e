/**
 * @file `bench paper`: Table 3 and everything else that the paper reports on classification, in one run that can be
 * stopped and gone on with: Tables 1 and 2, Figures 2, 3 and 4.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import type { FitWatch } from "@cee/backbone";
import { never, replay } from "@cee/exit-policies";
import { BenchError } from "../errors.js";
import { writePresentation } from "../export/presentation.js";
import { formatJson } from "../format-json.js";
import { readJson } from "../glue/cells.js";
import type { LoadedData } from "../glue/load.js";
import type { GlueOptions } from "../glue/options.js";
import type { GlueOutcome } from "../glue/output.js";
import { type GlueHooks, runGlue } from "../glue/run.js";
import { isStop } from "../glue/stop.js";
import type { Collected, PreparedRun, Run } from "../glue/task-run.js";
import { consistentEEAt } from "../methods/consistentee.js";
import { initialiseSpec } from "../methods/strategy-method.js";
import { type ResultRow, writeFileWhole } from "../results.js";
import { toMarkdown } from "../table/table.js";
import { figure3, figure4, table2Row } from "./from-results.js";
import type { Figure2Panel, PaperResults, Table1Row } from "./paper-results.js";
import { paperTables } from "./paper-tables.js";
import { figure2Panel, lossScale, rightAtLast, table1Row } from "./training-rows.js";

/** Evaluations of the training rows during phase 1; each costs a forward pass over all of them. */
const EVALUATIONS = 10;

export interface PaperOutcome extends GlueOutcome {
  /** Absent after a dry run. */
  readonly paper?: PaperResults;
}

/** What one task and seed add; a finished one is a small file. */
interface Part {
  readonly table1: Table1Row;
  readonly figure2: readonly Figure2Panel[];
}

/**
 * Runs `bench glue` and, while each task is still open, looks at its training rows.
 * @throws BenchError what `runGlue` throws
 */
export async function runPaper(
  options: GlueOptions,
  hooks: Pick<GlueHooks, "progress" | "signal"> = {},
): Promise<PaperOutcome> {
  const parts: Part[] = [];
  const failures: { part: string; message: string }[] = [];
  let started: { readonly run: Run; readonly data: LoadedData } | undefined;
  const folder = path.join(options.out, "paper");
  const fail = (part: string, cause: unknown) => {
    if (isStop(cause)) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    failures.push({ part, message });
    started?.run.progress.print(`${part} failed: ${message}`);
  };
  const outcome = await runGlue(options, {
    ...hooks,
    onStart: (run, data) => {
      started = { run, data };
    },
    async beforeTask(prepared) {
      try {
        if (!readPart(folder, prepared)) await watchedTraining(folder, prepared);
      } catch (cause) {
        fail(`Table 1, ${nameOf(prepared)}`, cause);
      }
    },
    async afterTask(prepared, collected) {
      try {
        started?.run.progress.update(`${prepared.task.task.name} · training rows`);
        const part = readPart(folder, prepared) ?? (await makePart(folder, prepared, collected));
        parts.push(part);
      } catch (cause) {
        fail(`Table 1 and Figure 2, ${nameOf(prepared)}`, cause);
      }
    },
  });
  if (!started) return outcome;
  const { run, data } = started;
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

function nameOf({ task, seed }: PreparedRun): string {
  return `${task.task.name}, seed ${seed}`;
}

function partFile(folder: string, { task, seed }: PreparedRun): string {
  return path.join(folder, `${task.task.name}.${seed}.json`);
}

/** A finished part; one that was made from something else is made again. @throws BenchError `BAD_RESULTS` */
function readPart(folder: string, prepared: PreparedRun): Part | undefined {
  const file = partFile(folder, prepared);
  if (!existsSync(file)) return undefined;
  const found = readJson(file, "Delete it; its part will be made again.");
  return JSON.stringify(found.identity) === JSON.stringify(identityOf(prepared))
    ? (found.part as Part)
    : undefined;
}

function identityOf({ identity, bench }: PreparedRun) {
  return { ...identity, training: initialiseSpec(bench).identity, evaluations: EVALUATIONS };
}

/**
 * Phase 1, which most methods share, with evaluations of its training rows on the way. Where it was finished before by
 * a run that did not look on, it is done once more under another name: the same weights, this time watched.
 */
async function watchedTraining(folder: string, prepared: PreparedRun): Promise<void> {
  const { bench } = prepared;
  const watch: FitWatch = {
    evaluations: EVALUATIONS,
    async seen(record, { step, steps }) {
      const right = rightAtLast(record).join("");
      const text = JSON.stringify({ identity: identityOf(prepared), step, steps, right });
      await writeFileWhole(evaluationFile(folder, prepared, markOf(step, steps)), `${text}\n`);
    },
  };
  const spec = initialiseSpec(bench);
  await bench.fit({ ...spec, watch });
  if (readEvaluations(folder, prepared)) return;
  await bench.fit({
    ...spec,
    label: `${spec.label}, watched`,
    identity: { ...spec.identity, watched: EVALUATIONS },
    watch,
  });
}

function markOf(step: number, steps: number): number {
  return Math.floor((step * EVALUATIONS) / steps);
}

function evaluationFile(folder: string, { task, seed }: PreparedRun, mark: number): string {
  return path.join(folder, "evaluations", `${task.task.name}.${seed}.${mark}.json`);
}

/** All evaluations in order; `undefined` when they are not all there and of this training. */
function readEvaluations(folder: string, prepared: PreparedRun): Uint8Array[] | undefined {
  const found: Uint8Array[] = [];
  for (let mark = 1; mark <= EVALUATIONS; mark += 1) {
    const file = evaluationFile(folder, prepared, mark);
    // A training of few steps crosses several marks at once, and only its last one has a file.
    if (!existsSync(file)) continue;
    const { identity, right, steps } = readJson(file, "Delete it, and --resume.");
    if (JSON.stringify(identity) !== JSON.stringify(identityOf(prepared))) return undefined;
    if (typeof right !== "string" || right.length !== prepared.bench.train.length) return undefined;
    found.push(Uint8Array.from(right, Number));
    if (mark === EVALUATIONS)
      return found.length === Math.min(EVALUATIONS, steps as number) ? found : undefined;
  }
  return undefined;
}

async function makePart(folder: string, prepared: PreparedRun, { rows }: Collected): Promise<Part> {
  const { task, seed, bench } = prepared;
  const name = task.task.name;
  const evaluations = readEvaluations(folder, prepared);
  if (!evaluations)
    throw new BenchError(
      "TRAINING_FAILED",
      name,
      "has no evaluations of its training rows, as its first training failed.",
    );
  const trained = await bench.fit(initialiseSpec(bench));
  const record = await bench.record(trained, never(), "train");
  const largest = lossScale(record);
  const where = { task: name, seed };
  const panels = [
    figure2Panel({ ...where, objective: "weighted-sum", alpha: null }, record, null, largest),
  ];
  const alpha = alphaOf(rows, name, seed);
  if (alpha !== undefined) {
    const { spec, strategy } = consistentEEAt(
      bench,
      { name: "consistentee", reward: "hardness" },
      alpha,
    );
    const own = await bench.record(await bench.fit(spec), strategy, "train");
    const { exitLayers } = replay(own, strategy);
    panels.push(
      figure2Panel({ ...where, objective: "consistentee", alpha }, own, exitLayers, largest),
    );
  }
  const part = { table1: table1Row(name, seed, record, evaluations), figure2: panels };
  const text = JSON.stringify({ identity: identityOf(prepared), part });
  await writeFileWhole(partFile(folder, prepared), `${text}\n`);
  return part;
}

/** The price behind ConsistentEE's row of Table 3: within one per cent, else without loss, else the cheapest. */
function alphaOf(rows: readonly ResultRow[], task: string, seed: number): number | undefined {
  const own = rows.filter(
    (row) =>
      row.task === task &&
      row.seed === seed &&
      row.method === "consistentee" &&
      row.split === "dev",
  );
  const at = (point: string) => own.find((row) => row.operatingPoint === point)?.knob?.value;
  const prices = own.flatMap(({ knob }) => (knob ? [knob.value] : []));
  return (
    at("one-percent") ?? at("no-loss") ?? (prices.length > 0 ? Math.min(...prices) : undefined)
  );
}

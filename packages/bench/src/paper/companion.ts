/** @file What `bench paper` does beside each task of `bench glue`: looks at its training rows while its models are open. */
import { existsSync } from "node:fs";
import path from "node:path";
import type { FitWatch } from "@cee/backbone";
import { never, replay } from "@cee/exit-policies";
import { BenchError } from "../errors.js";
import { readJson } from "../glue/cells.js";
import type { Companion, CompanionContext, CompanionHooks } from "../glue/companion.js";
import { isStop } from "../glue/stop.js";
import type { Collected, PreparedRun } from "../glue/task-run.js";
import { consistentEEAt } from "../methods/consistentee.js";
import { initialiseSpec } from "../methods/strategy-method.js";
import { type ResultRow, writeFileWhole } from "../results.js";
import type { Figure2Panel, PaperResults, Table1Row } from "./paper-results.js";
import { figure2Panel, lossScale, rightAtLast, table1Row } from "./training-rows.js";

/** Evaluations of the training rows during phase 1; each costs a forward pass over all of them. */
const EVALUATIONS = 10;

/** What one task and seed add; a finished one is a small file. */
export interface Part {
  readonly table1: Table1Row;
  readonly figure2: readonly Figure2Panel[];
}

/** What comes of a task and seed. */
export type Found =
  | { readonly part: Part }
  | { readonly failure: PaperResults["failures"][number] };

/** Exported under this name for worker processes. */
export const companion: CompanionHooks = {
  async before(prepared, context) {
    const folder = folderOf(context);
    return attempt(`Table 1, ${nameOf(prepared)}`, context, async () => {
      if (!readPart(folder, prepared)) await watchedTraining(folder, prepared);
      return undefined;
    });
  },
  async after(prepared, collected, context) {
    const folder = folderOf(context);
    return attempt(`Table 1 and Figure 2, ${nameOf(prepared)}`, context, async () => {
      context.progress.update(`${prepared.task.task.name} · training rows`);
      return { part: readPart(folder, prepared) ?? (await makePart(folder, prepared, collected)) };
    });
  },
};

export const paperCompanion: Companion = { hooks: companion, module: moduleUrl() };

/** The source as this process runs it; beside the built package otherwise. */
function moduleUrl(): string {
  const source = new URL("./companion.ts", import.meta.url);
  return (existsSync(source) ? source : new URL("./paper-companion.js", import.meta.url)).href;
}

/** A part that can't be made is a gap in the report, and the run goes on. */
async function attempt(
  part: string,
  { progress }: CompanionContext,
  make: () => Promise<Found | undefined>,
): Promise<Found | undefined> {
  try {
    return await make();
  } catch (cause) {
    if (isStop(cause)) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    progress.print(`${part} failed: ${message}`);
    return { failure: { part, message } };
  }
}

function folderOf({ options }: CompanionContext): string {
  return path.join(options.out, "paper");
}

/** How a part is called in messages. */
export function partName(task: string, seed: number): string {
  return `${task}, seed ${seed}`;
}

function nameOf({ task, seed }: PreparedRun): string {
  return partName(task.task.name, seed);
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

/** @file `bench generation`: fine-tunes a decoder, lets its tokens leave early, and says what that saves and costs. */
import { createHash } from "node:crypto";
import path from "node:path";
import type { CausalDecoder } from "@cee/backbone";
import { CausalLM } from "@cee/consistentee";
import { createEngine, type Engine } from "@cee/engine";
import { BenchError } from "../errors.js";
import { writePresentation } from "../export/presentation.js";
import { fold } from "../glue/options.js";
import type { BenchOutcome } from "../glue/output.js";
import { createProgressLine, duration, type ProgressLine } from "../glue/progress.js";
import { openRunFolder } from "../glue/run-folder.js";
import { checkStop, isStop } from "../glue/stop.js";
import type { BertScore } from "../metrics/bert-score.js";
import {
  type Failure,
  type ResponseSample,
  type ResultRow,
  type Results,
  writeResults,
} from "../results.js";
import { type Cell, type CellSetting, type Reference, runCell } from "./cells.js";
import { loadRaw, type PreparedData, prepareData, type RawData } from "./data.js";
import { type DecodingPoint, decodePoint } from "./decode.js";
import { describeDryRun } from "./dry-run.js";
import { scoreTexts } from "./evaluate.js";
import { lengthsOf, textOptions } from "./lengths.js";
import { DEFAULT_BACKBONES, startingDecoder } from "./model.js";
import { type GenerationOptions, isModelSize, parseFreshDecoder } from "./options.js";
import { generateOf, threadsOf, titles } from "./points.js";
import { openResponses } from "./responses.js";
import { resultsOf, samplesOf } from "./run-results.js";
import { openScorer } from "./scorer.js";
import { trainExits } from "./train.js";

/** Raised when the same data and options give other numbers than before. */
const VERSION = 2;

export interface GenerationHooks {
  readonly progress?: ProgressLine;
  /** Stops after the step in progress; what is finished is kept. */
  readonly signal?: AbortSignal;
}

interface Run extends CellSetting {
  readonly engine: Engine;
  readonly data: PreparedData;
}

/**
 * Runs the benchmark; finished trainings and cells stay on disk, and a cell that fails leaves the others alone.
 * @throws BenchError `STOPPED` when the signal asked for it; what loading, training and decoding give
 */
export async function runGeneration(
  options: GenerationOptions,
  { progress = createProgressLine(), signal }: GenerationHooks = {},
): Promise<BenchOutcome> {
  const raw = chooseTasks(loadRaw(options), options);
  const backbone = options.backbone ?? DEFAULT_BACKBONES[raw.source];
  const engine = await createEngine(
    options.threads === undefined ? {} : { threads: options.threads },
  );
  let bert: BertScore | undefined;
  try {
    progress.print(`Runtime: ${engine.description}`);
    if (options.dryRun) return await dryRun(engine, options, raw, backbone);
    const started = performance.now();
    const decoder = await startingDecoder(options, raw);
    const lengths = lengthsOf(options, decoder);
    const data = prepareData(raw, decoder, { ...lengths, ...textOptions(options) });
    progress.print(
      `Backbone: ${backbone}, ${decoder.heads} heads; ${data.train.length} training texts, ${data.leftOut} left out as too long`,
    );
    const settings = {
      version: VERSION,
      data: raw.source,
      backbone,
      preset: options.preset,
      seed: options.seed,
      epochs: options.epochs ?? null,
      limit: options.limit ?? null,
      prompts: options.prompts ?? null,
      heads: options.heads,
      lora: String(options.lora),
      "key-values": options.keyValues,
      ...lengths,
    };
    const folder = await openRunFolder(options.out, settings, {
      resume: options.resume,
      log: (line) => progress.print(line),
    });
    bert = await openScorer(engine, options, raw, progress, signal);
    const isFresh = parseFreshDecoder(backbone) !== undefined;
    const run: Run = {
      engine,
      options,
      data,
      context: { engine, options, isFresh, train: data.train, dev: data.dev, progress, signal },
      bert,
      folder,
      responses: openResponses(path.join(options.out, "responses")),
      maxNewTokens: lengths.maxNewTokens,
      identity: {
        ...Object.fromEntries(
          Object.entries(settings).map(([name, value]) => [name, value ?? "default"]),
        ),
        texts: digestOf(data),
        scorer: bert.identity,
      },
    };
    const { rows, failures, responses } = await runMethods(run, decoder);
    progress.stop();
    const results = resultsOf(run, { backbone, decoder, rows, failures, responses });
    const file = path.join(options.out, "results.json");
    await writeResults(file, results);
    const { table, files, notes } = await writePresentation(options.out, results);
    for (const note of notes) progress.print(note);
    progress.print(`Done in ${duration((performance.now() - started) / 1000)}`);
    return { results, table, failures, files: [file, ...files] };
  } finally {
    progress.stop();
    await bert?.dispose();
    await engine.dispose();
  }
}

async function runMethods(run: Run, start: CausalDecoder) {
  const { options, context } = run;
  const rows: ResultRow[] = [];
  const failures: Failure[] = [];
  const responses: ResponseSample[] = [];
  const started = performance.now();
  const shared = await trainExits(context, start);
  const seconds = (performance.now() - started) / 1000;
  context.progress.print(`All exits trained in ${duration(seconds)}`);
  const full = await CausalLM.open(shared, threadsOf(options));
  try {
    for (const task of run.data.tasks) {
      checkStop(context.signal);
      context.progress.update(`${task.name}: full depth`);
      const point: DecodingPoint = {
        knob: null,
        model: full,
        generate: generateOf(run, undefined),
      };
      const decoded = await decodePoint(point, task.prompts, context.signal);
      const references =
        task.reference === "own" ? decoded.texts : task.prompts.map(({ reference }) => reference);
      const scored = await scoreTexts(decoded.texts, references, run.bert);
      const reference: Reference = {
        task,
        references,
        point,
        decoded: { decoded, scored, speed: undefined },
      };
      const cells: Cell[] = [];
      for (const method of options.methods) {
        checkStop(context.signal);
        const begun = performance.now();
        try {
          cells.push(await runCell(run, shared, reference, method));
          const spent = duration((performance.now() - begun) / 1000);
          context.progress.print(`${task.name}: ${titles[method]} done in ${spent}`);
        } catch (cause) {
          if (isStop(cause)) throw cause;
          const message = cause instanceof Error ? cause.message : String(cause);
          context.progress.print(`${task.name}, ${method} failed: ${message}`);
          failures.push({ task: task.name, method, seed: options.seed, message });
        }
      }
      rows.push(...cells.flatMap((cell) => cell.rows));
      responses.push(...samplesOf(reference, cells));
    }
  } finally {
    await full.dispose();
  }
  return { rows, failures, responses };
}

async function dryRun(
  engine: Engine,
  options: GenerationOptions,
  raw: RawData,
  backbone: string,
): Promise<BenchOutcome> {
  const start = isModelSize(backbone) ? backbone : await startingDecoder(options, raw);
  const table = await describeDryRun(engine, options, raw, backbone, start);
  const nothing: Results = {
    schema: 1,
    command: options.command,
    preset: options.preset,
    backbone,
    data: { source: raw.source },
    rows: [],
  };
  return { results: nothing, table, failures: [], files: [] };
}

function chooseTasks(raw: RawData, { tasks: wanted }: GenerationOptions): RawData {
  for (const name of wanted)
    if (!raw.tasks.some((task) => fold(task.name) === fold(name)))
      throw new BenchError(
        "UNKNOWN_TASK",
        "--tasks",
        `there is no "${name}". There are ${raw.tasks.map((task) => task.name).join(", ")}.`,
      );
  const tasks =
    wanted.length === 0
      ? raw.tasks
      : raw.tasks.filter((task) => wanted.some((name) => fold(name) === fold(task.name)));
  return { ...raw, tasks };
}

function digestOf({ train, tasks }: PreparedData): string {
  const hash = createHash("sha256");
  for (const { id, ids, from } of train) hash.update(`${id} ${from} ${ids.join()}\n`);
  for (const { name, prompts } of tasks)
    for (const { id, ids, reference } of prompts)
      hash.update(`${name} ${id} ${ids.join()} ${reference}\n`);
  return hash.digest("hex").slice(0, 16);
}

/** @file `bench generation`: fine-tunes a decoder, lets its tokens leave early, and says what that saves and costs. */
import { createHash } from "node:crypto";
import path from "node:path";
import type { CausalDecoder } from "@cee/backbone";
import { CausalLM } from "@cee/consistentee";
import { createEngine, type Engine } from "@cee/engine";
import {
  alwaysAt,
  calm,
  calmMeta,
  calmState,
  type ExitStrategy,
  shallowDeep,
} from "@cee/exit-policies";
import { BenchError } from "../errors.js";
import { writePresentation } from "../export/presentation.js";
import { fold } from "../glue/options.js";
import type { BenchOutcome } from "../glue/output.js";
import { createProgressLine, duration, type ProgressLine } from "../glue/progress.js";
import { openRunFolder, type RunFolder } from "../glue/run-folder.js";
import { checkStop, isStop } from "../glue/stop.js";
import { machineOf, versionsOf } from "../glue/versions.js";
import type { BertScore } from "../metrics/bert-score.js";
import { matchedFields } from "../protocol/matched.js";
import {
  type Failure,
  type ResponseSample,
  type ResultRow,
  type Results,
  writeResults,
} from "../results.js";
import {
  loadRaw,
  type PreparedData,
  type PreparedTask,
  prepareData,
  type RawData,
} from "./data.js";
import { type DecodedPoint, type DecodingPoint, decodePoint, timePoints } from "./decode.js";
import { describeDryRun } from "./dry-run.js";
import { curveMetrics, type EvaluatedPoint, rowsOf, scoreTexts } from "./evaluate.js";
import { lengthsOf, textOptions } from "./lengths.js";
import { DEFAULT_BACKBONES, startingDecoder } from "./model.js";
import {
  type GenerationMethod,
  type GenerationOptions,
  isModelSize,
  parseFreshDecoder,
} from "./options.js";
import { type CellResponses, openResponses, type ResponsesFolder } from "./responses.js";
import { openScorer } from "./scorer.js";
import { presets, type TrainingContext, trainExits, trainMeta, trainPolicies } from "./train.js";

const titles: Readonly<Record<GenerationMethod, string>> = {
  full: "Full depth",
  calm: "CALM, softmax",
  "calm-state": "CALM, state",
  "calm-meta": "CALM, classifier",
  consistentee: "ConsistentEE",
  free: "FREE's rule",
  "self-speculative": "Self-speculative",
};

/** What skipped layers get where a method leaves no choice. */
const ownKeyValues: Readonly<Partial<Record<GenerationMethod, "recompute" | "verify">>> = {
  free: "recompute",
  "self-speculative": "verify",
};

const THRESHOLDS = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
const COSINES = [0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 1];
/** Prompts that are timed one by one, and rounds that count. */
const TIMED = { prompts: 3, rounds: 3 } as const;
const SAMPLES = 4;
/** Raised when the same data and options give other numbers than before. */
const VERSION = 1;

export interface GenerationHooks {
  readonly progress?: ProgressLine;
  /** Stops after the step in progress; what is finished is kept. */
  readonly signal?: AbortSignal;
}

interface Run {
  readonly engine: Engine;
  readonly options: GenerationOptions;
  readonly data: PreparedData;
  readonly context: TrainingContext;
  readonly bert: BertScore;
  readonly folder: RunFolder;
  readonly responses: ResponsesFolder;
  readonly maxNewTokens: number;
  readonly identity: Readonly<Record<string, string | number>>;
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

/** What every method of a task is compared with. */
interface Reference {
  readonly task: PreparedTask;
  readonly references: readonly string[];
  readonly point: DecodingPoint;
  readonly decoded: EvaluatedPoint;
}

interface Cell extends CellResponses {
  readonly rows: readonly ResultRow[];
}

async function runCell(
  run: Run,
  shared: CausalDecoder,
  reference: Reference,
  method: GenerationMethod,
): Promise<Cell> {
  const { options, context, folder, responses, identity } = run;
  const { task } = reference;
  const names = curveMetrics.map(({ suffix }) => ({
    task: `${task.name}${suffix}`,
    method,
    seed: options.seed,
  }));
  const known = names.map((name) => folder.cells.read(name, identity));
  const said = responses.read(task.name, method);
  if (known.every((rows) => rows !== undefined) && said)
    return { ...said, rows: known.flatMap((rows) => rows ?? []) };
  const opened: CausalLM[] = [];
  const open = async (decoder: CausalDecoder, strategy: ExitStrategy, more: object = {}) => {
    const model = await CausalLM.open(decoder, { ...threadsOf(options), strategy, ...more });
    opened.push(model);
    return model;
  };
  try {
    const points = await pointsOf(run, shared, method, open);
    const decoded: DecodedPoint[] = [];
    for (const [index, point] of points.entries()) {
      context.progress.update(
        `${task.name}: ${titles[method]}, point ${index + 1} of ${points.length}`,
      );
      decoded.push(await decodePoint(point, task.prompts, context.signal));
    }
    context.progress.update(`${task.name}: ${titles[method]}, timing`);
    const timed = task.prompts.slice(0, TIMED.prompts);
    const [speed, ...speeds] = await timePoints(
      [reference.point, ...points],
      timed,
      TIMED.rounds,
      context.signal,
    );
    const evaluated: EvaluatedPoint[] = [];
    for (const [index, one] of decoded.entries()) {
      const scored = await scoreTexts(one.texts, reference.references, run.bert);
      evaluated.push({ decoded: one, scored, speed: speeds[index] });
    }
    const full: EvaluatedPoint = { ...reference.decoded, speed };
    const rows = rowsOf({
      task: task.name,
      method,
      seed: options.seed,
      layers: shared.shape.depth,
      options: { keyValues: ownKeyValues[method] ?? options.keyValues },
      full,
      points: evaluated,
    });
    const cell: CellResponses = {
      method,
      points: [full, ...evaluated].map(({ decoded: one, scored }) => ({
        knob: one.knob,
        speedup: shared.shape.depth / meanOf(one.exits.flat()),
        texts: one.texts.slice(0, SAMPLES),
        scores: scored.rougeL.slice(0, SAMPLES),
      })),
    };
    for (const name of names)
      await folder.cells.write(
        name,
        identity,
        rows.filter((row) => row.task === name.task),
      );
    await responses.write(task.name, cell);
    return { ...cell, rows };
  } finally {
    for (const model of opened) await model.dispose();
  }
}

type Open = (decoder: CausalDecoder, strategy: ExitStrategy, more?: object) => Promise<CausalLM>;

/** The points of a method's curve, with what has to be trained for them. */
async function pointsOf(
  run: Run,
  shared: CausalDecoder,
  method: GenerationMethod,
  open: Open,
): Promise<DecodingPoint[]> {
  const { maxNewTokens: maxLength, options, context } = run;
  const sweep = (
    model: CausalLM,
    create: (value: number) => ExitStrategy,
    name: string,
    values: readonly number[],
  ) =>
    values.map(
      (value): DecodingPoint => ({
        knob: { name, value },
        model,
        generate: generateOf(run, create(value)),
      }),
    );
  switch (method) {
    case "full":
      return [];
    case "calm": {
      const create = (threshold: number) => calm({ threshold, maxLength });
      return sweep(await open(shared, create(1)), create, "threshold", THRESHOLDS);
    }
    case "calm-state": {
      // The paper's comparison has a constant threshold here.
      const create = (threshold: number) => calmState({ threshold, decay: "none", maxLength });
      return sweep(await open(shared, create(1)), create, "threshold", COSINES);
    }
    case "calm-meta": {
      const { strategyParams } = await trainMeta(context, shared);
      const create = (threshold: number) => calmMeta({ threshold, maxLength });
      const model = await open(shared, create(1), { strategyParams });
      return sweep(model, create, "threshold", THRESHOLDS);
    }
    case "consistentee": {
      const points: DecodingPoint[] = [];
      for (const alpha of presets[options.preset].alphas) {
        const { decoder, strategy, strategyParams } = await trainPolicies(context, shared, alpha);
        const model = await open(decoder, strategy, { strategyParams });
        points.push({
          knob: { name: "alpha", value: alpha },
          model,
          generate: generateOf(run, strategy),
        });
      }
      return points;
    }
    case "free": {
      const layer = Math.max(1, Math.round(shared.shape.depth / 3));
      const create = (threshold: number) => shallowDeep({ layer, threshold });
      const model = await open(shared, create(1), { exits: [layer] });
      return sweep(model, create, "threshold", THRESHOLDS).map((point) => ({
        ...point,
        generate: { ...point.generate, keyValues: "recompute" },
      }));
    }
    case "self-speculative": {
      const points: DecodingPoint[] = [];
      for (let layer = 1; layer < shared.shape.depth; layer += 1) {
        const strategy = alwaysAt({ layer });
        const model = await open(shared, strategy, { exits: [layer] });
        const generate = { ...generateOf(run, strategy), keyValues: "verify" as const };
        points.push({ knob: { name: "layer", value: layer }, model, generate });
      }
      return points;
    }
  }
}

function generateOf(
  { maxNewTokens, options }: Pick<Run, "maxNewTokens" | "options">,
  strategy: ExitStrategy | undefined,
) {
  return { maxNewTokens, keyValues: options.keyValues, ...(strategy ? { strategy } : {}) };
}

function threadsOf({ threads }: GenerationOptions) {
  return { threads: threads ?? 1 };
}

/** Speed-ups that the report puts beside each other, nearest points taken. */
const SHOWN = [1.25, 1.5, 2, 3];

function samplesOf(
  { task, references, decoded }: Reference,
  cells: readonly CellResponses[],
): ResponseSample[] {
  return task.prompts.slice(0, SAMPLES).map(({ id, text }, row) => ({
    task: task.name,
    id,
    prompt: text,
    reference: references[row] as string,
    answers: [
      {
        method: "full",
        knob: null,
        speedup: 1,
        score: decoded.scored.rougeL[row] as number,
        text: decoded.decoded.texts[row] as string,
      },
      ...cells.flatMap(({ method, points }) => {
        const own = points.filter(({ knob }) => knob !== null);
        const near = SHOWN.map((wanted) =>
          own.reduce<(typeof own)[number] | undefined>((best, point) => {
            const off = (one: { readonly speedup: number }) => Math.abs(one.speedup - wanted);
            return best === undefined || off(point) < off(best) ? point : best;
          }, undefined),
        );
        return [...new Set(near)].flatMap((point) =>
          point
            ? [
                {
                  method,
                  knob: point.knob,
                  speedup: point.speedup,
                  score: point.scores[row] as number,
                  text: point.texts[row] as string,
                },
              ]
            : [],
        );
      }),
    ],
  }));
}

function resultsOf(
  { engine, options, data, bert, maxNewTokens }: Run,
  {
    backbone,
    decoder,
    rows,
    failures,
    responses,
  }: {
    readonly backbone: string;
    readonly decoder: CausalDecoder;
    readonly rows: readonly ResultRow[];
    readonly failures: readonly Failure[];
    readonly responses: readonly ResponseSample[];
  },
): Results {
  const { depth, hidden, vocabSize, maxPositions } = decoder.config;
  return {
    schema: 1,
    command: options.command,
    preset: options.preset,
    backbone: {
      name: path.basename(backbone),
      depth,
      hidden,
      vocabSize,
      maxPositions,
      heads: decoder.heads,
    },
    data: {
      source: data.source,
      trainingTexts: data.train.length,
      leftOut: data.leftOut,
      bertScore: `${bert.identity}, layer ${bert.layer}`,
      maxNewTokens,
      decoding: "greedy",
      tasks: Object.fromEntries(
        data.tasks.flatMap((task) =>
          curveMetrics.map(({ suffix }) => [
            `${task.name}${suffix}`,
            {
              prompts: task.prompts.length,
              reference: task.reference === "own" ? "full depth's own response" : "gold summary",
              cutInputs: task.cut,
              inputKept: `${(100 * task.kept).toFixed(1)} %`,
            },
          ]),
        ),
      ),
    },
    rows,
    titles: {
      tasks: Object.fromEntries(
        data.tasks.flatMap(({ name, title }) =>
          curveMetrics.map(({ suffix, title: metric }) => [
            `${name}${suffix}`,
            `${title}${metric}`,
          ]),
        ),
      ),
      methods: Object.fromEntries(options.methods.map((method) => [method, titles[method]])),
    },
    versions: versionsOf(engine),
    machine: machineOf(engine),
    ...(failures.length > 0 ? { failures } : {}),
    matched: matchedFields(rows),
    responses,
  };
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

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

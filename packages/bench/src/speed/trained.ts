/** @file Track two: a strategy that was trained, on requests that come one after the other or at their own times. */
import {
  type ExitEncoder,
  exportOnnx,
  fit,
  openExported,
  openFlat,
  type TextTokenizer,
  toBatch,
} from "@cee/backbone";
import {
  type ConsistentEEInput,
  consistentEE,
  consistentEEPlan,
  EarlyExitModel,
  type EarlyExitParts,
  resolveOptions,
} from "@cee/consistentee";
import { createRng, type Engine, type Rng } from "@cee/engine";
import { type ExitStrategy, toObserver } from "@cee/exit-policies";
import type { LoadedTask } from "../data/task.js";
import { BenchError } from "../errors.js";
import { prepareBackbone } from "../glue/backbone.js";
import { prepareRows } from "../glue/prepare.js";
import type { ProgressLine } from "../glue/progress.js";
import { checkStop } from "../glue/stop.js";
import { strategyParams } from "../methods/strategy-params.js";
import { intervalOf, type Resampled, resampleAll } from "../metrics/resample.js";
import { median } from "../metrics/statistics.js";
import type { LatencyPart } from "./results.js";
import { type RatioInterval, weightedQuantile } from "./rounds.js";

export interface TrainedOptions {
  readonly engine: Engine;
  readonly task: LoadedTask;
  /** `fresh:<layers>x<width>`, a folder or a hub id. */
  readonly backbone: string;
  readonly requests: number;
  readonly seed: number;
  readonly rng: Rng;
  readonly threads: number;
  /** Folder that the training can be gone on with from. */
  readonly checkpoint: string;
  readonly signal: AbortSignal | undefined;
  readonly progress: ProgressLine;
}

const MAX_LENGTH = 64;
/** Shares of the full model's capacity that requests arrive at. */
const LOADS = [0.5, 0.7, 0.9] as const;
const ALPHA = 0.01;
/** Requests of one system before the next one's turn. */
const BLOCK = 25;

interface Served {
  readonly layer: number;
  readonly prediction: number;
}

/** Answers texts; may be asked before the last answer is there. */
interface Server {
  readonly name: string;
  answer(text: string): Promise<Served>;
  dispose(): Promise<void>;
}

/** Trains ConsistentEE on the task's rows and serves its development set. */
export async function measureTrained(options: TrainedOptions): Promise<LatencyPart[]> {
  const { task, requests, rng, progress, signal } = options;
  const parts = await train(options);
  const dev = task.splits.dev.filter(({ pair }) => pair === undefined).slice(0, requests);
  if (dev.length === 0)
    throw new BenchError(
      "BAD_INPUT",
      task.task.name,
      "has no single texts to serve. Choose a task of single sentences.",
    );
  const asked = Array.from(
    { length: requests },
    (_, index) => dev[index % dev.length] as (typeof dev)[0],
  );
  const model = `${parts.encoder.shape.depth} x ${parts.encoder.shape.hidden}, ConsistentEE on ${task.task.name}`;
  const servers = await openServers(parts, options);
  try {
    await checkAlike(
      servers,
      asked.slice(0, 200).map(({ text }) => text),
    );
    // One after the other: what each system takes, and what the full model can do at most.
    const closed = new Map(servers.map(({ name }) => [name, [] as Reply[]]));
    for (let from = 0; from < asked.length; from += BLOCK)
      for (const server of rng.shuffle([...servers])) {
        checkStop(signal);
        for (const { text, label } of asked.slice(from, from + BLOCK)) {
          const start = performance.now();
          const { layer, prediction } = await server.answer(text);
          const milliseconds = performance.now() - start;
          closed.get(server.name)?.push({ milliseconds, layer, isRight: prediction === label });
        }
      }
    const found = [...closed].map(([name, replies]) =>
      partOf(model, name, "closed", replies, options.seed),
    );
    const full = closed.get(FULL) as Reply[];
    // The median: what somebody else's busy moment adds is no part of what the model can do.
    const service = median(full.map(({ milliseconds }) => milliseconds));
    for (const load of LOADS) {
      const gaps = arrivals(
        asked.length,
        service / load,
        createRng(options.seed).fork(`load/${load}`),
      );
      for (const server of rng.shuffle([...servers])) {
        checkStop(signal);
        const replies = await serve(server, asked, gaps);
        found.push(partOf(model, server.name, load, replies, options.seed));
      }
    }
    for (const { system, load, p50, p95, p99 } of found)
      progress.print(
        `${load === "closed" ? "one after the other" : `${100 * load} % of capacity`}, ${system}: p50 ${p50.estimate.toFixed(1)}, p95 ${p95.estimate.toFixed(1)}, p99 ${p99.estimate.toFixed(1)} ms`,
      );
    return found;
  } finally {
    for (const server of servers) await server.dispose();
  }
}

async function train({
  engine,
  task,
  backbone,
  seed,
  checkpoint,
  signal,
  progress,
}: TrainedOptions): Promise<EarlyExitParts & { readonly encoder: ExitEncoder }> {
  const encoder = await prepareBackbone({
    spec: backbone,
    task,
    seed,
    maxLength: MAX_LENGTH,
    progress,
    signal,
  });
  const rows = prepareRows(task, encoder, { seed, maxLength: MAX_LENGTH });
  const input: ConsistentEEInput = { preset: "small", alpha: ALPHA };
  const strategy = consistentEE(input) as ExitStrategy;
  const own = strategy.definition.params?.(encoder.shape, strategy.options, seed) ?? {};
  const { params, reports, trained } = await fit({
    engine,
    model: encoder,
    params: {
      ...encoder.params,
      ...Object.fromEntries(
        Object.entries(own).map(([name, tensor]) => [`strategy.${name}`, tensor]),
      ),
    },
    plan: () => consistentEEPlan(encoder.shape, resolveOptions(input)),
    observer: toObserver(strategy, own),
    train: rows.train,
    dev: rows.validation,
    seed,
    out: checkpoint,
    identity: { backbone, task: task.task.name, seed },
    log: (line) => progress.print(line),
    ...(signal ? { signal } : {}),
    onProgress: ({ phase, epoch, epochs, loss }) =>
      progress.update(`training · ${phase} epoch ${epoch}/${epochs} · loss ${loss.toFixed(4)}`),
  });
  progress.print(`trained on ${rows.train.length} rows of ${task.task.name}`);
  return {
    encoder: { ...encoder, params, trainedHeads: trained.heads },
    strategy,
    params: strategyParams(params),
    reports,
    seed,
  };
}

const FULL = "full depth, one graph";
const LIBRARY = "library (EarlyExitModel)";
const FILE = "exported file";

async function openServers(
  { encoder, strategy, params = {}, reports = [] }: EarlyExitParts,
  { engine, threads }: TrainedOptions,
): Promise<Server[]> {
  const tokenizer = encoder.tokenizer as TextTokenizer;
  const batchOf = (text: string) =>
    toBatch([tokenizer.encode(text, { maxLength: MAX_LENGTH })], { padId: tokenizer.padId });
  const full = openFlat(engine, encoder, encoder.params);
  const observer = toObserver(strategy, params);
  const file = await openExported(
    engine,
    exportOnnx(encoder, strategy, observer, { rows: "one" }),
    encoder.shape,
    "one",
  );
  const { knob } = strategy.definition;
  const value = knob ? (strategy.options[knob.option] as number) : 0;
  const library = await EarlyExitModel.fromParts(
    { encoder, strategy, params, reports },
    { threads, maxBatch: 16, maxLength: MAX_LENGTH },
  );
  const { labels = [] } = library;
  return [
    {
      name: FULL,
      answer: inTurn(async (text) => ({
        layer: encoder.shape.depth,
        prediction: argmax(await full.logits(batchOf(text))),
      })),
      dispose: () => full.dispose(),
    },
    {
      name: FILE,
      answer: inTurn(async (text) => {
        const { exitLayers, predictions } = await file.classify(batchOf(text), value);
        return { layer: exitLayers[0] as number, prediction: predictions[0] as number };
      }),
      dispose: () => file.dispose(),
    },
    {
      name: LIBRARY,
      async answer(text) {
        const { exitLayer, label } = await library.classify(text);
        return { layer: exitLayer, prediction: labels.indexOf(label) };
      },
      dispose: () => library.dispose(),
    },
  ];
}

/** The strategy must decide alike in all of them before they are timed. @throws BenchError `RUN_MISMATCH` */
async function checkAlike(servers: readonly Server[], texts: readonly string[]): Promise<void> {
  const [first, ...others] = servers.filter(({ name }) => name !== FULL);
  let differing = 0;
  for (const text of texts) {
    const expected = await (first as Server).answer(text);
    for (const other of others) {
      const { layer, prediction } = await other.answer(text);
      if (layer !== expected.layer || prediction !== expected.prediction) differing += 1;
    }
  }
  // The last digits may decide a row in a hundred; more is another model.
  if (differing > texts.length / 100)
    throw new BenchError(
      "RUN_MISMATCH",
      "trained strategy",
      `${differing} of ${texts.length} texts leave elsewhere in the library than in the exported file. Their times mean nothing beside each other.`,
    );
}

function inTurn(run: (text: string) => Promise<Served>): (text: string) => Promise<Served> {
  let last: Promise<unknown> = Promise.resolve();
  return (text) => {
    const next = last.then(() => run(text));
    last = next.catch(() => undefined);
    return next;
  };
}

interface Reply {
  readonly milliseconds: number;
  readonly layer: number;
  readonly isRight: boolean;
}

/** When requests arrive, in milliseconds from the start; `gap` is the mean time between two. */
function arrivals(count: number, gap: number, rng: Rng): number[] {
  let now = 0;
  return Array.from({ length: count }, () => {
    now += -Math.log(1 - rng.next()) * gap;
    return now;
  });
}

/** Latencies count from the time that was drawn, also where this process was too busy to notice it. */
async function serve(
  server: Server,
  asked: readonly { readonly text: string; readonly label: number }[],
  times: readonly number[],
): Promise<Reply[]> {
  const start = performance.now() + 20;
  return Promise.all(
    asked.map(async ({ text, label }, index) => {
      const arrival = start + (times[index] as number);
      const wait = arrival - performance.now();
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, wait)));
      const { layer, prediction } = await server.answer(text);
      return { milliseconds: performance.now() - arrival, layer, isRight: prediction === label };
    }),
  );
}

function partOf(
  model: string,
  system: string,
  load: LatencyPart["load"],
  replies: readonly Reply[],
  seed: number,
): LatencyPart {
  const times = replies.map(({ milliseconds }) => milliseconds);
  const shares = [0.5, 0.95, 0.99];
  const [p50, p95, p99] = resampleAll(
    times.length,
    shares.map((share) => weightedQuantile(times, share)),
    { seed, resamples: 500 },
  ).map(toInterval) as [RatioInterval, RatioInterval, RatioInterval];
  const mean = (of: (reply: Reply) => number) =>
    replies.reduce((sum, reply) => sum + of(reply), 0) / replies.length;
  return {
    model,
    system,
    load,
    requests: replies.length,
    p50,
    p95,
    p99,
    meanExitLayer: mean(({ layer }) => layer),
    accuracy: mean(({ isRight }) => Number(isRight)),
  };
}

function toInterval(resampled: Resampled): RatioInterval {
  const [low, high] = intervalOf(resampled);
  return { estimate: resampled.estimate, low, high };
}

function argmax(values: Float32Array): number {
  return values.indexOf(Math.max(...values));
}

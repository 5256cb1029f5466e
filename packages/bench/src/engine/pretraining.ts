/**
 * @file `pnpm bench pretraining`: the time of a pre-training step against PyTorch on the same model and batch, and where
 * that time goes.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import {
  createPretrainProgram,
  feedMlm,
  initPretraining,
  type PretrainProgram,
  parsePretrainSettings,
} from "@cee/backbone";
import { createEngine, createRng, type HostParams, type HostTensor } from "@cee/engine";
import { type Bar, barLines } from "../bars.js";
import type { RunHooks } from "../glue/progress.js";
import { pauseForStop } from "../glue/stop.js";
import { findTorch, startTorch } from "./torch.js";
import { type Candidate, type Turns, takeTurns, timed } from "./turns.js";

export interface PretrainingBenchOptions {
  /** @default 12 */
  readonly depth?: number;
  /** @default 128 */
  readonly width?: number;
  /** @default 4 */
  readonly heads?: number;
  /** @default 8000 */
  readonly vocabulary?: number;
  /** Rows of a batch. @default 64 */
  readonly batch?: number;
  /** Tokens of a row. @default 64 */
  readonly length?: number;
  /** Exits, besides the last, that score each masked place. @default 2 */
  readonly exits?: number;
  /** @default the number of processors available to this process */
  readonly threads?: number;
  /** Timed steps of each candidate. @default 9 */
  readonly rounds?: number;
  /** Compares with PyTorch where it is installed. @default true */
  readonly torch?: boolean;
}

/** The time that one kind of kernel took in a step. */
export interface KernelShare {
  readonly kernel: string;
  /** Of the time of all kernels. */
  readonly share: number;
  /** How many a step has. */
  readonly calls: number;
  readonly isMatrixProduct: boolean;
}

export interface PretrainingBenchResult {
  readonly settings: Readonly<Record<string, number | string>>;
  readonly timings: readonly Turns[];
  /** Most expensive first. */
  readonly kernels: readonly KernelShare[];
  readonly bars: readonly Bar[];
  /** What could not be measured, and why. */
  readonly notes: readonly string[];
}

const SEED = 42;
const AT = { learningRate: 1e-4, seed: [SEED, 0] };
const PROFILED_STEPS = 3;

/** Runs the benchmark. @throws BenchError `STOPPED`, and what the compiled form throws */
export async function runPretrainingBench(
  options: PretrainingBenchOptions,
  hooks: RunHooks,
): Promise<PretrainingBenchResult> {
  const notes: string[] = [];
  const threads = options.threads ?? availableParallelism();
  const rounds = options.rounds ?? 9;
  const sizes = {
    depth: options.depth ?? 12,
    width: options.width ?? 128,
    heads: options.heads ?? 4,
    vocabulary: options.vocabulary ?? 8000,
    batch: options.batch ?? 64,
    length: options.length ?? 64,
    exits: options.exits ?? 2,
    dropout: 0,
  };
  const { depth, width, heads, vocabulary, batch, length, exits } = sizes;
  const settings = parsePretrainSettings(
    {
      model: {
        model_type: "bert",
        vocab_size: vocabulary,
        hidden_size: width,
        num_hidden_layers: depth,
        num_attention_heads: heads,
        intermediate_size: 4 * width,
        max_position_embeddings: Math.max(128, length),
      },
      batchTokens: batch * length,
      lengths: [length],
      steps: 1000,
      learningRate: AT.learningRate,
      pairWeight: 0.1,
      exitsPerPlace: exits,
    },
    "pretraining benchmark",
  );
  const params = initPretraining(settings.model, SEED);
  const feed = randomFeed(sizes, settings.pairWeight);
  hooks.progress.print(`Pre-training step: ${depth} layers, width ${width}`);
  const found = (options.torch ?? true) ? await findTorch() : undefined;
  if (found && "missing" in found) notes.push(found.missing);
  const engine = await createEngine({ runtime: "onnxruntime-node", threads });
  const program = createPretrainProgram(engine, settings, { params });
  const closers = [() => program.dispose().then(() => engine.dispose())];
  let timings: Turns[];
  let pytorch: string | undefined;
  try {
    const candidates: Candidate[] = [{ name: "compiled", rounds, run: stepper(program, feed) }];
    if (found && "python" in found) {
      const tensors: Record<string, HostTensor> = { ...params };
      for (const [name, tensor] of Object.entries(feed)) tensors[`batch.${name}`] = tensor;
      const { weightDecay, beta2, clipNorm } = settings;
      const adamw = { learningRate: AT.learningRate, betas: [0.9, beta2], eps: 1e-6 };
      const torch = await startTorch(
        found.python,
        tensors,
        { sizes, threads, adamw: { ...adamw, weightDecay, clipNorm } },
        "torch_mlm.py",
      );
      closers.push(torch.close);
      pytorch = `${found.version}${torch.core ? `, OpenBLAS's kernels for ${torch.core}` : ""}`;
      if (torch.warning) notes.push(torch.warning);
      candidates.push({ name: "PyTorch", rounds, run: torch.step });
    }
    timings = await takeTurns("step", candidates, { rounds, sameLoss: true, notes, ...hooks });
  } finally {
    for (const close of closers.reverse()) await close();
  }
  hooks.progress.update("profiling");
  const kernels = await profile(settings, params, { feed, threads, signal: hooks.signal });

  const bars: Bar[] = timings.slice(1).map(({ candidate, ratio }) => ({
    name: `pre-training step, compiled / ${candidate}`,
    value: 1 / ratio,
    limit: "at most 1/0.9 = 1.11",
    isMet: 1 / ratio <= 1 / 0.9,
  }));
  return {
    settings: {
      ...{ depth, width, heads, vocabulary, batch, length, exits, threads },
      ...(pytorch === undefined ? {} : { pytorch }),
    },
    timings,
    kernels,
    bars,
    notes,
  };
}

/** The result in words. */
export function describePretrainingBench(result: PretrainingBenchResult): string {
  const { settings, timings, kernels, bars, notes } = result;
  const { depth, width, heads, batch, length, vocabulary, exits, threads, pytorch } = settings;
  const outside = kernels
    .filter(({ isMatrixProduct }) => !isMatrixProduct)
    .reduce((total, { share }) => total + share, 0);
  const beside = pytorch === undefined ? "" : `; PyTorch ${pytorch}`;
  return [
    `${depth} layers, width ${width}, ${heads} heads; ${batch} x ${length} tokens of ${vocabulary}, 15 % of them masked and ` +
      `scored at the last and ${exits} other exits, float32, no dropout, ${threads} threads${beside}`,
    ...formatTables(timings, kernels),
    `Outside matrix products: ${(100 * outside).toFixed(1)} % of the kernels' time.`,
    ...notes,
    ...barLines(bars),
    "",
  ].join("\n");
}

type Settings = ReturnType<typeof parsePretrainSettings>;
type Feed = ReturnType<typeof feedMlm>;

/** Random tokens with every seventh place masked, and half of the rows as pairs. */
function randomFeed(
  sizes: {
    readonly batch: number;
    readonly length: number;
    readonly vocabulary: number;
    readonly depth: number;
    readonly exits: number;
  },
  pairWeight: number,
): Feed {
  const { batch: rows, length, vocabulary, depth, exits } = sizes;
  const rng = createRng(SEED).fork("batch");
  const ids = Int32Array.from({ length: rows * length }, () => rng.int(vocabulary));
  const positions = ids.map((_, place) => place).filter((place) => place % 7 === 3);
  const pairRows = Int32Array.from({ length: rows >> 1 }, (_, index) => 2 * index);
  const draws = createRng(SEED).fork("exits");
  return feedMlm(
    {
      rows,
      length,
      ids,
      types: ids.map((_, place) => (place % length < length / 2 ? 0 : 1)),
      positions,
      targets: positions.map(() => rng.int(vocabulary)),
      pairRows,
      pairTargets: pairRows.map(() => rng.int(3)),
    },
    {
      depth,
      exitsPerPlace: exits,
      pairWeight,
      places: positions.length,
      pairs: pairRows.length,
    },
    (below) => draws.int(below),
  );
}

function stepper(program: PretrainProgram, feed: Feed): Candidate["run"] {
  let step = 0;
  return () =>
    timed(async () => {
      step += 1;
      const { loss } = await program.step([feed], { ...AT, step });
      program.accept();
      return loss;
    });
}

const MATRIX_PRODUCT = /MatMul|Gemm/;

/** Where the time of a step goes, from ONNX Runtime's own profile of a few steps. */
async function profile(
  settings: Settings,
  params: HostParams,
  {
    feed,
    threads,
    signal,
  }: {
    readonly feed: Feed;
    readonly threads: number;
    readonly signal: AbortSignal | undefined;
  },
): Promise<KernelShare[]> {
  const folder = await mkdtemp(join(tmpdir(), "cee-profile-"));
  try {
    const engine = await createEngine({
      runtime: "onnxruntime-node",
      threads,
      profile: join(folder, "step"),
    });
    const program = createPretrainProgram(engine, settings, { params });
    const run = stepper(program, feed);
    // The first step warms up, and is in the profile as well.
    try {
      for (let step = 0; step <= PROFILED_STEPS; step += 1) {
        await pauseForStop(signal);
        await run();
      }
    } finally {
      await program.dispose();
      await engine.dispose();
    }
    const kernels = new Map<string, { time: number; calls: number }>();
    for (const name of await readdir(folder)) {
      const events = JSON.parse(await readFile(join(folder, name), "utf8")) as ProfileEvent[];
      for (const { cat, name: event, dur, args } of events) {
        if (cat !== "Node" || !event.endsWith("_kernel_time") || !args?.op_name) continue;
        const kernel = kernels.get(args.op_name) ?? { time: 0, calls: 0 };
        kernels.set(args.op_name, { time: kernel.time + dur, calls: kernel.calls + 1 });
      }
    }
    const total = [...kernels.values()].reduce((sum, { time }) => sum + time, 0);
    return [...kernels]
      .map(([kernel, { time, calls }]) => ({
        kernel,
        share: time / total,
        calls: calls / (PROFILED_STEPS + 1),
        isMatrixProduct: MATRIX_PRODUCT.test(kernel),
      }))
      .sort((a, b) => b.share - a.share);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What is read of one event of ONNX Runtime's profile; durations are in microseconds. */
interface ProfileEvent {
  readonly cat: string;
  readonly name: string;
  readonly dur: number;
  readonly args?: { readonly op_name?: string };
}

function formatTables(timings: readonly Turns[], kernels: readonly KernelShare[]): string[] {
  const ms = (time: number) => time.toFixed(1);
  return [
    "",
    "| candidate | median ms | min | max | steps | times compiled |",
    "|---|---:|---:|---:|---:|---:|",
    ...timings.map(
      ({ candidate, rounds, median, ratio }) =>
        `| ${candidate} | ${ms(median)} | ${ms(Math.min(...rounds))} | ${ms(Math.max(...rounds))} | ${rounds.length} | ${ratio.toFixed(2)} |`,
    ),
    "",
    "| kernel | share of the time | calls a step |",
    "|---|---:|---:|",
    ...kernels
      .slice(0, 12)
      .map(
        ({ kernel, share, calls }) => `| ${kernel} | ${(100 * share).toFixed(1)} % | ${calls} |`,
      ),
    "",
  ];
}

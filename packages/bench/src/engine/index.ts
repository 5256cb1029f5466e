/**
 * @file `pnpm bench engine`: forward and training-step times of a multi-exit BERT, compiled, on eager TensorFlow.js and
 * in PyTorch. The candidates take turns within one run, so that a change of the machine's speed meets all of them.
 */
import { availableParallelism } from "node:os";
import {
  createEngine,
  type Engine,
  type HostParams,
  type HostTensor,
  initConstant,
  type TensorParams,
  useBackend,
} from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import { type Bar, barLines } from "../bars.js";
import type { RunHooks } from "../glue/progress.js";
import {
  ADAMW,
  BATCH_SPECS,
  bertConfig,
  createBatch,
  createParams,
  type EngineBatch,
  type EngineModelSizes,
  exitLogits,
  exitLoss,
  type StepScalars,
  type StepState,
  stepSpecs,
  trainingStep,
} from "./model.js";
import { findTorch, startTorch } from "./torch.js";
import { type Candidate, type Turns, takeTurns, timed } from "./turns.js";

export interface EngineBenchOptions {
  /** @default [128, 384] */
  readonly widths?: readonly number[];
  /** @default 12 */
  readonly depth?: number;
  /** Attention heads. @default width / 64 */
  readonly heads?: number;
  /** @default 30522 */
  readonly vocabulary?: number;
  /** @default 32 */
  readonly batch?: number;
  /** @default 64 */
  readonly length?: number;
  /** @default 0.1 */
  readonly dropout?: number;
  /** @default the number of processors available to this process */
  readonly threads?: number;
  /** Timed rounds of each candidate. @default 9 */
  readonly rounds?: number;
  /** Timed rounds of TensorFlow.js's wasm backend; 0 leaves it out. @default 3 */
  readonly wasmRounds?: number;
  /** Compares with PyTorch where it is installed. @default true */
  readonly torch?: boolean;
}

export interface EngineTiming extends Turns {
  readonly width: number;
  readonly work: "forward" | "training step";
}

export interface EngineBenchResult {
  readonly settings: Readonly<Record<string, number | string | readonly number[]>>;
  readonly timings: readonly EngineTiming[];
  readonly bars: readonly Bar[];
  /** What could not be measured, and why. */
  readonly notes: readonly string[];
}

const COMPILED = "compiled";
const PYTORCH = "PyTorch";
const WASM = "tfjs wasm";
const LEARNING_RATE = 1e-4;
const SEED = 42;

/** Runs the benchmark. @throws BenchError `STOPPED`, and what the compiled form throws */
export async function runEngineBench(
  options: EngineBenchOptions,
  hooks: RunHooks,
): Promise<EngineBenchResult> {
  const {
    widths = [128, 384],
    depth = 12,
    vocabulary = 30_522,
    batch = 32,
    length = 64,
    dropout = 0.1,
    threads = availableParallelism(),
    rounds = 9,
    wasmRounds = 3,
  } = options;
  const timings: EngineTiming[] = [];
  const notes: string[] = [];
  const torch = (options.torch ?? true) ? await findTorch() : undefined;
  if (torch && "missing" in torch) notes.push(torch.missing);
  const python = torch && "python" in torch ? torch.python : undefined;
  hooks.progress.print(`Encoder: ${depth} layers, width ${widths.join(" and ")}`);
  for (const width of widths) {
    const heads = options.heads ?? Math.max(1, width / 64);
    const sizes = { width, depth, heads, vocabulary, batch, length, dropout };
    const plan = { sizes, python, threads, rounds, wasmRounds, notes, ...hooks };
    timings.push(...(await measureWidth(plan)));
  }
  return {
    settings: {
      widths,
      depth,
      heads: options.heads ?? "width / 64",
      vocabulary,
      batch,
      length,
      dropout,
      threads,
      ...(torch && "version" in torch ? { pytorch: torch.version } : {}),
    },
    timings,
    bars: judge(timings),
    notes,
  };
}

/** The result in words. */
export function describeEngineBench({ settings, timings, bars, notes }: EngineBenchResult): string {
  const { depth, widths, heads, batch, length, vocabulary, dropout, threads, pytorch } = settings;
  const beside = pytorch === undefined ? "" : `; PyTorch ${pytorch}`;
  return [
    `${depth} layers, width ${[widths].flat().join(" and ")}, ${heads} heads, an exit after each; ${batch} x ${length} tokens of ` +
      `${vocabulary}, float32, dropout ${dropout}, ${threads} threads${beside}`,
    ...formatTable(timings),
    ...notes,
    ...barLines(bars),
    "",
  ].join("\n");
}

interface WidthPlan extends RunHooks {
  readonly sizes: EngineModelSizes;
  readonly python: string | undefined;
  readonly threads: number;
  readonly rounds: number;
  readonly wasmRounds: number;
  readonly notes: string[];
}

async function measureWidth(plan: WidthPlan): Promise<EngineTiming[]> {
  const { sizes, threads, rounds, wasmRounds } = plan;
  const { width } = sizes;
  const config = bertConfig(sizes);
  const params = createParams(config, SEED);
  const batch = createBatch(sizes, SEED);
  const closers: (() => Promise<void>)[] = [];
  try {
    const forward: Candidate[] = [];
    const step: Candidate[] = [];
    // wasm has one thread in Node: the compiled form with one thread says how much of its lead is not threads.
    for (const count of threads > 1 && wasmRounds > 0 ? [threads, 1] : [threads]) {
      const engine = await createEngine({ runtime: "onnxruntime-node", threads: count });
      closers.push(() => engine.dispose());
      const name = count === threads ? COMPILED : `${COMPILED}, 1 thread`;
      forward.push({ name, rounds, run: compiledForward(engine, config, params, batch) });
      if (count === threads) {
        step.push({ name, rounds, run: compiledStep(engine, config, params, batch) });
      }
    }
    if (plan.python) {
      const tensors: Record<string, HostTensor> = { ...params };
      for (const [name, tensor] of Object.entries(batch)) tensors[`batch.${name}`] = tensor;
      const adamw = { ...ADAMW, learningRate: LEARNING_RATE };
      const torch = await startTorch(plan.python, tensors, { sizes, threads, adamw });
      closers.push(torch.close);
      const core = torch.core && `PyTorch multiplies with OpenBLAS's kernels for ${torch.core}.`;
      for (const note of [core, torch.warning])
        if (note && !plan.notes.includes(note)) plan.notes.push(note);
      forward.push({ name: PYTORCH, rounds, run: torch.forward });
      step.push({ name: PYTORCH, rounds, run: torch.step });
    }
    if (wasmRounds > 0) {
      const wasm = await startWasm(config, params, batch);
      closers.push(wasm.close);
      const name = `${WASM}, 1 thread`;
      forward.push({ name, rounds: Math.min(rounds, wasmRounds), run: wasm.forward });
      // A step takes it many seconds, and nothing is judged by it.
      step.push({ name, rounds: 1, run: wasm.step });
    }
    return [
      ...timings(
        "forward",
        width,
        await takeTurns(`forward at width ${width}`, forward, { ...plan, sameLoss: true }),
      ),
      ...timings(
        "training step",
        width,
        await takeTurns(`training step at width ${width}`, step, plan),
      ),
    ];
  } finally {
    for (const close of closers.reverse()) await close();
  }
}

function timings(
  work: EngineTiming["work"],
  width: number,
  turns: readonly Turns[],
): EngineTiming[] {
  return turns.map((turn) => ({ ...turn, work, width }));
}

type Config = ReturnType<typeof bertConfig>;
type Batch = Record<string, HostTensor>;
type Run = Candidate["run"];

function compiledForward(engine: Engine, config: Config, params: HostParams, batch: Batch): Run {
  const compiled = engine.compile(
    (inputs: { batch: EngineBatch; params: TensorParams }) => {
      const logits = exitLogits(config, inputs.params, inputs.batch);
      return { logits, loss: exitLoss(logits, inputs.batch) };
    },
    { name: "forward", inputs: { batch: BATCH_SPECS }, constants: { params } },
  );
  return () =>
    timed(async () => (await compiled.run<{ loss: HostTensor }>({ batch })).loss.data[0] as number);
}

function compiledStep(engine: Engine, config: Config, params: HostParams, batch: Batch): Run {
  const compiled = engine.compile(
    (inputs: StepState & StepScalars & { batch: EngineBatch }) => trainingStep(config, inputs),
    { name: "step", inputs: stepSpecs(params) },
  );
  const zeros = () => mapParams(params, ({ shape }) => initConstant(shape, 0));
  // Two sets of buffers that swap roles: a step reads one and writes the other.
  let current = { params: mapParams(params, copyOf), m: zeros(), v: zeros() };
  let spare = { params: zeros(), m: zeros(), v: zeros() };
  const scalars = { loss: initConstant([], 0), norm: initConstant([], 0) };
  let count = 0;
  return () =>
    timed(async () => {
      count += 1;
      const inputs = {
        ...current,
        batch,
        seed: { dtype: "int32", shape: [2], data: Int32Array.of(SEED, count) },
        learningRate: initConstant([], LEARNING_RATE),
        step: initConstant([], count),
      } as const;
      await compiled.run(inputs, { into: { ...spare, ...scalars } });
      [current, spare] = [spare, current];
      return scalars.loss.data[0] as number;
    });
}

/** The same functions on eager wasm, with everything kept in its heap from one run to the next. */
async function startWasm(config: Config, params: HostParams, batch: Batch) {
  await useBackend("wasm");
  const toTensor = ({ data, shape, dtype }: HostTensor) => tf.tensor(data, [...shape], dtype);
  const toTensors = (tensors: Readonly<Record<string, HostTensor>>) =>
    Object.fromEntries(Object.entries(tensors).map(([path, host]) => [path, toTensor(host)]));
  const zeros = () => toTensors(mapParams(params, ({ shape }) => initConstant(shape, 0)));
  const inputs = toTensors(batch) as unknown as EngineBatch;
  let state = { params: toTensors(params), m: zeros(), v: zeros() };
  let count = 0;
  return {
    forward: () =>
      timed(async () => {
        const loss = tf.tidy(() => exitLoss(exitLogits(config, state.params, inputs), inputs));
        const value = (await loss.data())[0] as number;
        loss.dispose();
        return value;
      }),
    step: () =>
      timed(async () => {
        count += 1;
        const next = tf.tidy(() =>
          trainingStep(config, {
            ...state,
            batch: inputs,
            seed: tf.tensor1d([SEED, count], "int32"),
            learningRate: tf.scalar(LEARNING_RATE),
            step: tf.scalar(count),
          }),
        );
        const { loss, norm, ...moved } = next;
        const value = (await loss.data())[0] as number;
        tf.dispose([state, loss, norm]);
        state = moved as typeof state;
        return value;
      }),
    close: async () => tf.dispose([state, inputs] as tf.TensorContainer),
  };
}

function judge(timings: readonly EngineTiming[]): Bar[] {
  const bars: Bar[] = [];
  for (const { width, work, candidate, ratio } of timings) {
    if (work === "forward" && candidate.startsWith(WASM) && width === 128) {
      const name = "forward at width 128, tfjs wasm / compiled";
      bars.push({ name, value: ratio, limit: "at least 10", isMet: ratio >= 10 });
    }
    if (work === "training step" && candidate === PYTORCH) {
      const name = `training step at width ${width}, compiled / PyTorch`;
      const value = 1 / ratio;
      bars.push({ name, value, limit: "at most 1/0.9 = 1.11", isMet: value <= 1 / 0.9 });
    }
  }
  return bars;
}

function formatTable(timings: readonly EngineTiming[]): string[] {
  const lines = [
    "",
    "| width | work | candidate | median ms | min | max | rounds | times compiled |",
    "|---:|---|---|---:|---:|---:|---:|---:|",
  ];
  for (const { width, work, candidate, rounds, median: middle, ratio } of timings) {
    const [min, max] = [Math.min(...rounds), Math.max(...rounds)].map((time) => time.toFixed(1));
    lines.push(
      `| ${width} | ${work} | ${candidate} | ${middle.toFixed(1)} | ${min} | ${max} | ${rounds.length} | ${ratio.toFixed(2)} |`,
    );
  }
  return [...lines, ""];
}

function mapParams(params: HostParams, change: (tensor: HostTensor) => HostTensor): HostParams {
  return Object.fromEntries(Object.entries(params).map(([path, tensor]) => [path, change(tensor)]));
}

function copyOf({ dtype, shape, data }: HostTensor): HostTensor {
  return { dtype, shape, data: data.slice() };
}

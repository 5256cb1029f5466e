/**
 * @file Compiles an encoder together with one observer: a full pass in one graph, and one graph per layer for passes
 * that stop early.
 *
 * N = rows of the input, B = live rows, S = length, H = hidden size, T = layers, C = classes, K = values per row.
 */
import type {
  CompiledFunction,
  Engine,
  HostParams,
  HostTensor,
  HostTree,
  SpecTree,
  TensorTree,
} from "@cee/engine";
import type {
  Carry,
  ExitPass,
  ExitRunner,
  FullOutput,
  Observer,
  TrainedParts,
} from "@cee/exit-policies";
import type * as tf from "@tensorflow/tfjs";
import { attentionBias, embed } from "../bert.js";
import { BackboneError } from "../errors.js";
import { batchInputs, batchSpecs, checkBatch, type TokenBatch } from "./batch.js";
import { carrySpecs, PROBE_LENGTHS } from "./carry-specs.js";
import { compileClearly } from "./compile.js";
import {
  belongsTo,
  isEmbedding,
  type LayerStep,
  layerStep,
  pickParams,
  withStrategy,
} from "./layer.js";
import { observeAt } from "./observation.js";
import { encoderPass, type HandedOn, type PassState, runLayer } from "./pass.js";
import { type BatchTensors, exitSignals, type ModelPlan, strategyParams } from "./signals.js";

export interface OpenOptions {
  /** What was trained; hosts refuse answers from the rest. @default taken on trust */
  readonly trained?: TrainedParts | undefined;
}

/**
 * Compiles `model` with weights baked in.
 * @throws BackboneError `BAD_OBSERVATION` when layers do not observe the same number of values per row
 */
export async function openEncoder(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  observer: Observer,
  { trained }: OpenOptions = {},
): Promise<ExitRunner<TokenBatch>> {
  const { shape, config } = model;
  const all = withStrategy(params, observer);
  const programs: CompiledFunction[] = [];
  const compile = (...args: Parameters<Engine["compile"]>): CompiledFunction => {
    const program = compileClearly(engine, ...args);
    programs.push(program);
    return program;
  };
  const dispose = async () => {
    for (const program of programs) await program.dispose();
  };
  let full: CompiledFunction | undefined;
  let isDisposed = false;
  try {
    // A layer is compiled for the carry that the one before hands on. Running it now also keeps the first request as
    // fast as the others.
    const layers: CompiledFunction[] = [];
    let [short, long] = PROBE_LENGTHS.map((length) => batchInputs(probeBatch(length))) as [
      PassState,
      PassState,
    ];
    let observedWidth = 0;
    for (let layer = 1; layer <= shape.depth; layer += 1) {
      const program =
        layer === 1
          ? compileFirst(compile, model, all, observer)
          : compileLayer(
              compile,
              model,
              all,
              observer,
              layer,
              carriedSpecs(short as HandedOn, long as HandedOn, `layer ${layer - 1}`),
            );
      layers.push(program);
      const [a, b] = [await runLayer(program, short), await runLayer(program, long)];
      if (layer > 1 && a.output.observedWidth !== observedWidth)
        throw new BackboneError(
          "BAD_OBSERVATION",
          observer.name,
          `must observe the same number of values at every layer, got ${observedWidth} before layer ${layer} and ${a.output.observedWidth} there. Pad the narrower ones.`,
        );
      observedWidth = a.output.observedWidth;
      short = a.next;
      long = b.next;
    }

    return {
      shape,
      ...(trained ? { trained } : {}),
      async full(batch) {
        checkBatch(batch, config, "full");
        full ??= compile(
          ({ params: weights, ...tensors }) =>
            fullPass(model, observer, weights, tensors as unknown as BatchTensors),
          { name: "full", inputs: batchSpecs, constants: { params: all } },
        );
        return toFullOutput(await full.run(batchInputs(batch)), batch.rows);
      },
      async begin(batch): Promise<ExitPass> {
        checkBatch(batch, config, "begin");
        if (isDisposed)
          throw new BackboneError(
            "DISPOSED",
            "runner",
            "must not begin a pass after dispose(). Open the model again.",
          );
        return encoderPass(shape, batchInputs(batch), layers, observedWidth);
      },
      dispose() {
        isDisposed = true;
        return dispose();
      },
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** A full pass whose weights are inputs: one graph serves a model while it is being trained. */
export interface FullProgram {
  run(
    params: HostParams,
    batch: TokenBatch,
  ): Promise<FullOutput & { readonly extra: ExtraSignals }>;
  dispose(): Promise<void>;
}

/** Signals that may be recorded besides answers and observations; `logits` are the head's own. */
export type RecordedSignal = "logits" | "pooled" | "hidden" | "features";

/** Recorded signals, by name: shape `[N, T, width]`. */
export type ExtraSignals = Readonly<
  Record<string, { readonly width: number; readonly data: Float32Array }>
>;

/** Compiles a full pass over fed weights that also returns the named signals of every layer. */
export function compileFull(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  observer: Observer,
  extra: readonly RecordedSignal[] = [],
): FullProgram {
  const all = withStrategy(params, observer);
  const compiled = compileClearly(
    engine,
    ({ params: weights, ...tensors }) =>
      fullPass(model, observer, weights, tensors as unknown as BatchTensors, extra),
    { name: "record", inputs: { ...batchSpecs, params: specsOf(all) } },
  );
  return {
    async run(weights, batch) {
      checkBatch(batch, model.config, "record");
      const output = await compiled.run<FullResult>({
        ...batchInputs(batch),
        params: pickParams(weights, (path) => path in all),
      });
      return {
        ...toFullOutput(output, batch.rows),
        extra: Object.fromEntries(
          extra.map((name) => [name, interleave(output.extra[name] as HostTensor[], batch.rows)]),
        ),
      };
    },
    dispose: () => compiled.dispose(),
  };
}

interface FullResult {
  readonly [key: string]: HostTree;
  readonly values: HostTensor[];
  readonly logits: HostTensor[];
  readonly extra: { readonly [name: string]: HostTensor[] };
}

function fullPass(
  model: ModelPlan,
  observer: Observer,
  params: Readonly<Record<string, tf.Tensor>>,
  batch: BatchTensors,
  extra: readonly RecordedSignal[] = [],
) {
  const signals = exitSignals(model, params, batch);
  const own = strategyParams(params);
  const values: tf.Tensor[] = [];
  const logits: tf.Tensor[] = [];
  let carry: Carry | undefined;
  signals.forEach((now, index) => {
    const observed = observeAt(observer, model, index + 1, now, own, carry);
    carry = observed.carry;
    values.push(observed.values);
    logits.push(observed.logits ?? now.logits);
  });
  return {
    values,
    logits,
    extra: Object.fromEntries(extra.map((name) => [name, signals.map((now) => now[name])])),
  };
}

/** Specs of what the layer before hands on. */
function carriedSpecs(
  short: HandedOn,
  long: HandedOn,
  who: string,
): { readonly headCarry?: SpecTree; readonly observerCarry?: SpecTree } {
  return {
    ...(short.headCarry &&
      long.headCarry && { headCarry: carrySpecs(short.headCarry, long.headCarry, who) }),
    ...(short.observerCarry &&
      long.observerCarry && {
        observerCarry: carrySpecs(short.observerCarry, long.observerCarry, who),
      }),
  };
}

/** The first layer with the embeddings: it always runs, and every program that is called costs a call. */
function compileFirst(
  compile: Engine["compile"],
  model: ModelPlan,
  params: HostParams,
  observer: Observer,
): CompiledFunction {
  return compile(
    ({ params: weights, ...tensors }) => {
      const batch = tensors as unknown as BatchTensors;
      const hidden = embed(weights, batch, { config: model.config });
      const bias = attentionBias(batch.mask);
      const { mask } = batch;
      const step = layerStep(model, observer, 1, { params: weights, hidden, mask, bias });
      return { ...handedOn(step, model.shape.depth === 1), ...(model.shape.depth > 1 && { bias }) };
    },
    {
      name: "layer 1",
      ownMemory: false,
      inputs: batchSpecs,
      constants: { params: pickParams(params, (path) => isEmbedding(path) || belongsTo(1)(path)) },
    },
  );
}

/** What a layer gives; after the last one nobody reads the hidden states. */
function handedOn(
  { hidden, ...step }: LayerStep,
  isLast: boolean,
): Readonly<Record<string, TensorTree>> {
  return { ...(step as unknown as Record<string, TensorTree>), ...(isLast ? {} : { hidden }) };
}

function compileLayer(
  compile: Engine["compile"],
  model: ModelPlan,
  params: HostParams,
  observer: Observer,
  layer: number,
  carries: { readonly headCarry?: SpecTree; readonly observerCarry?: SpecTree },
): CompiledFunction {
  return compile(
    (tensors) => handedOn(layerStep(model, observer, layer, tensors), layer === model.shape.depth),
    {
      name: `layer ${layer}`,
      ownMemory: false,
      inputs: {
        hidden: { dtype: "float32", shape: ["batch", "length", model.config.hidden] },
        mask: batchSpecs.mask,
        bias: { dtype: "float32", shape: ["batch", 1, 1, "length"] },
        ...carries,
      },
      constants: { params: pickParams(params, belongsTo(layer)) },
    },
  );
}

/** Specs of fed parameters. */
export function specsOf(params: HostParams): Record<string, SpecTree> {
  return Object.fromEntries(
    Object.entries(params).map(([path, { dtype, shape }]) => [path, { dtype, shape }]),
  );
}

function toFullOutput(output: HostTree, rows: number): FullOutput {
  const { values, logits } = output as unknown as FullResult;
  const observed = interleave(values, rows);
  return {
    rows,
    observed: observed.data,
    observedWidth: observed.width,
    logits: interleave(logits, rows).data,
  };
}

/** T tensors `[N, width]` to one array `[N, T, width]`. */
function interleave(
  layers: readonly HostTensor[],
  rows: number,
): { readonly width: number; readonly data: Float32Array } {
  const width = layers[0]?.shape[1] ?? 0;
  const data = new Float32Array(rows * layers.length * width);
  layers.forEach((tensor, index) => {
    if (tensor.shape[0] !== rows || tensor.shape[1] !== width)
      throw new BackboneError(
        "BAD_OBSERVATION",
        `layer ${index + 1}`,
        `every layer must give [${rows}, ${width}] values, got [${tensor.shape.join(", ")}]. Observe one fixed number of values per row.`,
      );
    const source = tensor.data as Float32Array;
    for (let row = 0; row < rows; row += 1)
      data.set(
        source.subarray(row * width, (row + 1) * width),
        (row * layers.length + index) * width,
      );
  });
  return { width, data };
}

function probeBatch(length: number): TokenBatch {
  return {
    rows: 1,
    length,
    ids: new Int32Array(length),
    types: new Int32Array(length),
    mask: new Float32Array(length).fill(1),
  };
}

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
} from "@cee/engine";
import type {
  Carry,
  ExitPass,
  ExitRunner,
  FullOutput,
  LayerOutput,
  ModelShape,
  Observer,
} from "@cee/exit-policies";
import type * as tf from "@tensorflow/tfjs";
import { attentionBias, block, embed } from "../bert.js";
import { BackboneError } from "../errors.js";
import { batchInputs, batchSpecs, type TokenBatch } from "./batch.js";
import { keepRows } from "./compact.js";
import { observeAt } from "./observation.js";
import {
  applyHead,
  type BatchTensors,
  exitSignals,
  type ModelPlan,
  memoise,
  signalsOf,
  strategyParams,
} from "./signals.js";

/** What travels between layers besides the hidden states. */
interface Carried {
  readonly head: HostTree | undefined;
  readonly observer: HostTree | undefined;
}

type LayerResult = {
  readonly hidden: HostTensor;
  readonly values: HostTensor;
  readonly logits: HostTensor;
  readonly headCarry?: HostTree;
  readonly observerCarry?: HostTree;
};

/**
 * Compiles `model` with weights baked in.
 * @throws BackboneError `BAD_OBSERVATION` when the observer returns another number of rows or values per layer.
 */
export async function openEncoder(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  observer: Observer,
): Promise<ExitRunner<TokenBatch>> {
  const { depth } = model.shape;
  const all = withStrategy(params, observer);
  const embedding = engine.compile(
    ({ params: weights, ...batch }) =>
      embed(weights, batch as unknown as BatchTensors, { config: model.config }),
    { name: "embed", inputs: embeddingSpecs, constants: { params: pick(all, isEmbedding) } },
  );
  const layers: (CompiledFunction | undefined)[] = Array.from({ length: depth });
  let full: CompiledFunction | undefined;

  /** Compiles the program of a layer; the shapes of what it is handed are known once the layer before has run. */
  const layerProgram = (layer: number, carried: Carried): CompiledFunction => {
    const known = layers[layer - 1];
    if (known) return known;
    const compiled = compileLayer(engine, model, all, observer, layer, carried);
    layers[layer - 1] = compiled;
    return compiled;
  };

  const begin = async (batch: TokenBatch): Promise<ExitPass> => {
    const { mask, ...inputs } = batchInputs(batch);
    const hidden = await embedding.run<HostTensor>(inputs);
    return encoderPass(model.shape, batch.rows, hidden, mask, layerProgram);
  };

  const runner: ExitRunner<TokenBatch> = {
    shape: model.shape,
    async full(batch) {
      full ??= engine.compile(
        ({ params: weights, ...tensors }) =>
          fullPass(model, observer, weights, tensors as unknown as BatchTensors),
        { name: "full", inputs: batchSpecs, constants: { params: all } },
      );
      return toFullOutput(await full.run(batchInputs(batch)), batch.rows);
    },
    begin,
    async dispose() {
      await embedding.dispose();
      await full?.dispose();
      for (const layer of layers) await layer?.dispose();
    },
  };

  // Compiling now, on one short row, keeps the first request as fast as the others.
  const first = await begin(probeBatch());
  for (let layer = 1; layer <= depth; layer += 1) await first.advance();
  first.dispose();
  return runner;
}

/** A full pass whose weights are inputs: one graph serves a model while it is being trained. */
export interface FullProgram {
  run(
    params: HostParams,
    batch: TokenBatch,
  ): Promise<FullOutput & { readonly extra: ExtraSignals }>;
  dispose(): Promise<void>;
}

/** Recorded signals besides logits, by name: shape `[N, T, width]`. */
export type ExtraSignals = Readonly<
  Record<string, { readonly width: number; readonly data: Float32Array }>
>;

/** Compiles a full pass over fed weights that also returns the named signals of every layer. */
export function compileFull(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  observer: Observer,
  extra: readonly ("pooled" | "hidden" | "features")[] = [],
): FullProgram {
  const all = withStrategy(params, observer);
  const compiled = engine.compile(
    ({ params: weights, ...tensors }) =>
      fullPass(model, observer, weights, tensors as unknown as BatchTensors, extra),
    { name: "record", inputs: { ...batchSpecs, params: specsOf(all) } },
  );
  return {
    async run(weights, batch) {
      const output = await compiled.run<FullResult>({
        ...batchInputs(batch),
        params: pick(weights, (path) => path in all),
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
  extra: readonly ("pooled" | "hidden" | "features")[] = [],
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

function compileLayer(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  observer: Observer,
  layer: number,
  carried: Carried,
): CompiledFunction {
  const inputs: Record<string, SpecTree> = {
    hidden: { dtype: "float32", shape: ["batch", "length", model.config.hidden] },
    mask: batchSpecs.mask,
  };
  if (carried.head !== undefined) inputs.headCarry = rowSpecs(carried.head);
  if (carried.observer !== undefined) inputs.observerCarry = rowSpecs(carried.observer);
  return engine.compile(
    ({ params: weights, hidden: before, mask, headCarry, observerCarry }) => {
      const hidden = block(weights, layer, before, attentionBias(mask), { config: model.config });
      const memo = memoise();
      const output = () =>
        memo("head", () => applyHead(model, weights, hidden, mask, layer, headCarry));
      const now = signalsOf(output, () => hidden, memo);
      const observed = observeAt(
        observer,
        model,
        layer,
        now,
        strategyParams(weights),
        observerCarry,
      );
      const next = model.head.carries ? output().carry : undefined;
      return {
        hidden,
        values: observed.values,
        logits: observed.logits ?? now.logits,
        ...(next === undefined ? {} : { headCarry: next }),
        ...(observed.carry === undefined ? {} : { observerCarry: observed.carry }),
      };
    },
    {
      name: `layer ${layer}`,
      inputs,
      constants: { params: pick(params, belongsTo(layer)) },
    },
  );
}

function encoderPass(
  shape: ModelShape,
  rows: number,
  embedded: HostTensor,
  batchMask: HostTensor,
  layerProgram: (layer: number, carried: Carried) => CompiledFunction,
): ExitPass {
  let live = Array.from({ length: rows }, (_, row) => row);
  let layer = 0;
  let state: { hidden: HostTensor; mask: HostTensor; carried: Carried } | undefined = {
    hidden: embedded,
    mask: batchMask,
    carried: { head: undefined, observer: undefined },
  };
  return {
    get liveRows() {
      return live;
    },
    get layer() {
      return layer;
    },
    async advance(): Promise<LayerOutput> {
      if (!state)
        throw new BackboneError("DISPOSED", "pass", "the pass was disposed. Begin another.");
      if (layer === shape.depth)
        throw new BackboneError(
          "NO_MORE_LAYERS",
          "pass",
          `all ${shape.depth} layers have run. Stop at the last layer.`,
        );
      const { hidden, mask, carried } = state;
      const program = layerProgram(layer + 1, carried);
      const inputs: Record<string, HostTree> = { hidden, mask };
      if (carried.head !== undefined) inputs.headCarry = carried.head;
      if (carried.observer !== undefined) inputs.observerCarry = carried.observer;
      const output = await program.run<LayerResult & { readonly [key: string]: HostTree }>(inputs);
      layer += 1;
      if (state)
        state = {
          hidden: output.hidden,
          mask,
          carried: { head: output.headCarry, observer: output.observerCarry },
        };
      return {
        observed: output.values.data as Float32Array,
        observedWidth: output.values.shape[1] as number,
        logits: output.logits.data as Float32Array,
      };
    },
    keep(kept) {
      if (!state) return;
      const positions = positionsOf(live, kept);
      if (positions.length === live.length) return;
      state = {
        hidden: keepRows(state.hidden, positions),
        mask: keepRows(state.mask, positions),
        carried: {
          head: state.carried.head && keepRows(state.carried.head, positions),
          observer: state.carried.observer && keepRows(state.carried.observer, positions),
        },
      };
      live = positions.map((position) => live[position] as number);
    },
    dispose() {
      state = undefined;
      live = [];
    },
  };
}

/** Where the kept rows stand among the live ones. */
function positionsOf(live: readonly number[], kept: readonly number[]): number[] {
  const where = new Map(live.map((row, position) => [row, position]));
  return kept.map((row) => {
    const position = where.get(row);
    if (position === undefined)
      throw new BackboneError(
        "BAD_ROWS",
        "pass",
        `row ${row} is not live. Keep a subset of the live rows.`,
      );
    return position;
  });
}

function withStrategy(params: HostParams, observer: Observer): HostParams {
  const own = Object.entries(observer.params).map(([name, tensor]) => [`strategy.${name}`, tensor]);
  return { ...pick(params, (path) => !path.startsWith("strategy.")), ...Object.fromEntries(own) };
}

function pick(params: HostParams, wanted: (path: string) => boolean): HostParams {
  return Object.fromEntries(Object.entries(params).filter(([path]) => wanted(path)));
}

function isEmbedding(path: string): boolean {
  return path.startsWith("backbone.embeddings.");
}

/** The block of a layer (named from 0 in Hugging Face's way), its head, the pooler, and what is shared. */
function belongsTo(layer: number): (path: string) => boolean {
  const prefixes = [
    `backbone.encoder.layer.${layer - 1}.`,
    "backbone.pooler.",
    `heads.${layer}.`,
    "heads.shared.",
    "strategy.",
  ];
  return (path) => prefixes.some((prefix) => path.startsWith(prefix));
}

const embeddingSpecs = {
  ids: batchSpecs.ids,
  types: batchSpecs.types,
  positions: batchSpecs.positions,
};

/** Specs of fed parameters. */
export function specsOf(params: HostParams): Record<string, SpecTree> {
  return Object.fromEntries(
    Object.entries(params).map(([path, { dtype, shape }]) => [path, { dtype, shape }]),
  );
}

/** Specs of a carry: the first axis is the row. */
function rowSpecs(tree: HostTree): SpecTree {
  if (Array.isArray(tree)) return tree.map(rowSpecs);
  if (isLeaf(tree)) return { dtype: tree.dtype, shape: ["batch", ...tree.shape.slice(1)] };
  return Object.fromEntries(
    Object.entries(tree as Record<string, HostTree>).map(([key, value]) => [key, rowSpecs(value)]),
  );
}

function isLeaf(tree: HostTree): tree is HostTensor {
  return ArrayBuffer.isView((tree as HostTensor).data);
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

function probeBatch(): TokenBatch {
  return {
    rows: 1,
    length: 2,
    ids: new Int32Array(2),
    types: new Int32Array(2),
    mask: new Float32Array([1, 1]),
  };
}

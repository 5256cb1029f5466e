/** @file The compiled functions of pre-training: a fused step, accumulation with a separate update, and evaluation. */
import {
  adamw,
  type CompiledFunction,
  clipScale,
  decaysByDefault,
  type Engine,
  type HostParams,
  type HostTensor,
  type SpecTree,
  type TensorParams,
  valueAndGrads,
} from "@cee/engine";
import * as tf from "@tensorflow/tfjs";
import type { BertContext } from "../bert.js";
import { type MlmInputs, mlmLoss, mlmLosses, mlmSpecs, pretrainParameters } from "./mlm.js";
import type { PretrainSettings } from "./settings.js";

type Feed = Readonly<Record<keyof MlmInputs, HostTensor>>;

export interface StepResult {
  /** Mean over exits and masked places, with the pair loss's share. */
  readonly loss: number;
  /** Norm of the gradient before clipping. */
  readonly norm: number;
}

export interface PretrainProgram {
  readonly state: { readonly params: HostParams; readonly m: HostParams; readonly v: HostParams };
  /** Computes an update from the micro-batches; {@link PretrainProgram.accept} makes it the state. */
  step(
    feeds: readonly Feed[],
    at: { readonly learningRate: number; readonly step: number; readonly seed: readonly number[] },
  ): Promise<StepResult>;
  accept(): void;
  /** Losses of single predictions, without dropout. */
  evaluate(feed: Feed): Promise<{ tokens: Float32Array; pairs: Float32Array }>;
  dispose(): Promise<void>;
}

interface DeviceState {
  readonly params: TensorParams;
  readonly m: TensorParams;
  readonly v: TensorParams;
}
interface StepInputs extends DeviceState {
  readonly batch: MlmInputs;
  readonly gradients: TensorParams;
  readonly learningRate: tf.Scalar;
  readonly step: tf.Scalar;
  readonly seed: tf.Tensor1D;
}

const SCALAR = { dtype: "float32", shape: [] } as const;
const SEED = { dtype: "int32", shape: [2] } as const;

/** The state is copied; it lives in two sets of buffers that take turns. */
export function createPretrainProgram(
  engine: Engine,
  settings: PretrainSettings,
  start: { readonly params: HostParams; readonly m?: HostParams; readonly v?: HostParams },
): PretrainProgram {
  const { model } = settings;
  const specs: Record<string, SpecTree> = Object.fromEntries(
    [...pretrainParameters(model)].map(([path, shape]) => [path, { dtype: "float32", shape }]),
  );
  const state = { params: specs, m: specs, v: specs };
  const { dropout } = settings;
  const plain: BertContext = { config: model };
  const training = (seed: tf.Tensor1D): BertContext =>
    dropout === 0
      ? plain
      : {
          config: { ...model, hiddenDropout: dropout, attentionDropout: dropout },
          dropout: { seed },
        };

  const gradientsOf = ({ params, batch, seed }: StepInputs) =>
    valueAndGrads((tracked: TensorParams) => mlmLoss(tracked, batch, training(seed)), params, {
      unreached: "zero",
    });
  const update = (inputs: StepInputs, gradients: TensorParams) => {
    const clipped = clipScale(gradients, settings.clipNorm);
    const next = adamw({
      params: inputs.params,
      gradients,
      gradientScale: clipped.scale,
      state: { m: inputs.m, v: inputs.v },
      learningRate: inputs.learningRate,
      step: inputs.step,
      betas: [0.9, settings.beta2],
      eps: 1e-6,
      weightDecay: settings.weightDecay,
      // Without the pair loss these have no gradient, and decay alone would wear them away.
      decay: (path) => decaysByDefault(path) && (settings.pairWeight > 0 || !isForPairs(path)),
    });
    return { params: next.params, m: next.state.m, v: next.state.v, norm: clipped.norm };
  };

  const compiled = new Map<string, CompiledFunction>();
  const once = (name: string, make: () => CompiledFunction): CompiledFunction => {
    const known = compiled.get(name) ?? make();
    compiled.set(name, known);
    return known;
  };
  const fused = () =>
    once("step", () =>
      engine.compile(
        (inputs: StepInputs) => {
          const { loss, gradients } = gradientsOf(inputs);
          return { ...update(inputs, gradients), loss };
        },
        {
          name: "pre-training step",
          inputs: { ...state, batch: mlmSpecs, learningRate: SCALAR, step: SCALAR, seed: SEED },
        },
      ),
    );
  const accumulate = () =>
    once("accumulate", () =>
      engine.compile(
        (inputs: StepInputs) => {
          const { loss, gradients } = gradientsOf(inputs);
          const sums = Object.entries(inputs.gradients).map(
            ([path, sum]) => [path, tf.add(sum, gradients[path] as tf.Tensor)] as const,
          );
          return { gradients: Object.fromEntries(sums), loss };
        },
        {
          name: "pre-training gradients",
          inputs: { params: specs, gradients: specs, batch: mlmSpecs, seed: SEED },
        },
      ),
    );
  const apply = () =>
    once("apply", () =>
      engine.compile((inputs: StepInputs) => update(inputs, inputs.gradients), {
        name: "pre-training update",
        inputs: { ...state, gradients: specs, learningRate: SCALAR, step: SCALAR },
      }),
    );
  const evaluation = () =>
    once("evaluate", () =>
      engine.compile(({ params, batch }: StepInputs) => mlmLosses(params, batch, plain), {
        name: "pre-training evaluation",
        inputs: { params: specs, batch: mlmSpecs },
      }),
    );

  let current = {
    params: copy(start.params),
    m: start.m ? copy(start.m) : zerosLike(start.params),
    v: start.v ? copy(start.v) : zerosLike(start.params),
  };
  let spare = {
    params: zerosLike(start.params),
    m: zerosLike(start.params),
    v: zerosLike(start.params),
  };
  let sum: HostParams | undefined;
  let nextSum: HostParams | undefined;
  const loss = scalar(0);
  const norm = scalar(0);
  const seedOf = (seed: readonly number[], micro: number): HostTensor => ({
    dtype: "int32",
    shape: [2],
    data: Int32Array.from([seed[0] as number, ((seed[1] as number) * 64 + micro) | 0]),
  });

  return {
    get state() {
      return current;
    },
    async step(feeds, { learningRate, step, seed }) {
      const schedule = { learningRate: scalar(learningRate), step: scalar(step) };
      const [only] = feeds;
      if (feeds.length === 1 && only) {
        await fused().run(
          { ...current, batch: only, ...schedule, seed: seedOf(seed, 0) },
          { into: { ...spare, norm, loss } },
        );
        return { loss: loss.data[0] as number, norm: norm.data[0] as number };
      }
      sum ??= zerosLike(current.params);
      nextSum ??= zerosLike(current.params);
      for (const { data } of Object.values(sum)) data.fill(0);
      let total = 0;
      for (const [micro, batch] of feeds.entries()) {
        const gradients: HostParams = sum;
        await accumulate().run(
          { params: current.params, gradients, batch, seed: seedOf(seed, micro) },
          { into: { gradients: nextSum, loss } },
        );
        total += loss.data[0] as number;
        [sum, nextSum] = [nextSum, gradients];
      }
      await apply().run({ ...current, gradients: sum, ...schedule }, { into: { ...spare, norm } });
      return { loss: total, norm: norm.data[0] as number };
    },
    accept() {
      [current, spare] = [spare, current];
    },
    async evaluate(batch) {
      const { tokens, pairs } = await evaluation().run<{
        readonly tokens: HostTensor;
        readonly pairs: HostTensor;
      }>({ params: current.params, batch });
      return { tokens: tokens.data as Float32Array, pairs: pairs.data as Float32Array };
    },
    async dispose() {
      for (const fn of compiled.values()) await fn.dispose();
    },
  };
}

function isForPairs(path: string): boolean {
  return path.startsWith("backbone.pooler.") || path.startsWith("mlm.pair.");
}

function scalar(value: number): HostTensor {
  return { dtype: "float32", shape: [], data: Float32Array.of(value) };
}

function copy(params: HostParams): HostParams {
  return map(params, (data) => data.slice());
}

function zerosLike(params: HostParams): HostParams {
  return map(params, (data) => new Float32Array(data.length));
}

function map(
  params: HostParams,
  change: (data: HostTensor["data"]) => HostTensor["data"],
): HostParams {
  return Object.fromEntries(
    Object.entries(params).map(([path, t]) => [path, { ...t, data: change(t.data) }]),
  );
}

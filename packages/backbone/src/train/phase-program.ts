/**
 * @file One optimiser step of a training phase as compiled functions.
 *
 * Shapes: B = rows, S = length, T = layers, H = hidden size, C = classes, K = side values per row.
 */
import {
  adamw,
  type CompiledFunction,
  clipScale,
  dropout,
  type Engine,
  type HostParams,
  type SpecTree,
  type TensorParams,
  valueAndGrads,
} from "@cee/engine";
import type { PhaseLoss, Signals, TrainingPhase, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { BackboneError } from "../errors.js";
import { batchSpecs } from "../runner/batch.js";
import { specsOf } from "../runner/open.js";
import {
  type BatchTensors,
  exitSignals,
  type ModelPlan,
  memoise,
  strategyParams,
} from "../runner/signals.js";

/** Signals that a record phase may read, besides logits. */
export type RecordedSignal = "pooled" | "hidden" | "features";

export interface PhaseProgram {
  /** The fused step: loss, gradients, clipping, AdamW. */
  step(loss: string): CompiledFunction;
  /** Loss and gradients added to what was accumulated so far. */
  accumulate(loss: string): CompiledFunction;
  /** Clipping and AdamW on accumulated gradients. */
  apply(): CompiledFunction;
  dispose(): Promise<void>;
}

interface StepInputs {
  readonly trained: TensorParams;
  readonly frozen: TensorParams;
  readonly m: TensorParams;
  readonly v: TensorParams;
  readonly gradients: TensorParams;
  readonly batch: Readonly<Record<string, tf.Tensor>>;
  readonly labels: tf.Tensor1D;
  readonly side?: tf.Tensor2D;
  readonly scalars: Readonly<
    Record<"learningRate" | "adamStep" | "perRow" | "progress" | "step", tf.Scalar>
  >;
  readonly seed: tf.Tensor1D;
}

const scalar = { dtype: "float32", shape: [] } as const;
const scalarSpecs = {
  learningRate: scalar,
  adamStep: scalar,
  perRow: scalar,
  progress: scalar,
  step: scalar,
};

/** Head dropout sites lie above every site of the encoder. */
const HEAD_SITE = 1 << 20;

/** Declares the compiled functions of a phase; each is traced when it is first asked for. */
export function createPhaseProgram(
  engine: Engine,
  model: ModelPlan,
  phase: TrainingPhase,
  trained: HostParams,
  frozen: HostParams,
  options: { readonly sideWidth: number | undefined; readonly recorded: readonly RecordedSignal[] },
): PhaseProgram {
  const fromRecord = phase.source === "record";
  const dataSpecs: Record<string, SpecTree> = fromRecord
    ? recordSpecs(model, options.recorded)
    : { ...batchSpecs };
  const common: Record<string, SpecTree> = {
    trained: specsOf(trained),
    frozen: specsOf(frozen),
    batch: dataSpecs,
    labels: { dtype: "float32", shape: ["batch"] },
    scalars: scalarSpecs,
    seed: { dtype: "int32", shape: [2] },
  };
  if (options.sideWidth !== undefined)
    common.side = { dtype: "float32", shape: ["batch", options.sideWidth] };

  const signals = (params: TensorParams, inputs: StepInputs): readonly Signals[] => {
    if (fromRecord) return recordedSignals(model, inputs.batch, options.recorded);
    const batch = inputs.batch as unknown as BatchTensors;
    const rate = model.config.hiddenDropout;
    if (phase.dropout === false || (rate === 0 && model.config.attentionDropout === 0))
      return exitSignals(model, params, batch);
    return exitSignals(model, params, batch, { seed: inputs.seed }, (layer) => {
      let call = 0;
      return (x) => {
        call += 1;
        return dropout(x, { rate, seed: inputs.seed, site: HEAD_SITE + layer * 16 + call });
      };
    });
  };

  /** Loss and gradients of one named loss, or of all of them combined. */
  const gradientsOf = (name: string, inputs: StepInputs) => {
    const evaluate = (loss: PhaseLoss) =>
      valueAndGrads(
        (params) => {
          const all = { ...inputs.frozen, ...params };
          return loss(trainingStep(model, signals(all, inputs), all, inputs));
        },
        inputs.trained,
        { unreached: "zero" },
      );
    if (!phase.combine) return evaluate(lossOf(phase, name));
    const parts = Object.entries(phase.losses).map(
      ([part, loss]) => [part, evaluate(loss)] as const,
    );
    return {
      loss: parts.map(([, part]) => part.loss).reduce((a, b) => tf.add(a, b)),
      gradients: phase.combine(
        Object.fromEntries(parts.map(([part, { gradients }]) => [part, gradients])),
      ),
    };
  };

  const update = (inputs: StepInputs, gradients: TensorParams) => {
    const clipped = clipScale(gradients, phase.clipNorm ?? 1);
    const next = adamw({
      params: inputs.trained,
      gradients,
      gradientScale: clipped.scale,
      state: { m: inputs.m, v: inputs.v },
      learningRate: inputs.scalars.learningRate,
      step: inputs.scalars.adamStep,
      weightDecay: phase.weightDecay ?? 0,
    });
    return { trained: next.params, m: next.state.m, v: next.state.v, norm: clipped.norm };
  };

  const compiled = new Map<string, CompiledFunction>();
  const once = (key: string, make: () => CompiledFunction): CompiledFunction => {
    let known = compiled.get(key);
    if (!known) {
      known = make();
      compiled.set(key, known);
    }
    return known;
  };
  const moments = { m: specsOf(trained), v: specsOf(trained) };

  return {
    step: (loss) =>
      once(`step.${loss}`, () =>
        engine.compile(
          (inputs: StepInputs) => {
            const result = gradientsOf(loss, inputs);
            return { ...update(inputs, result.gradients), loss: result.loss };
          },
          { name: `${phase.name}: ${loss}`, inputs: { ...common, ...moments } },
        ),
      ),
    accumulate: (loss) =>
      once(`accumulate.${loss}`, () =>
        engine.compile(
          (inputs: StepInputs) => {
            const result = gradientsOf(loss, inputs);
            return {
              gradients: Object.fromEntries(
                Object.entries(inputs.gradients).map(([path, sum]) => [
                  path,
                  tf.add(sum, result.gradients[path] as tf.Tensor),
                ]),
              ),
              loss: result.loss,
            };
          },
          {
            name: `${phase.name}: ${loss}, gradients`,
            inputs: { ...common, gradients: specsOf(trained) },
          },
        ),
      ),
    apply: () =>
      once("apply", () =>
        engine.compile((inputs: StepInputs) => update(inputs, inputs.gradients), {
          name: `${phase.name}: update`,
          inputs: {
            trained: specsOf(trained),
            gradients: specsOf(trained),
            scalars: scalarSpecs,
            ...moments,
          },
        }),
      ),
    async dispose() {
      for (const fn of compiled.values()) await fn.dispose();
    },
  };
}

function trainingStep(
  model: ModelPlan,
  exits: readonly Signals[],
  params: TensorParams,
  inputs: StepInputs,
): TrainingStep {
  return {
    shape: model.shape,
    exits,
    labels: inputs.labels,
    params: strategyParams(params),
    side: inputs.side,
    perRow: inputs.scalars.perRow,
    progress: inputs.scalars.progress,
    step: inputs.scalars.step,
    seed: inputs.seed,
  };
}

function lossOf(phase: TrainingPhase, name: string): PhaseLoss {
  const loss = phase.losses[name];
  if (!loss)
    throw new BackboneError(
      "BAD_PHASE",
      phase.name,
      `pick() asked for the loss "${name}", which the phase does not have. It has: ${Object.keys(phase.losses).join(", ")}.`,
    );
  return loss;
}

function recordSpecs(
  model: ModelPlan,
  recorded: readonly RecordedSignal[],
): Record<string, SpecTree> {
  const { depth, classes, hidden } = model.shape;
  const specs: Record<string, SpecTree> = {
    logits: { dtype: "float32", shape: ["batch", depth, classes] },
  };
  for (const name of recorded) specs[name] = { dtype: "float32", shape: ["batch", depth, hidden] };
  return specs;
}

function recordedSignals(
  model: ModelPlan,
  batch: Readonly<Record<string, tf.Tensor>>,
  recorded: readonly RecordedSignal[],
): readonly Signals[] {
  return Array.from({ length: model.shape.depth }, (_, index) => {
    const memo = memoise();
    const layer = (name: string) => {
      const all = batch[name];
      if (!all)
        throw new BackboneError(
          "BAD_PHASE",
          "record",
          `the loss reads "${name}", which was not recorded (${["logits", ...recorded].join(", ")}). Name it in the strategy's needs.`,
        );
      return memo(
        name,
        () => tf.squeeze<tf.Tensor2D>(tf.gather(all, tf.tensor1d([index], "int32"), 1), [1]), // [B, H]
      );
    };
    return {
      get logits() {
        return layer("logits");
      },
      get probs() {
        return memo("probs", () => tf.softmax(layer("logits")));
      },
      get pooled() {
        return layer("pooled");
      },
      get hidden() {
        return layer("hidden");
      },
      get features() {
        return layer("features");
      },
    };
  });
}

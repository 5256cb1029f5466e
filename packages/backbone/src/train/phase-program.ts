/**
 * @file One optimiser step of a training phase as compiled functions.
 *
 * Shapes: B = rows, S = length, T = layers, H = hidden size, C = classes, K = side values per row.
 */
import {
  adamw,
  type CompiledFunction,
  clipScale,
  type Engine,
  type HostParams,
  type SpecTree,
  type TensorParams,
  valueAndGrads,
} from "@cee/engine";
import type { PhaseLoss, Signals, TrainingPhase, TrainingStep } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { BackboneError } from "../errors.js";
import { compileClearly } from "../runner/compile.js";
import { type RecordedSignal, specsOf } from "../runner/open.js";
import { memoise, strategyParams } from "../runner/signals.js";
import { callHook } from "./phase-check.js";
import type { TrainingSubject } from "./subject.js";

/** What a record phase reads: values per row and layer of each recorded signal. */
export type RecordedWidths = Readonly<Partial<Record<RecordedSignal, number>>>;

export interface PhaseProgram {
  /** The fused step: loss, gradients, clipping, AdamW. */
  step(loss: string): CompiledFunction;
  /** Names under which the gradients of a step are accumulated: those of the losses that `combine` takes, or one. */
  readonly parts: readonly string[];
  /** Loss, and gradients added to what was accumulated so far. */
  accumulate(loss: string): CompiledFunction;
  /** Combination, clipping and AdamW on accumulated gradients. */
  apply(): CompiledFunction;
  dispose(): Promise<void>;
}

type Gradients = Readonly<Record<string, TensorParams>>;

/** What of a model the traced programs need, whatever its texts are. */
type Subject = Pick<
  TrainingSubject<never>,
  "shape" | "inputs" | "rowAxis" | "signals" | "signalsOfStates" | "tokens"
>;

interface StepInputs {
  readonly trained: TensorParams;
  readonly frozen: TensorParams;
  readonly m: TensorParams;
  readonly v: TensorParams;
  readonly gradients: Gradients;
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

/** Declares the compiled functions of a phase; each is traced when it is first asked for. */
export function createPhaseProgram(
  engine: Engine,
  subject: Subject,
  phase: TrainingPhase,
  trained: HostParams,
  frozen: HostParams,
  options: { readonly sideWidth: number | undefined; readonly recorded: RecordedWidths },
): PhaseProgram {
  const fromRecord = phase.source === "record";
  const trainsHeads = Object.keys(trained).some(isOfHead);
  const parts = phase.combine ? Object.keys(phase.losses) : ["loss"];
  const dataSpecs: Record<string, SpecTree> = fromRecord
    ? recordSpecs(subject, options.recorded)
    : { ...subject.inputs };
  const axis = fromRecord ? "batch" : subject.rowAxis;
  const common: Record<string, SpecTree> = {
    trained: specsOf(trained),
    frozen: specsOf(frozen),
    batch: dataSpecs,
    labels: { dtype: "float32", shape: [axis] },
    scalars: scalarSpecs,
    seed: { dtype: "int32", shape: [2] },
  };
  if (options.sideWidth !== undefined)
    common.side = { dtype: "float32", shape: [axis, options.sideWidth] };

  const signals = (params: TensorParams, inputs: StepInputs): readonly Signals[] => {
    if (fromRecord && trainsHeads)
      return subject.signalsOfStates(params, inputs.batch.hidden as tf.Tensor3D);
    if (fromRecord) return recordedSignals(subject, inputs.batch);
    return subject.signals(params, inputs.batch, phase.dropout === false ? undefined : inputs.seed);
  };

  /** Loss and gradients of one named loss, or of all of them apart. */
  const gradientsOf = (name: string, inputs: StepInputs) => {
    const evaluate = (loss: string) =>
      valueAndGrads(
        (params) => {
          const all = { ...inputs.frozen, ...params };
          return evaluateLoss(
            phase,
            loss,
            trainingStep(subject, signals(all, inputs), all, inputs, fromRecord),
          );
        },
        inputs.trained,
        { unreached: "zero" },
      );
    const evaluated = (phase.combine ? parts : [name]).map(evaluate);
    return {
      loss: evaluated.map(({ loss }) => loss).reduce((a, b) => tf.add(a, b)),
      gradients: Object.fromEntries(
        evaluated.map(({ gradients }, index) => [parts[index] as string, gradients]),
      ),
    };
  };

  const update = (inputs: StepInputs, separate: Gradients) => {
    const gradients = combine(phase, separate, Object.keys(trained));
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

  const sums = Object.fromEntries(parts.map((part) => [part, specsOf(trained)]));

  return {
    parts,
    step: (loss) =>
      once(`step.${loss}`, () =>
        compileClearly(
          engine,
          (inputs: StepInputs) => {
            const result = gradientsOf(loss, inputs);
            return { ...update(inputs, result.gradients), loss: result.loss };
          },
          { name: `${phase.name}: ${loss}`, inputs: { ...common, ...moments } },
        ),
      ),
    accumulate: (loss) =>
      once(`accumulate.${loss}`, () =>
        compileClearly(
          engine,
          (inputs: StepInputs) => {
            const result = gradientsOf(loss, inputs);
            return {
              gradients: Object.fromEntries(
                Object.entries(inputs.gradients).map(([part, sum]) => [
                  part,
                  addAll(sum, result.gradients[part] as TensorParams),
                ]),
              ),
              loss: result.loss,
            };
          },
          {
            name: `${phase.name}: ${loss}, gradients`,
            inputs: { ...common, gradients: sums },
          },
        ),
      ),
    apply: () =>
      once("apply", () =>
        compileClearly(engine, (inputs: StepInputs) => update(inputs, inputs.gradients), {
          name: `${phase.name}: update`,
          inputs: {
            trained: specsOf(trained),
            gradients: sums,
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

/** Whether a parameter belongs to an exit head. */
export function isOfHead(path: string): boolean {
  return path.startsWith("heads.");
}

function trainingStep(
  { shape, tokens }: Subject,
  exits: readonly Signals[],
  params: TensorParams,
  inputs: StepInputs,
  fromRecord: boolean,
): TrainingStep {
  return {
    ...(fromRecord ? {} : { weights: params }),
    ...(fromRecord || !tokens ? {} : { tokens: tokens(inputs.batch) }),
    shape,
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

function evaluateLoss(phase: TrainingPhase, name: string, step: TrainingStep): tf.Scalar {
  const loss = phase.losses[name] as PhaseLoss;
  return callHook(phase, `the loss "${name}"`, () => loss(step));
}

/** The gradients to apply, of exactly the trained parameters. */
function combine(
  phase: TrainingPhase,
  gradients: Gradients,
  paths: readonly string[],
): TensorParams {
  if (!phase.combine) return Object.values(gradients)[0] as TensorParams;
  const combined = callHook(phase, "combine()", () => phase.combine?.(gradients) as TensorParams);
  const missing = paths.filter((path) => !combined[path]);
  if (missing.length > 0)
    throw new BackboneError(
      "BAD_PHASE",
      phase.name,
      `combine() must return a gradient for every trained parameter, got none for ${missing.slice(0, 3).join(", ")}. Return all of them, zeros where nothing is to change.`,
    );
  return Object.fromEntries(paths.map((path) => [path, combined[path] as tf.Tensor]));
}

function addAll(a: TensorParams, b: TensorParams): TensorParams {
  return Object.fromEntries(
    Object.entries(a).map(([path, tensor]) => [path, tf.add(tensor, b[path] as tf.Tensor)]),
  );
}

function recordSpecs(
  { shape }: Pick<Subject, "shape">,
  recorded: RecordedWidths,
): Record<string, SpecTree> {
  return Object.fromEntries(
    Object.entries(recorded).map(([name, width]) => [
      name,
      { dtype: "float32", shape: ["batch", shape.depth, width] } as const,
    ]),
  );
}

function recordedSignals(
  { shape }: Pick<Subject, "shape">,
  batch: Readonly<Record<string, tf.Tensor>>,
): readonly Signals[] {
  return Array.from({ length: shape.depth }, (_, index) => {
    const memo = memoise();
    const layer = (name: string) => {
      const all = batch[name];
      if (!all)
        throw new BackboneError(
          "BAD_PHASE",
          "record",
          `the loss reads "${name}", which was not recorded (${Object.keys(batch).join(", ")}). Name it in the strategy's needs.`,
        );
      return memo(
        name,
        () => tf.squeeze<tf.Tensor2D>(tf.gather(all, tf.tensor1d([index], "int32"), 1), [1]), // [B, width]
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

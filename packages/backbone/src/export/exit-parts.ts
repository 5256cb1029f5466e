/**
 * @file Traces an encoder layer by layer, each with its exit's decision, for assembly into one graph.
 *
 * B = live rows, S = length, H = hidden size, C = classes, K = values per row.
 */
import {
  type HostParams,
  type OnnxPart,
  type SpecTree,
  type TensorTree,
  traceOnnx,
} from "@cee/engine";
import type { ExitStrategy, Observer } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import { attentionBias, embed } from "../bert.js";
import { BackboneError } from "../errors.js";
import { batchSpecs } from "../runner/batch.js";
import { clearly } from "../runner/compile.js";
import {
  belongsTo,
  isEmbedding,
  type LayerTensors,
  layerStep,
  pickParams,
  withStrategy,
} from "../runner/layer.js";
import type { BatchTensors, ModelPlan } from "../runner/signals.js";

/** `one` row per run, its size baked in, or any number of rows, which leave at their own layers. */
export type ExportRows = "one" | "many";

export interface ExitParts {
  readonly embedding: OnnxPart;
  /**
   * First layer first. Inputs: `hidden`, `mask`, `bias`, `knob`, and from layer 2 on what the layer before hands on under
   * `state`, `headCarry` and `observerCarry`. Outputs: the same, `logits`, and before the last layer `exit`.
   */
  readonly layers: readonly OnnxPart[];
  /** From `logits` to `prediction`. */
  readonly answer: OnnxPart;
}

type RowState = Readonly<Record<string, tf.Tensor1D>>;
/** Beside what the strategy keeps of a row: at how many exits its numbers were finite. */
export const FINITE = "finite";

/**
 * Traces every part.
 * @throws BackboneError `NOT_EXPORTABLE` when the strategy cannot decide inside a graph
 */
export function traceExits(
  model: ModelPlan,
  params: HostParams,
  strategy: ExitStrategy,
  observer: Observer,
  rows: ExportRows,
): ExitParts {
  checkExportable(model, strategy);
  const { shape, config } = model;
  const all = withStrategy(params, observer);
  const B = rows === "one" ? 1 : "batch";
  const embedding = traceOnnx(
    ({ params: weights, ...batch }) => {
      const tensors = batch as unknown as BatchTensors;
      return {
        hidden: embed(weights, tensors, { config }),
        // Once and not at every layer: short operations are what exits cost at small widths.
        bias: attentionBias(tensors.mask),
      };
    },
    {
      name: "embeddings",
      inputs: {
        ids: { dtype: "int32", shape: [B, "length"] },
        types: { dtype: "int32", shape: [B, "length"] },
        mask: { dtype: "float32", shape: [B, "length"] },
        positions: batchSpecs.positions,
      },
      constants: { params: pickParams(all, isEmbedding) },
    },
  );
  const layers: OnnxPart[] = [];
  let handedOn: Readonly<Record<string, SpecTree>> = {};
  for (let layer = 1; layer <= shape.depth; layer += 1) {
    const inputs = {
      hidden: { dtype: "float32", shape: [B, "length", config.hidden] },
      mask: { dtype: "float32", shape: [B, "length"] },
      bias: { dtype: "float32", shape: [B, 1, 1, "length"] },
      knob: { dtype: "float32", shape: [] },
      ...handedOn,
    } as const;
    const part = clearly(() =>
      traceOnnx(
        (tensors) => exitStep(model, strategy, observer, layer, tensors) as unknown as TensorTree,
        {
          name: `layer${layer}`,
          inputs,
          constants: { params: pickParams(all, belongsTo(layer)) },
        },
      ),
    );
    layers.push(part);
    const outputs = part.outputSpecs as Readonly<Record<string, SpecTree>>;
    handedOn = Object.fromEntries(
      HANDED_ON.flatMap((key) => (outputs[key] ? [[key, outputs[key]]] : [])),
    );
  }
  const answer = traceOnnx(
    ({ logits }: { logits: tf.Tensor2D }) => ({ prediction: predict(model, logits) }),
    { name: "answer", inputs: { logits: { dtype: "float32", shape: [B, shape.classes] } } },
  );
  return { embedding, layers, answer };
}

/** Outputs of a layer that are inputs of the next, beside `hidden`. */
export const HANDED_ON = ["state", "headCarry", "observerCarry"] as const;

/** @throws BackboneError `NOT_EXPORTABLE` */
export function checkExportable({ shape }: ModelPlan, { name, definition }: ExitStrategy): void {
  const tasks: readonly string[] = definition.tasks;
  const refuse = (what: string): never => {
    throw new BackboneError("NOT_EXPORTABLE", name, what);
  };
  if (!tasks.includes(shape.task))
    refuse(
      `is made for ${tasks.join(" and ")}, got a model for ${shape.task}. Choose another strategy.`,
    );
  if (!definition.decideTensor)
    refuse(
      "decides on the host alone and can't be exported. Give the strategy a decideTensor, or run it with the library.",
    );
}

type StepTensors = LayerTensors & {
  readonly knob: tf.Scalar;
  readonly state?: RowState;
};

/** A layer and what the strategy decides there. */
function exitStep(
  model: ModelPlan,
  strategy: ExitStrategy,
  observer: Observer,
  layer: number,
  { knob, state: given, ...tensors }: StepTensors,
) {
  const { depth, task } = model.shape;
  const { definition } = strategy;
  const step = layerStep(model, observer, layer, tensors);
  const { values, logits, ...rest } = step;
  const state: RowState = given ?? startState(strategy, values);
  const sound = areFinite(tf.concat([values, logits], 1)); // [B]
  const count = tf.add<tf.Tensor1D>(state[FINITE] as tf.Tensor1D, tf.cast(sound, "float32"));
  if (layer === depth) return { logits, state: { [FINITE]: count } };
  const { [FINITE]: _, ...own } = state;
  const verdict = definition.decideTensor?.(values, own, {
    site: { layer, depth, task },
    options: optionTensors(strategy, knob),
  }) as { readonly exit: tf.Tensor1D; readonly state: RowState };
  // As the host does: a number that is not finite lets no row go and changes no state.
  const next = Object.fromEntries(
    Object.entries(own).map(([key, before]) => [
      key,
      tf.where(sound, verdict.state[key] as tf.Tensor1D, before),
    ]),
  );
  return {
    ...rest,
    logits,
    exit: tf.logicalAnd(verdict.exit, sound),
    state: { ...next, [FINITE]: count },
  };
}

/** The state of rows that no exit has seen, each entry `[B]`. */
function startState({ definition }: ExitStrategy, values: tf.Tensor2D): RowState {
  const [B] = values.shape;
  const start = { ...(definition.start() as Readonly<Record<string, number>>), [FINITE]: 0 };
  return Object.fromEntries(
    Object.entries(start).map(([key, value]) => [key, tf.fill([B], value) as tf.Tensor1D]),
  );
}

/** Whether all of a row's numbers are finite, bool `[B]`. */
function areFinite(numbers: tf.Tensor2D): tf.Tensor1D {
  // 0 times a number that is not finite is NaN, and NaN equals nothing.
  return tf.equal<tf.Tensor1D>(tf.sum(tf.mul(numbers, 0), 1), 0);
}

/** Options as `decideTensor` takes them: numbers, the knob an input of the graph; others are not for tensors. */
function optionTensors(
  { options, definition }: ExitStrategy,
  knob: tf.Scalar,
): Readonly<Record<string, tf.Tensor>> {
  const tensors = Object.entries(options).flatMap(([option, value]) => {
    const isNumbers = Array.isArray(value) && value.every((entry) => typeof entry === "number");
    return typeof value === "number" || isNumbers
      ? [[option, tf.tensor(value as number | number[], undefined, "float32")] as const]
      : [];
  });
  const dial = definition.knob ? { [definition.knob.option]: knob } : {};
  return { ...Object.fromEntries(tensors), ...dial };
}

/** The class (-1 where a logit is NaN) as int32 or the value as float32, `[B]`. */
function predict({ shape }: ModelPlan, logits: tf.Tensor2D): tf.Tensor1D {
  if (shape.task === "regression") return tf.squeeze<tf.Tensor1D>(logits, [1]);
  const isNumber = tf.equal(tf.sum(tf.cast(tf.notEqual(logits, logits), "float32"), 1), 0);
  const best = tf.argMax<tf.Tensor1D>(logits, 1);
  const none = tf.sub<tf.Tensor1D>(tf.zerosLike(best), tf.scalar(1, "int32"));
  return tf.where(isNumber, best, none) as tf.Tensor1D;
}

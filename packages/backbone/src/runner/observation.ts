/** @file Normalises what `observe` returns. B = rows, K = values per row, C = classes. */
import type { Carry, Observation, Observer, Signals } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import type { ModelPlan } from "./signals.js";

export interface PlainObservation {
  /** Shape `[B, K]`. */
  readonly values: tf.Tensor2D;
  readonly logits: tf.Tensor2D | undefined;
  readonly carry: Carry | undefined;
}

/** Calls the observer at one layer. */
export function observeAt(
  observer: Observer,
  model: Pick<ModelPlan, "shape">,
  layer: number,
  signals: Signals,
  params: Readonly<Record<string, tf.Tensor>>,
  carry: Carry | undefined,
): PlainObservation {
  const site = { layer, depth: model.shape.depth, task: model.shape.task };
  const observation = observer.observe(signals, { site, params, carry });
  const plain = isTensor(observation) ? { values: observation } : observation;
  const values = plain.values.rank === 1 ? tf.expandDims(plain.values, 1) : plain.values; // [B, K]
  return {
    values: values as tf.Tensor2D,
    logits: "logits" in plain ? plain.logits : undefined,
    carry: "carry" in plain ? plain.carry : undefined,
  };
}

function isTensor(observation: Observation): observation is tf.Tensor1D | tf.Tensor2D {
  return observation instanceof tf.Tensor;
}

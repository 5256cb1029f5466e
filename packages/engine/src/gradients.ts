/** @file Losses and gradients by parameter path, through TensorFlow.js's tape: traced or eager alike. */
import * as tf from "@tensorflow/tfjs";
import { EngineError } from "./errors.js";
import type { TensorParams, TensorTree } from "./types.js";

export interface ValueAndGradsOptions {
  /**
   * What becomes of parameters that the loss does not depend on: zeros, left out, or an error.
   * @default "zero"
   */
  readonly unreached?: "zero" | "omit" | "error";
}

export interface ValueAndGrads {
  readonly loss: tf.Scalar;
  /** What the function returned beside the loss. */
  readonly aux: TensorTree | undefined;
  readonly gradients: TensorParams;
}

/**
 * Evaluates a loss and its gradients.
 * @throws EngineError `BAD_INPUT` for a loss that is no scalar, or an unreached parameter under `unreached: "error"`
 */
export function valueAndGrads(
  fn: (params: TensorParams) => tf.Scalar | { readonly loss: tf.Scalar; readonly aux: TensorTree },
  params: TensorParams,
  { unreached = "zero" }: ValueAndGradsOptions = {},
): ValueAndGrads {
  const paths = Object.keys(params);
  const xs = paths.map((path) => params[path] as tf.Tensor);
  let aux: TensorTree | undefined;
  const { value, grads } = tf.engine().gradients(
    () => {
      const result = fn(params);
      const loss = result instanceof tf.Tensor ? result : result.loss;
      if (!(result instanceof tf.Tensor)) aux = keepAll(result.aux);
      if (loss.rank !== 0)
        throw new EngineError(
          "BAD_INPUT",
          `[valueAndGrads] the loss must be a scalar, got shape [${loss.shape.join(", ")}]. Sum it.`,
        );
      return loss;
    },
    xs,
    undefined,
    true,
  );
  if (aux !== undefined) release(aux);
  const gradients: Record<string, tf.Tensor> = {};
  const missing: string[] = [];
  paths.forEach((path, index) => {
    const gradient = grads[index];
    if (gradient) gradients[path] = gradient;
    else if (unreached === "zero") gradients[path] = tf.zerosLike(xs[index] as tf.Tensor);
    else if (unreached === "error") missing.push(path);
  });
  if (missing.length > 0)
    throw new EngineError(
      "BAD_INPUT",
      `[valueAndGrads] the loss does not depend on ${missing.join(", ")}. Leave them out, or allow unreached parameters.`,
    );
  return { loss: value as tf.Scalar, aux, gradients };
}

/** The tape tidies what the loss function leaves behind; auxiliary results must outlive it. */
function keepAll(tree: TensorTree): TensorTree {
  if (tree instanceof tf.Tensor) return tf.keep(tf.clone(tree));
  if (Array.isArray(tree)) return tree.map((child) => keepAll(child as TensorTree));
  return Object.fromEntries(
    Object.entries(tree as Record<string, TensorTree>).map(([key, child]) => [key, keepAll(child)]),
  );
}

/** Hands kept tensors to the scope that called, which disposes of them like any other. */
function release(tree: TensorTree): void {
  if (tree instanceof tf.Tensor) {
    Object.assign(tree, { kept: false });
    (tf.engine() as unknown as { track(tensor: tf.Tensor): void }).track(tree);
    return;
  }
  for (const child of Object.values(tree as Record<string, TensorTree>)) release(child);
}

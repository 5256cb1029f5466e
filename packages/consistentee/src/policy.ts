/**
 * @file The policy network: at each layer a two-layer perceptron on the pooled state gives the logit of "exit here".
 *
 * The policy of the last layer is dropped: every row that reaches it exits, so it could change neither an answer nor a
 * cost, and its gradient has expectation zero.
 * B = rows, H = hidden size, P = width of the policy, L = depth.
 */
import { createRng, gelu, type HostParams, initConstant, initNormal, linear } from "@cee/engine";
import type { ModelShape } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";

type Parameters = Readonly<Record<string, tf.Tensor>>;

/** Initial standard deviation of every weight, as in BERT. */
const INIT_STD = 0.02;

/** Creates the policies of layers 1 to L - 1: weights normal with deviation 0.02, biases zero. */
export function policyParams(shape: ModelShape, width: number, seed: number): HostParams {
  const root = createRng(seed).fork("consistentee.policy");
  const params: Record<string, HostParams[string]> = {};
  for (let layer = 1; layer < shape.depth; layer += 1) {
    const rng = root.fork(`${layer}`);
    params[`policy.${layer}.hidden.weight`] = initNormal([width, shape.hidden], INIT_STD, rng);
    params[`policy.${layer}.hidden.bias`] = initConstant([width], 0);
    params[`policy.${layer}.output.weight`] = initNormal([1, width], INIT_STD, rng);
    params[`policy.${layer}.output.bias`] = initConstant([1], 0);
  }
  return params;
}

/** Logit of the probability to exit at `layer` (below the last), shape `[B]`. */
export function policyLogit(params: Parameters, layer: number, pooled: tf.Tensor2D): tf.Tensor1D {
  return tf.tidy(() => {
    const at = (name: string) => params[`policy.${layer}.${name}`] as tf.Tensor;
    const inner = gelu(linear(pooled, at("hidden.weight"), at("hidden.bias"))); // [B, P]
    return tf.squeeze<tf.Tensor1D>(linear(inner, at("output.weight"), at("output.bias")), [1]); // [B]
  });
}

/** Logits of layers 1 to L - 1, shape `[B, L - 1]`, from the pooled state of each layer, first layer first. */
export function policyLogits(params: Parameters, pooled: readonly tf.Tensor2D[]): tf.Tensor2D {
  return tf.tidy(
    () =>
      tf.stack(
        pooled.map((state, index) => policyLogit(params, index + 1, state)),
        1,
      ) as tf.Tensor2D,
  );
}

/** ln(p / (1 - p)), rounded to float32 at every operation, so that a graph decides alike. */
export function logitOf(probability: number): number {
  const p = Math.fround(probability);
  return Math.fround(Math.log(Math.fround(p / Math.fround(1 - p))));
}

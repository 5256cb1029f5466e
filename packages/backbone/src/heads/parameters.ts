/** @file Fresh parameters of a head, and their look-up. I, O = features in and out. */
import type { HostParams } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { normal, zeros } from "../init.js";

/** BERT's initialisation of a linear layer: weights from N(0, 0.02), biases 0; each drawn from its own stream. */
export function freshLinear(
  path: string,
  name: string,
  inputs: number,
  outputs: number,
  seed: number,
): HostParams {
  return {
    [`${name}.weight`]: normal([outputs, inputs], 0.02, seed, `${path}.${name}.weight`),
    [`${name}.bias`]: zeros([outputs]),
  };
}

/** @throws BackboneError `MISSING_TENSOR` */
export function headTensor<T>(
  params: Readonly<Record<string, T>>,
  name: string,
  head: { readonly name: string },
  layer: number,
): T {
  const tensor = params[name];
  if (tensor) return tensor;
  throw new BackboneError(
    "MISSING_TENSOR",
    `heads.${layer}.${name}`,
    `is needed by the exit head "${head.name}", got ${Object.keys(params).join(", ") || "no parameters"}. Load the model with the head it was trained with.`,
  );
}

/**
 * @file DeeBERT's exit head ("highway"): a pooler of its own at every layer, dropout and a linear classifier.
 *
 * Shapes: B = rows, H = hidden size, C = classes.
 */
import type { HostParams } from "@cee/engine";
import type { Tensor2D } from "@tensorflow/tfjs";
import * as tf from "@tensorflow/tfjs";
import { firstToken } from "../bert.js";
import { linear as dense } from "../ops.js";
import { freshLinear, headTensor } from "./parameters.js";
import type { BackboneHead } from "./registry.js";

/** Makes the head; `pooler: "copy"` starts every pooler as a copy of the backbone's, as DeeBERT does. */
export function createHighway({ pooler }: { readonly pooler: "copy" | "fresh" }): BackboneHead {
  const head: BackboneHead = {
    name: "highway",
    readsFirstToken: true,
    params: ({ hidden, classes }, layer, seed) => ({
      ...freshLinear(`heads.${layer}`, "pooler", hidden, hidden, seed),
      ...freshLinear(`heads.${layer}`, "classifier", hidden, classes, seed),
    }),
    apply(params, input) {
      const tensor = (name: string) => headTensor(params, name, head, input.layer);
      const first = firstToken(input.hidden);
      const pooled = tf.tanh(dense(first, tensor("pooler.weight"), tensor("pooler.bias")));
      const logits = dense<Tensor2D>(
        input.dropout(pooled),
        tensor("classifier.weight"),
        tensor("classifier.bias"),
      );
      return { logits, pooled, features: pooled };
    },
  };
  if (pooler === "fresh") return head;
  return {
    ...head,
    inherit: copyPooler,
  };
}

/** The backbone's pooler for a head that has a `pooler` of its own; nothing where the backbone has none. */
export function copyPooler(backbone: HostParams): HostParams {
  const weight = backbone["backbone.pooler.dense.weight"];
  const bias = backbone["backbone.pooler.dense.bias"];
  if (!weight || !bias) return {};
  // Copies, so that training one pooler never writes into another's memory.
  return {
    "pooler.weight": { ...weight, data: weight.data.slice() },
    "pooler.bias": { ...bias, data: bias.data.slice() },
  };
}

// Deviates from the released code: the last layer has this head alone, not an untrained highway beside the final
// classifier, which the released exit rule tests as well.
/** DeeBERT's head with its published initialisation. */
export const highway: BackboneHead = createHighway({ pooler: "copy" });

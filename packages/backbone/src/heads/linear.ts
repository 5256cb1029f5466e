/**
 * @file The exit head of ConsistentEE, PABEE and most methods: the shared pooler, dropout and a linear classifier.
 *
 * Shapes: B = rows, H = hidden size, C = classes.
 */
import type { ExitHead } from "@cee/exit-policies";
import type { Tensor2D } from "@tensorflow/tfjs";
import { linear as dense } from "../ops.js";
import { freshLinear, headTensor } from "./parameters.js";

/** One `Linear(H -> C)` per layer on the pooled `[CLS]`; all layers share the backbone's pooler. */
export const linear: ExitHead = {
  name: "linear",
  readsFirstToken: true,
  params: ({ hidden, classes }, layer, seed) =>
    freshLinear(`heads.${layer}`, "classifier", hidden, classes, seed),
  apply(params, input) {
    const pooled = input.pooled();
    const logits = dense<Tensor2D>(
      input.dropout(pooled),
      headTensor(params, "classifier.weight", linear, input.layer),
      headTensor(params, "classifier.bias", linear, input.layer),
    );
    return { logits, pooled, features: pooled };
  },
};

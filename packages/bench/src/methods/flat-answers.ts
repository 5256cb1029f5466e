/** @file What a model without exits answers, from its logits. B = rows of the batch, C = classes. */
import { type ModelShape, predictionOf } from "@cee/exit-policies";
import type { BatchAnswers } from "./method.js";

/** @param logits `[B, C]` */
export function flatAnswers({ classes, task }: ModelShape, logits: Float32Array): BatchAnswers {
  const predictions = Float32Array.from({ length: logits.length / classes }, (_, row) =>
    predictionOf(task, logits, row * classes, classes),
  );
  return { predictions };
}

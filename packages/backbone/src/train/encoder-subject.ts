/** @file Encoders for the trainer: one row per text. */
import { dropout } from "@cee/engine";
import type * as tf from "@tensorflow/tfjs";
import { BackboneError } from "../errors.js";
import { batchInputs, batchSpecs, checkRow, toBatch } from "../runner/batch.js";
import { compileFull } from "../runner/open.js";
import {
  type BatchTensors,
  exitSignals,
  type ModelPlan,
  signalsOfStates,
} from "../runner/signals.js";
import type { TrainingRow } from "./fit.js";
import { recordRows } from "./recording.js";
import type { TrainingSubject } from "./subject.js";

/** Head dropout sites lie above every site of the encoder. */
const HEAD_SITE = 1 << 20;
/** Dropouts that one head may have. */
const HEAD_SITES = 256;

export function encoderSubject(model: ModelPlan): TrainingSubject<TrainingRow> {
  const { config, shape, head } = model;
  const { padTokenId: padId, maxPositions } = config;
  return {
    shape,
    head,
    identity: [shape, head.name, config],
    inputs: { ...batchSpecs },
    rowAxis: "batch",
    check(row, use) {
      checkRow(row, config, row.id);
      if (use === "train") checkLabel(row, model);
    },
    digest: ({ id, label, ids, types }) => [
      JSON.stringify([id, String(label), ids.length]),
      ids,
      types,
    ],
    length: ({ ids }) => ids.length,
    labels: ({ label }) => Float32Array.of(label),
    feed: (rows) =>
      batchInputs(toBatch(rows, { padId, multiple: 8, maxLength: maxPositions })) as never,
    signals(params, inputs, seed) {
      const batch = inputs as unknown as BatchTensors;
      const { hiddenDropout, attentionDropout, classifierDropout } = config;
      const rate = classifierDropout ?? hiddenDropout;
      if (!seed || Math.max(hiddenDropout, attentionDropout, rate) === 0)
        return exitSignals(model, params, batch);
      return exitSignals(model, params, batch, { seed }, (layer) => {
        let call = 0;
        return <T extends tf.Tensor>(x: T): T => {
          call += 1;
          return dropout(x, { rate, seed, site: HEAD_SITE + layer * HEAD_SITES + call });
        };
      });
    },
    signalsOfStates: (params, hidden) => signalsOfStates(model, params, hidden),
    tokens: (batch) => batch as unknown as BatchTensors,
    // The head's own logits: the record holds answers, which a strategy may replace.
    recorded: (needs) => ["logits", ...needs],
    recorder(engine, params, observer, signals) {
      const program = compileFull(engine, model, params, observer, signals);
      return {
        run: (weights, rows, options) =>
          recordRows(program, { ...options, shape, params: weights, rows, padId, signals }),
        dispose: () => program.dispose(),
      };
    },
    trainedHeads: (before, params, isReached) =>
      Array.from({ length: shape.depth }, (_, index) => index + 1).filter((layer) => {
        const own = `heads.${layer}.`;
        // A head without parameters of its own stands on the shared ones.
        const hasOwn = Object.keys(params).some((path) => path.startsWith(own));
        return before?.heads.includes(layer) || isReached(hasOwn ? own : "heads.shared.");
      }),
  };
}

function checkLabel({ id, label }: TrainingRow, { shape: { task, classes } }: ModelPlan): void {
  const isLabel =
    task === "regression"
      ? Number.isFinite(label)
      : Number.isInteger(label) && label >= 0 && label < classes;
  if (!isLabel)
    throw new BackboneError(
      "BAD_INPUT",
      id,
      `the label of a training row must be ${task === "regression" ? "a finite number" : `a class index from 0 to ${classes - 1}`}, got ${label}. Leave such rows out.`,
    );
}

/** @file Full depth: the encoder without exits, the row that every method is compared with. */
import { consistentEEPresets, rowLosses } from "@cee/consistentee";
import { never, type PhaseLoss, replay, type TrainingPhase } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import type { CurvePoint, Method, TrainingSpec, Workbench } from "./method.js";
import { initialiseSpec } from "./strategy-method.js";

const lastLayer: PhaseLoss = ({ exits, labels, shape, perRow }) => {
  const { logits } = exits[shape.depth - 1] as (typeof exits)[number];
  return tf.mul(tf.sum(rowLosses(logits, labels, shape)), perRow) as tf.Scalar;
};

/**
 * The training behind the full-depth row.
 *
 * The paper fine-tunes the last classifier alone. A small encoder that starts from nothing does not learn that way through
 * twelve post-LN layers, so the small preset takes the last layer of the model trained on all exits: a stronger reference.
 */
export function fullSpec(bench: Workbench): TrainingSpec {
  if (bench.preset === "small") return initialiseSpec(bench);
  const { initialise } = consistentEEPresets[bench.preset];
  const phase: TrainingPhase = {
    ...initialise,
    name: "full",
    trains: ["backbone.**", `heads.${bench.shape.depth}.**`, "heads.shared.**"],
    epochs: bench.epochs ?? initialise.epochs,
    losses: { last: lastLayer },
  };
  const { losses: _, ...identity } = phase;
  return {
    label: "full depth (last classifier only)",
    identity: { method: "full", ...identity },
    *plan() {
      yield phase;
    },
  };
}

export const full: Method = {
  name: "full",
  title: "Full depth",
  unsupported: () => undefined,
  trainings: (bench) => [fullSpec(bench)],
  async run(bench) {
    const trained = await bench.fit(fullSpec(bench));
    const strategy = never();
    const record = await bench.record(trained, strategy);
    const { exitLayers, predictions, nonFinite } = replay(record, strategy);
    const point: CurvePoint = {
      knob: null,
      options: {},
      exitLayers,
      predictions,
      nonFinite,
      open: () => bench.openFull(trained),
    };
    return [point];
  },
};

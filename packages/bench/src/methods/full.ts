/** @file Full depth: the encoder fine-tuned with its last classifier alone, without exits. The row to compare with. */
import { consistentEEPresets, rowLosses } from "@cee/consistentee";
import { never, type PhaseLoss, replay, type TrainingPhase } from "@cee/exit-policies";
import * as tf from "@tensorflow/tfjs";
import type { CurvePoint, Method, TrainingSpec, Workbench } from "./method.js";

const lastLayer: PhaseLoss = ({ exits, labels, shape, perRow }) => {
  const { logits } = exits[shape.depth - 1] as (typeof exits)[number];
  return tf.mul(tf.sum(rowLosses(logits, labels, shape)), perRow) as tf.Scalar;
};

function fullSpec(bench: Workbench): TrainingSpec {
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

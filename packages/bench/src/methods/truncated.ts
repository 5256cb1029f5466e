/** @file Truncated models, each trained for its depth: the curve that early exit has to beat. */

import { openFlat } from "@cee/backbone";
import { answersAt, truncatedPlan } from "@cee/baselines";
import { consistentEEPresets } from "@cee/consistentee";
import { never } from "@cee/exit-policies";
import { fineTuneSettings, parentOf } from "./fine-tune.js";
import { flatAnswers } from "./flat-answers.js";
import type { CurvePoint, Method, TrainingSpec, Workbench } from "./method.js";

function spec(bench: Workbench, depth: number): TrainingSpec {
  const settings = fineTuneSettings(bench, consistentEEPresets.paper.initialise);
  return {
    label: `truncated depth ${depth}`,
    identity: { method: "truncated", depth, ...settings },
    ...parentOf(bench),
    plan: () => truncatedPlan(bench.shape, depth, settings),
  };
}

export const truncated: Method = {
  name: "truncated",
  title: "Truncated models",
  unsupported: () => undefined,
  trainings: (bench) => depthsOf(bench).map((depth) => spec(bench, depth)),
  async run(bench) {
    const points: CurvePoint[] = [];
    for (const depth of depthsOf(bench)) {
      const trained = await bench.fit(spec(bench, depth));
      const record = await bench.record(trained, never());
      const exitLayers = new Int32Array(record.ids.length).fill(depth);
      points.push({
        knob: { name: "depth", value: depth },
        options: { depth },
        exitLayers,
        predictions: answersAt(record, exitLayers),
        nonFinite: 0,
        async open() {
          const flat = openFlat(bench.engine, bench.model, trained.params, depth);
          return {
            answer: async (batch) => flatAnswers(bench.shape, await flat.logits(batch)),
            dispose: () => flat.dispose(),
          };
        },
      });
    }
    return points;
  },
};

function depthsOf({ shape }: Workbench): number[] {
  return Array.from({ length: shape.depth }, (_, index) => index + 1);
}

/** @file ConsistentEE as a method of the benchmark: one training per alpha, all from one shared initialisation. */
import {
  type ConsistentEEInput,
  consistentEE,
  consistentEEPlan,
  consistentEEPresets,
  resolveOptions,
} from "@cee/consistentee";
import { type ExitStrategy, replay } from "@cee/exit-policies";
import type { CurvePoint, Method, TrainingSpec, Workbench } from "./method.js";
import { initialiseSpec, rateFor } from "./strategy-method.js";

/** Prices of a layer that trace the curve. The paper names none; these span "never early" to "almost at once". */
const alphas: Readonly<Record<Workbench["preset"], readonly number[]>> = {
  small: [0.003, 0.01, 0.03, 0.1],
  paper: [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1],
};

export interface ConsistentEEMethodOptions {
  readonly name: string;
  readonly title: string;
  readonly reward: "hardness" | "vanilla";
}

/** Makes the method for one reward. */
export function consistentEEMethod({ name, title, reward }: ConsistentEEMethodOptions): Method {
  const configure = (bench: Workbench, alpha: number) => {
    const input: ConsistentEEInput = {
      preset: bench.preset,
      reward,
      alpha,
      initialised: true,
      task: { learningRate: rateFor(bench, consistentEEPresets[bench.preset].task.learningRate) },
    };
    return { options: resolveOptions(input), strategy: consistentEE(input) as ExitStrategy };
  };
  const spec = (bench: Workbench, alpha: number): TrainingSpec => {
    const { options, strategy } = configure(bench, alpha);
    return {
      label: `${name} alpha ${alpha}`,
      identity: { method: "consistentee", options },
      parent: initialiseSpec(bench),
      strategy,
      plan: () => consistentEEPlan(bench.shape, options),
    };
  };
  return {
    name,
    title,
    unsupported: () => undefined,
    trainings: (bench) => [
      initialiseSpec(bench),
      ...alphas[bench.preset].map((alpha) => spec(bench, alpha)),
    ],
    async run(bench) {
      const points: CurvePoint[] = [];
      for (const alpha of alphas[bench.preset]) {
        const { options, strategy } = configure(bench, alpha);
        const trained = await bench.fit(spec(bench, alpha));
        const record = await bench.record(trained, strategy);
        const { exitLayers, predictions, nonFinite } = replay(record, strategy);
        points.push({
          knob: { name: "alpha", value: alpha },
          options: { ...options },
          exitLayers,
          predictions,
          nonFinite,
          trace: { record, strategy },
          open: () => bench.open(trained, strategy),
        });
      }
      return points;
    },
  };
}

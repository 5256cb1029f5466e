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
  small: [0.01, 0.03, 0.06, 0.1, 0.3],
  paper: [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1],
};

/**
 * The task step, which is to have the budget of the trainings that it is compared with. In the small preset that is what
 * BERxiT's has: the weighted loss hardly trains the first exits in a short initialisation (layer t has a weight of
 * t / (1 + … + L)), so rows that are sent there need exits that the task step still has to train.
 */
function taskStep(bench: Workbench): ConsistentEEInput["task"] {
  if (bench.preset === "paper")
    return { learningRate: consistentEEPresets.paper.task.learningRate };
  const { epochs: _, ...initialise } = consistentEEPresets.small.initialise;
  return { ...initialise, epochs: 3, learningRate: rateFor(bench, initialise.learningRate) };
}

export interface ConsistentEEMethodOptions {
  readonly name: string;
  readonly title: string;
  readonly reward: "hardness" | "vanilla";
  /** Over the preset's. With an `alpha` among them, that one alone is trained. */
  readonly options?: ConsistentEEInput;
}

/** The training and the strategy for one price of a layer. */
export function consistentEEAt(
  bench: Workbench,
  { name, reward, options: own = {} }: Omit<ConsistentEEMethodOptions, "title">,
  alpha: number,
): { readonly spec: TrainingSpec; readonly strategy: ExitStrategy; readonly options: object } {
  const input: ConsistentEEInput = {
    preset: bench.preset,
    reward,
    alpha,
    initialised: true,
    ...own,
    task: { ...taskStep(bench), ...own.task },
  };
  const options = resolveOptions(input);
  const strategy = consistentEE(input) as ExitStrategy;
  const spec: TrainingSpec = {
    label: `${name} alpha ${alpha}`,
    identity: { method: "consistentee", options },
    parent: initialiseSpec(bench),
    strategy,
    plan: () => consistentEEPlan(bench.shape, options),
  };
  return { spec, strategy, options };
}

/** Makes the method for one reward. */
export function consistentEEMethod(options: ConsistentEEMethodOptions): Method {
  const { name, title, options: own } = options;
  const at = (bench: Workbench, alpha: number) => consistentEEAt(bench, options, alpha);
  const alphasOf = ({ preset }: Workbench) =>
    own?.alpha === undefined ? alphas[preset] : [own.alpha];
  return {
    name,
    title,
    unsupported: () => undefined,
    trainings: (bench) => [
      initialiseSpec(bench),
      ...alphasOf(bench).map((alpha) => at(bench, alpha).spec),
    ],
    async run(bench) {
      const points: CurvePoint[] = [];
      for (const alpha of alphasOf(bench)) {
        const { spec, options, strategy } = at(bench, alpha);
        const trained = await bench.fit(spec);
        const record = await bench.record(trained, strategy);
        const { exitLayers, predictions, nonFinite } = replay(record, strategy);
        points.push({
          knob: { name: "alpha", value: alpha },
          options: { ...options },
          exitLayers,
          predictions,
          nonFinite,
          trace: { record, strategy },
          trained,
          open: () => bench.open(trained, strategy),
        });
      }
      return points;
    },
  };
}

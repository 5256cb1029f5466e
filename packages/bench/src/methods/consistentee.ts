/** @file ConsistentEE as a method of the benchmark: one training per alpha, all from one shared initialisation. */
import {
  type ConsistentEEInput,
  consistentEE,
  consistentEEPlan,
  resolveOptions,
} from "@cee/consistentee";
import { type ExitStrategy, replay } from "@cee/exit-policies";
import { brisk } from "./fine-tune.js";
import type { CurvePoint, Method, TrainingSpec, Workbench } from "./method.js";
import { initialiseSpec } from "./strategy-method.js";

/** Prices of a layer that trace the curve. The paper names none; these span "never early" to "almost at once". */
const alphas: Readonly<Record<Workbench["preset"], readonly number[]>> = {
  small: [0.01, 0.03, 0.06, 0.1, 0.3],
  paper: [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1],
};

/**
 * Epochs of the task step in the small preset: as many as BERxiT trains. A short initialisation hardly trains the first
 * exits, whose weight in its loss is smallest (t of 1 + … + L), so rows that are sent there need exits that the task step
 * still has to train.
 */
const TASK_EPOCHS = 3;

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
    task: { ...(bench.preset === "small" ? brisk(bench, TASK_EPOCHS) : {}), ...own.task },
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

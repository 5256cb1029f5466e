/** @file The two-model cascade: a small model of the first layers, then the full one. */
import {
  type CascadeOptions,
  cascadeCost,
  cascadeOptions,
  cascadePlan,
  cascadeThresholds,
  type Difficulty,
  decideCascade,
  difficultyOf,
  difficultyPlan,
  openCascade,
  unsupportedCascade,
} from "@cee/baselines";
import { type ExitRecord, never } from "@cee/exit-policies";
import { fineTuneSettings, parentOf } from "./fine-tune.js";
import { fullSpec } from "./full.js";
import type { Method, TrainingSpec, Workbench } from "./method.js";

const published = cascadeOptions();

/** The small model has at least one layer less than the large one. */
function optionsOf(bench: Workbench): CascadeOptions {
  return cascadeOptions({
    depth: Math.min(published.depth, Math.max(1, bench.shape.depth - 1)),
    difficulty: fineTuneSettings(bench, published.difficulty),
    small: fineTuneSettings(bench, published.small),
  });
}

function difficultySpec(bench: Workbench, options: CascadeOptions, run: number): TrainingSpec {
  const { depth, difficulty } = options;
  return {
    label: `cascade, small model ${run} for difficulty`,
    identity: { method: "cascade-difficulty", run, depth, ...difficulty },
    ...parentOf(bench),
    plan: () => difficultyPlan(bench.shape, options, run),
  };
}

function smallSpec(
  bench: Workbench,
  options: CascadeOptions,
  hard: () => Difficulty,
): TrainingSpec {
  // The threshold is the rule's, not the training's.
  const { threshold: _, ...training } = options;
  return {
    label: "cascade, small model",
    identity: { method: "cascade", ...training },
    ...parentOf(bench),
    plan: () => cascadePlan(bench.shape, options, hard),
  };
}

const runsOf = ({ seeds }: CascadeOptions) =>
  Array.from({ length: seeds }, (_, index) => index + 1);

export const cascade: Method = {
  name: "cascade",
  title: "Cascade of two models",
  unsupported: (task) =>
    task === "regression" ? `cascade can't do regression: ${unsupportedCascade}` : undefined,
  trainings(bench) {
    const options = optionsOf(bench);
    return [
      fullSpec(bench),
      ...runsOf(options).map((run) => difficultySpec(bench, options, run)),
      smallSpec(bench, options, () => new Map()),
    ];
  },
  async run(bench) {
    const options = optionsOf(bench);
    const large = await bench.fit(fullSpec(bench));
    let difficulty: Difficulty | undefined;
    const hard = (): Difficulty => {
      if (!difficulty) throw new Error("internal: difficulty is asked for before it is known");
      return difficulty;
    };
    const answers: ExitRecord[] = [];
    for (const run of runsOf(options)) {
      const voter = await bench.fit(difficultySpec(bench, options, run));
      answers.push(await bench.record(voter, never(), "train"));
    }
    difficulty = difficultyOf(answers, options.depth);
    const small = await bench.fit(smallSpec(bench, options, hard));

    const { model, engine, shape } = bench;
    const { depth, classes } = shape;
    const [first, second] = [
      stageLogits(await bench.record(small, never()), options.depth),
      stageLogits(await bench.record(large, never()), depth),
    ];
    return cascadeThresholds.map((threshold) => {
      const outcome = decideCascade(first, second, classes, threshold);
      return {
        knob: { name: "threshold", value: threshold },
        options: { ...options, threshold },
        exitLayers: null,
        cost: cascadeCost(outcome, depth),
        predictions: outcome.predictions,
        nonFinite: 0,
        async open() {
          const opened = openCascade(
            engine,
            { model, params: small.params, layer: options.depth },
            { model, params: large.params, layer: depth },
            threshold,
          );
          return {
            answer: (batch) => opened.classify(batch),
            dispose: () => opened.dispose(),
          };
        },
      };
    });
  },
};

/** What a model cut after `layer` blocks answers, `[N, C]`. */
function stageLogits({ shape, ids, logits }: ExitRecord, layer: number) {
  const { depth, classes } = shape;
  const own = new Float32Array(ids.length * classes);
  for (let row = 0; row < ids.length; row += 1) {
    const at = (row * depth + layer - 1) * classes;
    own.set(logits.subarray(at, at + classes), row * classes);
  }
  return { logits: own, layer };
}

/** @file Results of a made-up run: smooth curves, odd names, several seeds. */
import { countExitsBy, layerFields, type ResultRow, type Results } from "../src/results.js";

const depth = 12;
const n = 120;
const hardness = ["word", "phrase", "whole"];

export function syntheticResults(seeds: readonly number[] = [1]): Results {
  const rows: ResultRow[] = [];
  const tasks = [
    ["sentiment", "accuracy"],
    ["paraphrase", "f1"],
    ["similarity", "spearman"],
  ] as const;
  for (const [taskIndex, [task, metric]] of tasks.entries()) {
    for (const [methodIndex, method] of ["entropy", "patience", "consistentee"].entries()) {
      for (const seed of seeds) {
        const fullScore = 0.9 - 0.05 * taskIndex + 0.004 * seed;
        const make = (
          operatingPoint: ResultRow["operatingPoint"],
          speed: number,
          name: string,
          value: number,
        ): ResultRow => {
          const exits = Array.from({ length: n }, (_, row) => {
            const pull = (1 - speed) * depth * (0.7 + 0.3 * (row % 3)) + ((row * 7) % 5) - 1.5;
            return operatingPoint === "full"
              ? depth
              : Math.max(1, Math.min(depth, Math.round(pull)));
          });
          const fields = layerFields(exits, depth);
          const loss = 0.3 * fields.savedLayers! ** (3 + methodIndex) - 0.004 * methodIndex;
          return {
            task,
            method,
            seed,
            split: "dev",
            metric,
            score: operatingPoint === "full" ? fullScore : fullScore - loss,
            fullScore,
            operatingPoint,
            knob: operatingPoint === "full" ? null : { name, value },
            options: {},
            ...fields,
            savedRuntime:
              operatingPoint === "curve"
                ? null
                : operatingPoint === "full"
                  ? 0
                  : fields.savedLayers! * 0.7,
            n,
            scores: { "balanced-accuracy": fullScore - loss - 0.02 },
            exitHistogramBy: countExitsBy(
              exits,
              depth,
              exits.map((_, row) => hardness[row % 3]!),
            ),
          };
        };
        const knob = method === "patience" ? "patience" : "threshold";
        rows.push(make("full", 0, knob, 0));
        for (let step = 0; step < 14; step++) rows.push(make("curve", step / 15, knob, step / 20));
        rows.push(make("one-percent", 6 / 15, knob, 6 / 20));
        rows.push(make("no-loss", 3 / 15, knob, 3 / 20));
      }
    }
  }
  return {
    schema: 1,
    command: 'pnpm bench glue --seeds 1 --out "runs/<odd> & name"',
    preset: "small",
    backbone: { kind: "fresh", depth, hidden: 64 },
    data: { source: "embedded", seed: 1 },
    rows,
    versions: { node: "v20.20.2", runtime: "onnxruntime-node 1.30.0" },
    machine: { processor: "two cores", threads: 2 },
  };
}

/** @file HashEE: one training per map and depth; what is skipped is decided by token ids alone. */
import {
  type HashEeOptions,
  hashEeOptions,
  hashEePlan,
  hashEeRegression,
  openHashEe,
  type TokenMap,
  tokenMap,
} from "@cee/baselines";
import { fineTuneSettings, parentOf } from "./fine-tune.js";
import type { CurvePoint, Method, TrainingSpec, Workbench } from "./method.js";
import { tokenwisePoint } from "./tokenwise.js";

const published = hashEeOptions();

/** The frequency map at several depths, and the other maps at the middle one. */
function configurations(bench: Workbench): HashEeOptions[] {
  const { depth } = bench.shape;
  const training = fineTuneSettings(bench, published.training);
  const configure = (layers: number, map: HashEeOptions["map"]) =>
    hashEeOptions({
      maxLayer: layers + 1,
      buckets: Math.min(published.buckets, layers),
      map,
      training,
    });
  const depths = [
    ...new Set([0.25, 0.5, 0.75, 1].map((share) => Math.max(1, Math.round(share * depth)))),
  ];
  const middle = Math.max(1, Math.round(depth / 2));
  return [
    ...depths.map((layers) => configure(layers, "frequency")),
    configure(middle, "random"),
    configure(middle, "clustered"),
  ];
}

function spec(bench: Workbench, options: HashEeOptions, map: () => TokenMap): TrainingSpec {
  return {
    label: `hashee ${options.map} map, ${options.maxLayer - 1} layers`,
    identity: { method: "hashee", ...options },
    ...parentOf(bench),
    plan: () => hashEePlan(bench.model, options, map()),
  };
}

export const hashEe: Method = {
  name: "hashee",
  title: "HashEE",
  unsupported: (task) =>
    task === "regression" ? `hashee can't do regression: ${hashEeRegression}` : undefined,
  trainings: (bench) =>
    configurations(bench).map((options) =>
      // Which tokens leave where is known when the parent's embeddings are.
      spec(bench, options, () =>
        new Int32Array(bench.model.config.vocabSize).fill(options.maxLayer - 1),
      ),
    ),
  async run(bench) {
    const { parent } = parentOf(bench);
    const { params } = parent ? await bench.fit(parent) : bench;
    // Never dev, whose rows are to be new.
    const rows = [...bench.train, ...bench.validation];
    const { config } = bench.model;
    const special = new Set([config.padTokenId]);
    for (const { ids } of rows) special.add(ids[0] as number).add(ids[ids.length - 1] as number);
    const points: CurvePoint[] = [];
    for (const options of configurations(bench)) {
      const map = tokenMap(options, {
        vocabSize: config.vocabSize,
        rows,
        special,
        seed: bench.seed,
        embeddings: params["backbone.embeddings.word_embeddings.weight"],
      });
      const trained = await bench.fit(spec(bench, options, () => map));
      points.push(
        await tokenwisePoint(
          bench,
          () => openHashEe(bench.engine, bench.model, trained.params, map, options),
          { knob: { name: "maxLayer", value: options.maxLayer }, options: { ...options } },
        ),
      );
    }
    return points;
  },
};

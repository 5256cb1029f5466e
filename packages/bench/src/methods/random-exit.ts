/** @file Exits drawn at random: a curve over the mean exit layer, to be read at any other method's. */
import { answersAt, randomExitLayers } from "@cee/baselines";
import { never } from "@cee/exit-policies";
import type { Method } from "./method.js";
import { openScheduled } from "./scheduled.js";
import { initialiseSpec } from "./strategy-method.js";

export const randomExit: Method = {
  name: "random",
  title: "Random exits",
  unsupported: () => undefined,
  trainings: (bench) => [initialiseSpec(bench)],
  async run(bench) {
    const trained = await bench.fit(initialiseSpec(bench));
    const record = await bench.record(trained, never());
    const { depth } = bench.shape;
    const means = Array.from({ length: 2 * depth - 1 }, (_, index) => 1 + index / 2);
    return means.map((meanExitLayer) => {
      const { seed } = bench;
      const exitLayers = randomExitLayers(record.ids.length, { depth, meanExitLayer, seed });
      return {
        knob: { name: "meanExitLayer", value: meanExitLayer },
        options: { meanExitLayer, seed },
        exitLayers,
        predictions: answersAt(record, exitLayers),
        nonFinite: 0,
        open: () => openScheduled(bench, trained, exitLayers),
      };
    });
  },
};

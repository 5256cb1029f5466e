/** @file The per-instance oracle: the best that any exit rule could do with the model of the shared training. */
import { answersAt, type OracleOptions, oracleExitLayers } from "@cee/baselines";
import { never } from "@cee/exit-policies";
import type { CurvePoint, Method } from "./method.js";
import { openScheduled } from "./scheduled.js";
import { initialiseSpec } from "./strategy-method.js";

export const oracle: Method = {
  name: "oracle",
  title: "Oracle (upper bound)",
  unsupported: () => undefined,
  trainings: (bench) => [initialiseSpec(bench)],
  async run(bench) {
    const trained = await bench.fit(initialiseSpec(bench));
    const record = await bench.record(trained, never());
    const point = (options: Required<OracleOptions>): CurvePoint => {
      const exitLayers = oracleExitLayers(record, options);
      return {
        knob: { name: "deepest", value: options.deepest },
        options: { ...options },
        exitLayers,
        predictions: answersAt(record, exitLayers),
        nonFinite: 0,
        open: () => openScheduled(bench, trained, exitLayers),
      };
    };
    const { depth } = bench.shape;
    const bound = Array.from({ length: depth }, (_, index) =>
      point({ deepest: index + 1, otherwise: "first" }),
    );
    return [...bound, point({ deepest: depth, otherwise: "last" })];
  },
};

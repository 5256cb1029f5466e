/** @file Runs exits that were fixed beforehand row by row, for real: the clock of controls that look at no input. */
import { alwaysAt, type ExitStrategy } from "@cee/exit-policies";
import { earlyExits } from "./early-exits.js";
import type { TimedModel, Trained, Workbench } from "./method.js";

/**
 * Opens the early-stopping host such that each row of dev leaves at its layer.
 * @param exitLayers one layer for each row of dev
 */
export async function openScheduled(
  bench: Workbench,
  trained: Trained,
  exitLayers: Int32Array,
): Promise<TimedModel> {
  const { depth } = bench.shape;
  const strategies = Array.from(
    { length: depth },
    (_, index): ExitStrategy => alwaysAt({ layer: index + 1 }),
  );
  const deepest = strategies[depth - 1] as ExitStrategy;
  const exits = earlyExits(bench.engine, trained, deepest);
  const layerOf = new Map(bench.dev.map(({ ids }, row) => [ids.join(), exitLayers[row]]));
  return {
    async answer(batch) {
      const layer = layerOf.get(batch.ids.join()) ?? depth;
      await exits.classify(batch, strategies[layer - 1] as ExitStrategy);
    },
    dispose: () => exits.dispose(),
  };
}

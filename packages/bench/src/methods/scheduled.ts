/** @file Runs exits that were fixed beforehand row by row, for real: the clock of controls that look at no input. */
import { openEncoder } from "@cee/backbone";
import { alwaysAt, classify, type ExitStrategy, toObserver } from "@cee/exit-policies";
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
  const runner = await openEncoder(
    bench.engine,
    trained.model,
    trained.params,
    toObserver(deepest),
    {
      trained: trained.trained,
    },
  );
  const layerOf = new Map(bench.dev.map(({ ids }, row) => [ids.join(), exitLayers[row]]));
  return {
    async answer(batch) {
      const layer = layerOf.get(batch.ids.join()) ?? depth;
      await classify(runner, batch, strategies[layer - 1] as ExitStrategy);
    },
    dispose: () => runner.dispose(),
  };
}

/** @file What share of a live run the strategy's decisions on the host take. */
import { openEncoder } from "@cee/backbone";
import {
  classify,
  defineExitStrategy,
  type ExitStrategy,
  entropy,
  toObserver,
  withOptions,
} from "@cee/exit-policies";
import { checkStop } from "../glue/stop.js";
import type { ForcedOptions } from "./forced.js";
import { forcedBatch } from "./model.js";
import type { DecidePart } from "./results.js";
import { ratioOf } from "./rounds.js";

/** Entropy at a knob that lets nobody go: as many decisions as there can be. Batch 1, layer by layer. */
export async function measureDecide(options: ForcedOptions): Promise<DecidePart> {
  const { engine, encoder, sizes, rounds, seed, signal, progress } = options;
  let spent = 0;
  const { decide } = entropy.definition;
  const watched = defineExitStrategy({
    ...entropy.definition,
    name: "watched",
    decide(...args: Parameters<typeof decide>) {
      const start = performance.now();
      const verdict = decide(...args);
      spent += performance.now() - start;
      return verdict;
    },
  });
  const strategy: ExitStrategy = withOptions(watched(), { threshold: 0 });
  const runner = await openEncoder(engine, encoder, encoder.params, toObserver(strategy));
  const batch = forcedBatch(sizes, [sizes.depth], seed);
  const deciding: number[] = [];
  const whole: number[] = [];
  try {
    for (let round = -3; round < rounds; round += 1) {
      checkStop(signal);
      progress.update(`width ${sizes.width}, decisions`);
      spent = 0;
      const start = performance.now();
      await classify(runner, batch, strategy);
      if (round < 0) continue;
      whole.push(performance.now() - start);
      deciding.push(spent);
    }
  } finally {
    await runner.dispose();
  }
  const share = ratioOf(deciding, whole, seed);
  progress.print(
    `width ${sizes.width}, decisions on the host: ${(100 * share.estimate).toFixed(3)} % of a run`,
  );
  return { width: sizes.width, strategy: entropy.strategyName, share };
}

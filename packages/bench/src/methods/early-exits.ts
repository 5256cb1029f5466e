/** @file The early-stopping host on a trained model: a single row in one graph with the exits inside, batches layer by layer. */
import { type InGraphExits, openEncoder, openInGraph, type TokenBatch } from "@cee/backbone";
import type { Engine } from "@cee/engine";
import {
  type Classification,
  checkHost,
  classify,
  type ExitRunner,
  type ExitStrategy,
  toObserver,
} from "@cee/exit-policies";
import type { TimedModel, Trained } from "./method.js";
import { strategyParams } from "./strategy-params.js";

export interface EarlyExits extends TimedModel {
  /** @param strategy the same one at another value of its knob; @default the one that was opened */
  classify(batch: TokenBatch, strategy?: ExitStrategy): Promise<Classification>;
}

/** Each form is opened when it is first needed. @throws ExitStrategyError what a host refuses at its start */
export function earlyExits(
  engine: Engine,
  { model, params, trained }: Trained,
  strategy: ExitStrategy,
): EarlyExits {
  checkHost(strategy, model.shape, { trained });
  const observer = toObserver(strategy, strategyParams(params));
  const { knob, decideTensor } = strategy.definition;
  const isGraph = decideTensor !== undefined && engine.runtime !== "eager";
  let graph: Promise<InGraphExits> | undefined;
  let loop: Promise<ExitRunner<TokenBatch>> | undefined;
  const own = async (batch: TokenBatch, asked = strategy): Promise<Classification> => {
    if (isGraph && batch.rows === 1) {
      graph ??= openInGraph(engine, model, params, strategy, observer, { rows: "one" });
      const value = knob ? (asked.options[knob.option] as number) : 0;
      return (await graph).classify(batch, value);
    }
    loop ??= openEncoder(engine, model, params, observer, { trained });
    return classify(await loop, batch, asked);
  };
  return {
    classify: own,
    answer: async (batch) => ({ predictions: (await own(batch)).predictions }),
    async dispose() {
      await (await graph)?.dispose();
      await (await loop)?.dispose();
    },
  };
}

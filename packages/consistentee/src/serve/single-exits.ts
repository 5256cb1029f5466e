/** @file One request in one call: the graph with the exits inside. */
import { isDeepStrictEqual } from "node:util";
import type { InGraphExits, TokenBatch } from "@cee/backbone";
import type { ExitStrategy, RowAnswer } from "@cee/exit-policies";

export interface SingleExits {
  /** Whether the graph decides as this strategy does; its knob may have any value. */
  decides(strategy: ExitStrategy): boolean;
  /** Answers a batch of one row where `strategy` lets it go. */
  answer(batch: TokenBatch, strategy: ExitStrategy): Promise<RowAnswer>;
  dispose(): Promise<void>;
}

/** @param strategy what the graph was built for */
export function singleExits(exits: InGraphExits, strategy: ExitStrategy): SingleExits {
  const built = withoutKnob(strategy);
  return {
    decides: (other) =>
      other.name === strategy.name && isDeepStrictEqual(withoutKnob(other), built),
    async answer(batch, { definition, options }) {
      const value = definition.knob ? (options[definition.knob.option] as number) : 0;
      const { exitLayers, logits, predictions } = await exits.classify(batch, value);
      return {
        layer: exitLayers[0] as number,
        logits,
        prediction: predictions[0] as number,
      };
    },
    dispose: () => exits.dispose(),
  };
}

function withoutKnob({ definition, options }: ExitStrategy): Readonly<Record<string, unknown>> {
  const knob = definition.knob?.option;
  return Object.fromEntries(Object.entries(options).filter(([option]) => option !== knob));
}

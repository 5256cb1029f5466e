/** @file A strategy's own parameters among a model's. */
import type { HostParams } from "@cee/engine";

/** Those under `strategy.`, by the names that the strategy gave them. */
export function strategyParams(params: HostParams): HostParams {
  const prefix = "strategy.";
  return Object.fromEntries(
    Object.entries(params)
      .filter(([path]) => path.startsWith(prefix))
      .map(([path, tensor]) => [path.slice(prefix.length), tensor]),
  );
}

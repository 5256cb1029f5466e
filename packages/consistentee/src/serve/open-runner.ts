/** @file Opens what a serving model runs its batches on. The one place that decides how exits are executed. */
import { openEncoder, openInGraph, type TokenBatch } from "@cee/backbone";
import { createEngine, type Engine, type EngineOptions } from "@cee/engine";
import { type ExitRunner, toObserver } from "@cee/exit-policies";
import type { EarlyExitParts } from "../model-folder.js";
import { type SingleExits, singleExits } from "./single-exits.js";

export interface RunnerOptions {
  /** Of the engine. @default "auto" */
  readonly runtime?: EngineOptions["runtime"];
  /** ONNX Runtime's execution provider, with the processor for what it cannot run. @default "cpu" */
  readonly device?: string;
  /** Of ONNX Runtime, within one operation. @default the processors available to this process */
  readonly threads?: number;
  /**
   * Whether the threads spin while a graph runs: for a machine whose processors nobody else needs.
   * @default false
   */
  readonly spin?: boolean;
  /**
   * Runs a request that is alone in one graph with the exits inside, where the strategy has a tensor form: faster than layer
   * by layer, for a second copy of the weights. On the processor alone.
   * @default true
   */
  readonly inGraph?: boolean;
}

export interface OpenedRunner {
  readonly engine: Engine;
  readonly runner: ExitRunner<TokenBatch>;
  /** `undefined` where the strategy, the device or the options leave the layer loop alone. */
  readonly single: SingleExits | undefined;
}

/** Creates the engine that these options ask for. */
export function openEngine({ runtime, device, threads, spin }: RunnerOptions): Promise<Engine> {
  return createEngine({
    ...(runtime !== undefined && { runtime }),
    ...(threads !== undefined && { threads }),
    ...(spin !== undefined && { spin }),
    ...(device !== undefined && { providers: device === "cpu" ? ["cpu"] : [device, "cpu"] }),
  });
}

/** Compiles the model for its strategy, as a loop over layers and as one graph; the knob is not part of what is compiled. */
export async function openRunner(
  {
    encoder,
    strategy,
    params,
    reports,
  }: Required<Pick<EarlyExitParts, "encoder" | "strategy" | "params" | "reports">>,
  options: RunnerOptions,
): Promise<OpenedRunner> {
  const engine = await openEngine(options);
  try {
    const trained = { heads: encoder.trainedHeads, strategy: reports.length > 0 };
    const observer = toObserver(strategy, params);
    const runner = await openEncoder(engine, encoder, encoder.params, observer, { trained });
    const { inGraph = true, device = "cpu" } = options;
    // Elsewhere than on the processor a branch waits for its condition to come back from the device.
    const isGraph =
      inGraph &&
      device === "cpu" &&
      engine.runtime !== "eager" &&
      strategy.definition.decideTensor !== undefined;
    const single = isGraph
      ? singleExits(
          await openInGraph(engine, encoder, encoder.params, strategy, observer, { rows: "one" }),
          strategy,
        )
      : undefined;
    return { engine, runner, single };
  } catch (error) {
    await engine.dispose();
    throw error;
  }
}

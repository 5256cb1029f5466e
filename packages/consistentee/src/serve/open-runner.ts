/** @file Opens what a serving model runs its batches on. The one place that decides how exits are executed. */
import { openEncoder, type TokenBatch } from "@cee/backbone";
import { createEngine, type Engine, type EngineOptions } from "@cee/engine";
import { type ExitRunner, toObserver } from "@cee/exit-policies";
import type { EarlyExitParts } from "../model-folder.js";

export interface RunnerOptions {
  /** Of the engine. @default "auto" */
  readonly runtime?: EngineOptions["runtime"];
  /** ONNX Runtime's execution provider, with the processor for what it cannot run. @default "cpu" */
  readonly device?: string;
  /** Of ONNX Runtime, within one operation. @default the processors available to this process */
  readonly threads?: number;
}

export interface OpenedRunner {
  readonly engine: Engine;
  readonly runner: ExitRunner<TokenBatch>;
}

/** Creates the engine that these options ask for. */
export function openEngine({ runtime, device, threads }: RunnerOptions): Promise<Engine> {
  return createEngine({
    ...(runtime !== undefined && { runtime }),
    ...(threads !== undefined && { threads }),
    ...(device !== undefined && { providers: device === "cpu" ? ["cpu"] : [device, "cpu"] }),
  });
}

/** Compiles the model for its strategy; the knob is not part of what is compiled. */
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
    return { engine, runner };
  } catch (error) {
    await engine.dispose();
    throw error;
  }
}

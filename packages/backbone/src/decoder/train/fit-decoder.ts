/** @file Trains a decoder with the same loop, phases and checkpoints as an encoder. */
import type { HostParams, HostTensor } from "@cee/engine";
import type { PhaseReport, TrainedParts } from "@cee/exit-policies";
import { BackboneError } from "../../errors.js";
import { fitSubject, type LoopOptions } from "../../train/fit.js";
import { strategyOf } from "../../train/params.js";
import type { CausalDecoder } from "../decoder.js";
import { type DecoderText, decoderSubject } from "./decoder-subject.js";
import { type LoraOptions, loraParams, mergeLora, resolveLora } from "./lora.js";

export interface FitDecoderOptions extends Omit<LoopOptions<DecoderText>, "params" | "trained"> {
  readonly decoder: CausalDecoder;
  /** Adapters of the backbone under `lora.**`, for phases that train those; merged into it at the end. @default none */
  readonly lora?: LoraOptions;
  /** The strategy's own parameters, by the names that its `params` gave them. */
  readonly strategyParams?: HostParams;
  /** Whether they were trained before. @default false */
  readonly isStrategyTrained?: boolean;
}

export interface FittedDecoder {
  /** With adapters merged and the layers whose exits were trained. */
  readonly decoder: CausalDecoder;
  readonly strategyParams: HostParams;
  readonly trained: TrainedParts;
  readonly reports: readonly PhaseReport[];
}

/**
 * Runs a plan on a decoder; every token behind a text's `from` is one row of its losses. Batch sizes of phases count
 * texts, of record phases tokens. Parameters are `backbone.**`, `heads.<layer>.weight`, `lora.**` and `strategy.**`.
 * @throws BackboneError what `fit` throws; `BAD_OPTION` for adapters that cannot be
 */
export async function fitDecoder({
  decoder,
  lora,
  strategyParams = {},
  isStrategyTrained = false,
  ...options
}: FitDecoderOptions): Promise<FittedDecoder> {
  const adapters = lora && resolveLora(decoder.config, lora);
  const params: Record<string, HostTensor> = {
    ...decoder.params,
    ...(adapters ? loraParams(decoder.params, adapters, options.seed) : {}),
  };
  for (const [name, tensor] of Object.entries(strategyParams)) params[`strategy.${name}`] = tensor;
  const result = await fitSubject(decoderSubject(decoder, adapters), {
    ...options,
    params,
    trained: { heads: decoder.trainedHeads, strategy: isStrategyTrained },
  });
  const merged = adapters ? mergeLora(result.params, adapters) : result.params;
  const own = Object.entries(merged).filter(([path]) => !path.startsWith("strategy."));
  for (const [path, { data }] of own)
    if (adapters && !allFinite(data))
      throw new BackboneError(
        "NAN_LOSS",
        path,
        "is not finite with its adapter merged. Lower the learning rate.",
      );
  const { heads, strategy } = result.trained;
  return {
    decoder: { ...decoder, params: Object.fromEntries(own), trainedHeads: heads },
    strategyParams: strategyOf(result.params),
    trained: { heads, strategy },
    reports: result.reports,
  };
}

function allFinite(data: HostTensor["data"]): boolean {
  for (const value of data) if (!Number.isFinite(value)) return false;
  return true;
}

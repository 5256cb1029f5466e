/** @file The trainings of a generation run; each leaves a checkpoint that a later run takes as done. */
import path from "node:path";
import {
  type CausalDecoder,
  type DecoderText,
  type FittedDecoder,
  fitDecoder,
} from "@cee/backbone";
import {
  type ConsistentEEInput,
  consistentEEDecoder,
  consistentEEDecoderPlan,
  decoderOptions,
  initialisedParts,
  initialisePhase,
} from "@cee/consistentee";
import type { Engine, HostParams } from "@cee/engine";
import { calmMeta, calmMetaPhase, type ExitStrategy, toObserver } from "@cee/exit-policies";
import type { ProgressLine } from "../glue/progress.js";
import type { GenerationOptions } from "./options.js";

/** Settings by preset; `paper` is what the released code for LLaMA says, `small` is for decoders of a laptop. */
export const presets = {
  small: {
    template: "brief",
    lossOn: "response",
    initialise: { epochs: 10, batchSize: 16, learningRate: 3e-3, warmup: 0.05 },
    /** Of a decoder that knows texts already. */
    finetune: { epochs: 2, batchSize: 16, learningRate: 1e-3, warmup: 0.05 },
    policy: { epochs: 4, batchSize: 256, learningRate: 3e-3, warmup: 0 },
    task: { epochs: 1, batchSize: 16, learningRate: 3e-4, warmup: 0 },
    microBatch: undefined,
    objective: "exact",
    // Wide, since what a layer is worth depends on the texts: from nearly full depth to nearly the first layer.
    alphas: [3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8],
  },
  paper: {
    template: "alpaca",
    lossOn: "all",
    initialise: { epochs: 1, batchSize: 128, learningRate: 3e-4, warmup: 0.1 },
    finetune: { epochs: 1, batchSize: 128, learningRate: 3e-4, warmup: 0.1 },
    policy: { epochs: 1, batchSize: 4096, learningRate: 3e-4, warmup: 0 },
    task: { epochs: 1, batchSize: 128, learningRate: 3e-5, warmup: 0 },
    microBatch: 4,
    objective: "sampled",
    // The released code's three and larger ones: at those the vanilla reward hardly asks for speed.
    alphas: [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3],
  },
} as const;

export interface TrainingContext {
  readonly engine: Engine;
  readonly options: GenerationOptions;
  readonly isFresh: boolean;
  readonly train: readonly DecoderText[];
  readonly dev: readonly DecoderText[];
  readonly progress: ProgressLine;
  readonly signal: AbortSignal | undefined;
}

/** A strategy whose parameters were trained on a decoder's states. */
export interface TrainedStrategy {
  readonly decoder: CausalDecoder;
  readonly strategy: ExitStrategy;
  readonly strategyParams: HostParams;
}

/** Step 1, which all methods share: every exit on the weighted loss. */
export async function trainExits(
  context: TrainingContext,
  decoder: CausalDecoder,
): Promise<CausalDecoder> {
  const { options, isFresh } = context;
  const { initialise, finetune } = presets[options.preset];
  const settings = isFresh ? initialise : finetune;
  const phase = initialisePhase(
    { ...settings, epochs: options.epochs ?? settings.epochs },
    initialisedParts({ heads: decoder.heads, lora: usesLora(options) }),
  );
  const fitted = await run(context, "exits", decoder, {
    *plan() {
      yield phase;
    },
  });
  return fitted.decoder;
}

/** ConsistentEE's policies at one alpha, from the decoder that step 1 left. */
export async function trainPolicies(
  context: TrainingContext,
  decoder: CausalDecoder,
  alpha: number,
): Promise<TrainedStrategy> {
  const { objective, policy, task } = presets[context.options.preset];
  const settings: ConsistentEEInput = {
    preset: "small",
    alpha,
    objective,
    policy,
    task,
    initialised: true,
    ...(objective === "sampled"
      ? // Deviates from the released code: its decay counts layers of batches; 32 of them are one step here.
        { samples: 4, epsilonStart: 0.1, epsilonEnd: 0, epsilonDecay: 20_000 / 32 }
      : {}),
  };
  const strategy = consistentEEDecoder();
  const fitted = await run(context, `policies-${alpha}`, decoder, {
    strategy,
    plan: () =>
      consistentEEDecoderPlan(decoder.shape, decoderOptions(settings), {
        heads: decoder.heads,
        lora: false,
      }),
  });
  return { decoder: fitted.decoder, strategy, strategyParams: fitted.strategyParams };
}

/** CALM's early-exit classifier. */
export async function trainMeta(
  context: TrainingContext,
  decoder: CausalDecoder,
): Promise<TrainedStrategy> {
  const strategy = calmMeta();
  const fitted = await run(context, "early-exit-classifier", decoder, {
    strategy,
    *plan() {
      yield calmMetaPhase();
    },
  });
  return { decoder, strategy, strategyParams: fitted.strategyParams };
}

export function usesLora({ lora, preset }: GenerationOptions): boolean {
  return lora || preset === "paper";
}

async function run(
  { engine, options, train, dev, progress, signal }: TrainingContext,
  name: string,
  decoder: CausalDecoder,
  {
    plan,
    strategy,
  }: Pick<Parameters<typeof fitDecoder>[0], "plan"> & { readonly strategy?: ExitStrategy },
): Promise<FittedDecoder> {
  const params = strategy?.definition.params?.(decoder.shape, strategy.options, options.seed) ?? {};
  const { microBatch } = presets[options.preset];
  return fitDecoder({
    engine,
    decoder,
    plan,
    ...(strategy ? { strategyParams: params, observer: toObserver(strategy, params) } : {}),
    ...(name === "exits" && usesLora(options) ? { lora: {} } : {}),
    train,
    dev,
    seed: options.seed,
    ...(microBatch === undefined ? {} : { microBatch }),
    recordBatch: 32,
    out: path.join(options.out, "trainings", name),
    onProgress: ({ phase, epoch, epochs, step, steps, loss }) =>
      progress.update(
        `${name}: ${phase}, epoch ${epoch} of ${epochs}, step ${step} of ${steps}, loss ${loss.toFixed(3)}`,
      ),
    onRecording: (done, total) => progress.update(`${name}: recording ${done} of ${total} texts`),
    log: (line) => progress.print(line),
    ...(signal ? { signal } : {}),
  });
}

/** @file The points of every method's curve, with what has to be trained for them. */
import type { CausalDecoder } from "@cee/backbone";
import type { CausalLM } from "@cee/consistentee";
import {
  alwaysAt,
  calm,
  calmMeta,
  calmState,
  type ExitStrategy,
  shallowDeep,
} from "@cee/exit-policies";
import type { DecodingPoint } from "./decode.js";
import type { GenerationMethod, GenerationOptions } from "./options.js";
import { presets, type TrainingContext, trainMeta, trainPolicies } from "./train.js";

export const titles: Readonly<Record<GenerationMethod, string>> = {
  full: "Full depth",
  calm: "CALM, softmax",
  "calm-state": "CALM, state",
  "calm-meta": "CALM, classifier",
  consistentee: "ConsistentEE",
  free: "FREE's rule",
  "self-speculative": "Self-speculative",
};

/** What skipped layers get where a method leaves no choice. */
export const ownKeyValues: Readonly<Partial<Record<GenerationMethod, "recompute" | "verify">>> = {
  free: "recompute",
  "self-speculative": "verify",
};

const THRESHOLDS = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
const COSINES = [0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 1];
/** What a curve is decoded with. */
export interface PointSetting {
  readonly options: GenerationOptions;
  readonly context: TrainingContext;
  readonly maxNewTokens: number;
}

export type Open = (
  decoder: CausalDecoder,
  strategy: ExitStrategy,
  more?: object,
) => Promise<CausalLM>;

/** The points of a method's curve, with what has to be trained for them. */
export async function pointsOf(
  run: PointSetting,
  shared: CausalDecoder,
  method: GenerationMethod,
  open: Open,
): Promise<DecodingPoint[]> {
  const { maxNewTokens: maxLength, options, context } = run;
  const sweep = (
    model: CausalLM,
    create: (value: number) => ExitStrategy,
    name: string,
    values: readonly number[],
  ) =>
    values.map(
      (value): DecodingPoint => ({
        knob: { name, value },
        model,
        generate: generateOf(run, create(value)),
      }),
    );
  switch (method) {
    case "full":
      return [];
    case "calm": {
      const create = (threshold: number) => calm({ threshold, maxLength });
      return sweep(await open(shared, create(1)), create, "threshold", THRESHOLDS);
    }
    case "calm-state": {
      // The paper's comparison has a constant threshold here.
      const create = (threshold: number) => calmState({ threshold, decay: "none", maxLength });
      return sweep(await open(shared, create(1)), create, "threshold", COSINES);
    }
    case "calm-meta": {
      const { strategyParams } = await trainMeta(context, shared);
      const create = (threshold: number) => calmMeta({ threshold, maxLength });
      const model = await open(shared, create(1), { strategyParams });
      return sweep(model, create, "threshold", THRESHOLDS);
    }
    case "consistentee": {
      const points: DecodingPoint[] = [];
      for (const alpha of presets[options.preset].alphas) {
        const { decoder, strategy, strategyParams } = await trainPolicies(context, shared, alpha);
        const model = await open(decoder, strategy, { strategyParams });
        points.push({
          knob: { name: "alpha", value: alpha },
          model,
          generate: generateOf(run, strategy),
        });
      }
      return points;
    }
    case "free": {
      const layer = Math.max(1, Math.round(shared.shape.depth / 3));
      const create = (threshold: number) => shallowDeep({ layer, threshold });
      const model = await open(shared, create(1), { exits: [layer] });
      return sweep(model, create, "threshold", THRESHOLDS).map((point) => ({
        ...point,
        generate: { ...point.generate, keyValues: "recompute" },
      }));
    }
    case "self-speculative": {
      const points: DecodingPoint[] = [];
      for (let layer = 1; layer < shared.shape.depth; layer += 1) {
        const strategy = alwaysAt({ layer });
        const model = await open(shared, strategy, { exits: [layer] });
        const generate = { ...generateOf(run, strategy), keyValues: "verify" as const };
        points.push({ knob: { name: "layer", value: layer }, model, generate });
      }
      return points;
    }
  }
}

/** How many points {@link pointsOf} makes, and full depth its one. */
export function pointCount(
  method: GenerationMethod,
  { preset }: GenerationOptions,
  depth: number,
): number {
  switch (method) {
    case "full":
      return 1;
    case "calm-state":
      return COSINES.length;
    case "consistentee":
      return presets[preset].alphas.length;
    case "self-speculative":
      return depth - 1;
    default:
      return THRESHOLDS.length;
  }
}

export function generateOf(
  { maxNewTokens, options }: Pick<PointSetting, "maxNewTokens" | "options">,
  strategy: ExitStrategy | undefined,
) {
  return { maxNewTokens, keyValues: options.keyValues, ...(strategy ? { strategy } : {}) };
}

export function threadsOf({ threads }: GenerationOptions) {
  return { threads: threads ?? 1 };
}

/**
 * @file FREE as a whole: shallow-deep exits, keys and values of skipped layers computed together when a token goes deep,
 * and a threshold that each text's comparisons of shallow with deep tokens move.
 * @see Bae et al. 2023, sections 4.2 and 4.3
 */
import {
  type GeneratedToken,
  type GenerateTokensOptions,
  type GenerationStats,
  generateTokens,
  shallowDeep,
  type TokenPrompt,
  type TokenRunner,
} from "@cee/exit-policies";
import type { AdaptiveThreshold } from "./adaptive-threshold.js";

export interface FreeOptions extends Omit<GenerateTokensOptions, "strategy" | "keyValues"> {
  /** The layer where tokens may leave; the runner must have been opened for `shallowDeep`. */
  readonly layer: number;
  /** Gives each text its threshold and learns from it. */
  readonly threshold: AdaptiveThreshold;
}

export interface FreeText {
  readonly tokens: readonly GeneratedToken[];
  /** What the text was decided with. */
  readonly threshold: number;
  readonly stats: GenerationStats;
}

/** Generates behind the prompts, one after the other, since each text's threshold stands on the ones before. */
export async function* generateFree(
  runner: TokenRunner,
  prompts: readonly TokenPrompt[],
  { layer, threshold: adaptive, onDeep, ...options }: FreeOptions,
): AsyncGenerator<FreeText, void> {
  for (const prompt of prompts) {
    const threshold = adaptive.next();
    const tokens: GeneratedToken[] = [];
    const loop = generateTokens(runner, [prompt], {
      ...options,
      strategy: shallowDeep({ layer, threshold }),
      keyValues: "recompute",
      onDeep(comparison) {
        const { observed, shallowToken, deepToken } = comparison;
        adaptive.add(observed[0] as number, shallowToken === deepToken);
        onDeep?.(comparison);
      },
    });
    let step = await loop.next();
    for (; !step.done; step = await loop.next()) tokens.push(step.value);
    yield { tokens, threshold, stats: step.value };
  }
}

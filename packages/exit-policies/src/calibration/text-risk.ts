/**
 * @file CALM's calibration: the fastest threshold at which early texts stay close to full-depth ones, by Learn then Test.
 * @see Schuster et al. 2022, section 4
 */
import { ExitStrategyError } from "../errors.js";
import { isSupported, type TestedCandidate } from "./learn-then-test.js";
import { hoeffdingPValue } from "./p-values.js";

export interface TextRiskOptions {
  /** `delta` in the paper: the mean loss may be this much. */
  readonly tolerance: number;
  /** 1 minus the paper's `epsilon`. @default 0.95 */
  readonly confidence?: number;
  /** Candidates from the safest on; the order must not depend on the losses. */
  readonly thresholds: readonly number[];
  /** Each calibration prompt's loss in `[0, 1]` at a threshold; called only as far as thresholds pass. */
  lossesAt(threshold: number): Promise<readonly number[]> | readonly number[];
}

export interface TextRiskResult {
  /** `undefined` where not even the safest candidate passes: stay at full depth. */
  readonly threshold: number | undefined;
  readonly tested: readonly (TestedCandidate & {
    readonly threshold: number;
    readonly prompts: number;
  })[];
}

/**
 * Textual consistency: what an early text lost against the full-depth text of the same prompt, whatever the right answer
 * is. `similarity` is in `[0, 1]`, such as ROUGE-L or a token F1.
 */
export function textualLoss<TText>(
  early: TText,
  full: TText,
  similarity: (candidate: TText, reference: TText) => number,
): number {
  return 1 - similarity(early, full);
}

/** Risk consistency: how much worse than the full-depth text an early one is against a reference; 0 where it is better. */
export function riskLoss<TText>(
  early: TText,
  full: TText,
  reference: TText,
  risk: (candidate: TText, reference: TText) => number,
): number {
  return Math.max(0, risk(early, reference) - risk(full, reference));
}

/**
 * Tests thresholds in order and gives the last before the first that fails: with probability `confidence` over the
 * prompts, the expected loss at it is at most `tolerance`. Prompts must not be used to measure the result again.
 * @throws ExitStrategyError `INVALID_OPTIONS`, `BAD_RECORD` for a loss outside `[0, 1]`
 */
export async function calibrateTextRisk({
  tolerance,
  confidence = 0.95,
  thresholds,
  lossesAt,
}: TextRiskOptions): Promise<TextRiskResult> {
  for (const [name, value] of Object.entries({ tolerance, confidence }))
    if (!(value > 0 && value < 1))
      throw new ExitStrategyError(
        "INVALID_OPTIONS",
        "calibrateTextRisk",
        `${name} must be above 0 and below 1, got ${value}.`,
      );
  const tested: TextRiskResult["tested"][number][] = [];
  for (const threshold of thresholds) {
    const losses = await lossesAt(threshold);
    const bad = losses.find((loss) => !(loss >= 0 && loss <= 1));
    if (bad !== undefined || losses.length === 0)
      throw new ExitStrategyError(
        "BAD_RECORD",
        "calibrateTextRisk",
        `losses at ${threshold} must be one number from 0 to 1 per prompt, got ${bad ?? "none"}.`,
      );
    const meanLoss = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    const pValue = hoeffdingPValue(meanLoss, losses.length, tolerance);
    const hasPassed = isSupported(pValue, confidence);
    tested.push({ threshold, prompts: losses.length, meanLoss, pValue, hasPassed });
    if (!hasPassed) break;
  }
  return { threshold: tested.filter(({ hasPassed }) => hasPassed).at(-1)?.threshold, tested };
}

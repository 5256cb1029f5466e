/**
 * @file FREE's adaptive threshold: two Beta distributions over the confidences of tokens that full depth confirmed and of
 * those it did not, and the lowest threshold from which a token is rather confirmed.
 * @see Bae et al. 2023, section 4.3
 */
export interface Beta {
  readonly a: number;
  readonly b: number;
}

export interface AdaptiveThresholdOptions {
  /** Used before any comparison. @default 0.9 */
  readonly initial?: number;
  /** `zeta` in the paper: share of the confirmed component that a threshold needs. @default 0.4 */
  readonly zeta?: number;
  /** Sequences that update the estimate; later ones keep it. @default 300 */
  readonly maxUpdates?: number;
}

const FLOOR = 1e-4;
/** What the released code multiplies labels with before the floor; it hardly moves the fit. */
const LABEL_WEIGHT = 0.2;
/** .3, .3667, …, .9 */
const GRID = Array.from({ length: 10 }, (_, index) => 0.3 + (0.6 * index) / 9);

/** Collects comparisons of shallow with full-depth tokens, and gives each sequence its threshold. */
export class AdaptiveThreshold {
  readonly #zeta: number;
  readonly #maxUpdates: number;
  readonly #confidences: number[] = [];
  readonly #confirmed: number[] = [];
  #threshold: number;
  #updates = 0;

  constructor({ initial = 0.9, zeta = 0.4, maxUpdates = 300 }: AdaptiveThresholdOptions = {}) {
    this.#threshold = initial;
    this.#zeta = zeta;
    this.#maxUpdates = maxUpdates;
  }

  /** A token that left early with this confidence, and whether full depth gives the same one. */
  add(confidence: number, isConfirmed: boolean): void {
    this.#confidences.push(confidence);
    this.#confirmed.push(Number(isConfirmed));
  }

  /** The threshold of the next sequence. */
  next(): number {
    if (this.#updates < this.#maxUpdates && this.#confidences.length > 1) {
      this.#updates += 1;
      this.#threshold = estimateThreshold(this.#confidences, this.#confirmed, this.#zeta).threshold;
    }
    return this.#threshold;
  }
}

/** The two fits and the threshold of some comparisons; `confirmed` holds 0 and 1. */
export function estimateThreshold(
  confidences: readonly number[],
  confirmed: readonly number[],
  zeta = 0.4,
): { readonly refuted: Beta; readonly confirmed: Beta; readonly threshold: number } {
  const x = confidences.map((value) => Math.min(1 - FLOOR, Math.max(FLOOR, value)));
  const weights = (label: number) =>
    confirmed.map((value) => Math.max(FLOOR, LABEL_WEIGHT * Number(value === label)));
  const [no, yes] = [fit(x, weights(0)), fit(x, weights(1))];
  // Deviates from the released code: the component of confirmed tokens is the one with their label, not the one with the
  // larger mean, which turns the rule round where confident tokens are the wrong ones.
  const passes = GRID.filter((point) => {
    const [p, q] = [density(yes, point), density(no, point)];
    return p / (p + q) > zeta;
  }).length;
  const index = Math.min(GRID.length - 1, Math.max(0, GRID.length - passes));
  return { refuted: no, confirmed: yes, threshold: GRID[index] as number };
}

/** A Beta distribution by weighted moments. */
function fit(x: readonly number[], weights: readonly number[]): Beta {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const mean = x.reduce((sum, value, index) => sum + value * (weights[index] as number), 0) / total;
  const spread = x.reduce(
    (sum, value, index) => sum + (weights[index] as number) * (value - mean) ** 2,
    0,
  );
  // Equal confidences have no spread; a tiny one keeps the fit a narrow peak.
  const variance = Math.max(spread / total, 1e-8);
  const a = Math.max(FLOOR, mean * ((mean * (1 - mean)) / variance - 1));
  return { a, b: (a * (1 - mean)) / mean };
}

function density({ a, b }: Beta, x: number): number {
  const log = (a - 1) * Math.log(x) + (b - 1) * Math.log1p(-x);
  return Math.exp(log + logGamma(a + b) - logGamma(a) - logGamma(b));
}

/** Lanczos's approximation with g = 7, accurate to about 15 digits for x > 0. */
function logGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const coefficients = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
    -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
    1.5056327351493116e-7,
  ];
  const shifted = x - 1;
  const base = shifted + 7.5;
  const series = coefficients.reduce(
    (sum, coefficient, index) =>
      index === 0 ? coefficient : sum + coefficient / (shifted + index),
    0,
  );
  return 0.5 * Math.log(2 * Math.PI) + (shifted + 0.5) * Math.log(base) - base + Math.log(series);
}

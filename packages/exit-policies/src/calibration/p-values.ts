/**
 * @file P-values against "the mean loss is above the limit", valid at every sample size and for every distribution.
 *
 * n = rows, k = rows with loss 1, a = the limit that the mean loss is tested against.
 * @see Angelopoulos, Bates, Candès, Jordan, Lei 2021 (Learn then Test), section 3.1; Bates et al. 2021 (Hoeffding-Bentkus)
 */

/** `P(Bin(n, a) <= k)`: exact where every row's loss is 0 or 1. */
export function binomialPValue(k: number, n: number, limit: number): number {
  if (n === 0 || limit <= 0) return 1;
  if (limit >= 1) return k >= n ? 1 : 0;
  return Math.min(1, binomialCdf(k, n, limit));
}

/** For losses anywhere in `[0, 1]`: the smaller of Hoeffding's bound (its relative entropy form) and Bentkus's. */
export function hoeffdingBentkusPValue(meanLoss: number, n: number, limit: number): number {
  if (n === 0 || limit <= 0) return 1;
  if (limit >= 1) return meanLoss >= 1 ? 1 : 0;
  const hoeffding = Math.exp(-n * relativeEntropy(Math.min(meanLoss, limit), limit));
  // Rounding may lift a sum of losses that is a whole number just above it.
  const bentkus = Math.E * binomialCdf(Math.ceil(n * meanLoss - 1e-9), n, limit);
  return Math.min(1, hoeffding, bentkus);
}

/** Hoeffding's bound in its plain form, as CALM uses it; weaker than {@link hoeffdingBentkusPValue}. */
export function hoeffdingPValue(meanLoss: number, n: number, limit: number): number {
  return Math.exp(-2 * n * Math.max(0, limit - meanLoss) ** 2);
}

/** Rows below which not even a sample without any loss could support the limit at this confidence. */
export function rowsNeeded(limit: number, confidence: number): number {
  if (limit <= 0) return Number.POSITIVE_INFINITY;
  if (limit >= 1) return 1;
  const n = Math.ceil(Math.log(1 - confidence) / Math.log(1 - limit));
  // The quotient may round across a whole number.
  return (1 - limit) ** (n - 1) <= 1 - confidence ? Math.max(1, n - 1) : Math.max(1, n);
}

/** Exact (Clopper-Pearson) interval of a share: `k` of `n`, with `confidence` split evenly on both sides. */
export function shareInterval(
  k: number,
  n: number,
  confidence: number,
): { readonly lower: number; readonly upper: number } {
  if (n === 0) return { lower: 0, upper: 1 };
  const tail = (1 - confidence) / 2;
  return {
    // P(Bin(n, lower) >= k) = tail
    lower: k === 0 ? 0 : bisect((share) => 1 - binomialCdf(k - 1, n, share) - tail),
    // P(Bin(n, upper) <= k) = tail
    upper: k === n ? 1 : bisect((share) => tail - binomialCdf(k, n, share)),
  };
}

/** `P(Bin(n, share) <= k)`, summed from its largest term so that nothing underflows. */
export function binomialCdf(k: number, n: number, share: number): number {
  if (k < 0) return 0;
  if (k >= n) return 1;
  if (share <= 0) return 1;
  if (share >= 1) return 0;
  // Sums the shorter-lived side: terms fall away from the mode.
  const mode = Math.floor((n + 1) * share);
  if (k < mode) return sumDown(k, n, share);
  return Math.max(0, 1 - sumUp(k + 1, n, share));
}

/** Sum of the terms k, k - 1, …, 0, which fall where k lies below the mode. */
function sumDown(k: number, n: number, share: number): number {
  const odds = share / (1 - share);
  let term = Math.exp(logTerm(k, n, share));
  let sum = term;
  for (let index = k; index > 0 && term > sum * 1e-17; index -= 1) {
    term *= index / ((n - index + 1) * odds);
    sum += term;
  }
  return sum;
}

/** Sum of the terms k, k + 1, …, n, which fall where k lies above the mode. */
function sumUp(k: number, n: number, share: number): number {
  const odds = share / (1 - share);
  let term = Math.exp(logTerm(k, n, share));
  let sum = term;
  for (let index = k; index < n && term > sum * 1e-17; index += 1) {
    term *= ((n - index) * odds) / (index + 1);
    sum += term;
  }
  return sum;
}

function logTerm(k: number, n: number, share: number): number {
  return (
    logFactorial(n) -
    logFactorial(k) -
    logFactorial(n - k) +
    k * Math.log(share) +
    (n - k) * Math.log1p(-share)
  );
}

/** Exact products up to 170!, Stirling's series beyond (its error is below 1e-15 there). */
function logFactorial(n: number): number {
  if (n < 2) return 0;
  if (n <= 170) {
    let product = 1;
    for (let factor = 2; factor <= n; factor += 1) product *= factor;
    return Math.log(product);
  }
  const inverse = 1 / n;
  const square = inverse * inverse;
  const series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260)));
  return n * Math.log(n) - n + 0.5 * Math.log(2 * Math.PI * n) + series;
}

/** Relative entropy of two coins, in nats. */
function relativeEntropy(a: number, b: number): number {
  const part = (x: number, y: number) => (x === 0 ? 0 : x * Math.log(x / y));
  return part(a, b) + part(1 - a, 1 - b);
}

/** The root in `[0, 1]` of a function that grows from below 0 to above. */
function bisect(f: (x: number) => number): number {
  let [low, high] = [0, 1];
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2;
    if (f(middle) > 0) high = middle;
    else low = middle;
  }
  return (low + high) / 2;
}

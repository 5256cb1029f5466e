/**
 * @file Exits drawn at random: what a rule must beat that claims to look at its input. N = rows, L = depth.
 */
import { createRng } from "@cee/engine";
import { ExitStrategyError } from "@cee/exit-policies";

export interface RandomExitOptions {
  readonly depth: number;
  /** Mean exit layer to match, from 1 to `depth`. */
  readonly meanExitLayer: number;
  readonly seed: number | string;
}

/**
 * Draws an exit layer for each of `rows` rows, independent of what the row says, shape `[N]`.
 *
 * Layers follow the distribution on 1..L that has the wanted mean and is otherwise as even as it can be (maximum entropy:
 * the share of layer t is proportional to `exp(r t)`); at the mean (L + 1) / 2 all layers are equally likely. Counts are
 * quantiles of it and not draws, so that the mean is met to within half a layer over the number of rows; the seed says
 * which row gets which.
 * @throws ExitStrategyError `INVALID_OPTIONS` for a mean that no exits can have
 */
export function randomExitLayers(
  rows: number,
  { depth, meanExitLayer, seed }: RandomExitOptions,
): Int32Array {
  if (!(meanExitLayer >= 1 && meanExitLayer <= depth))
    throw new ExitStrategyError(
      "INVALID_OPTIONS",
      "random exits",
      `the mean exit layer must lie from 1 to ${depth}, got ${meanExitLayer}. Choose one that the model can have.`,
    );
  const exits = quota(rows, evenShares(depth, meanExitLayer));
  return createRng(seed).fork(`random-exits/${meanExitLayer}`).shuffle(exits);
}

/** Gives a method's own exits to other rows: the same histogram, so exactly its mean exit layer; shape `[N]`. */
export function shuffledExitLayers(
  exitLayers: ArrayLike<number>,
  seed: number | string,
): Int32Array {
  return createRng(seed).fork("shuffled-exits").shuffle(Int32Array.from(exitLayers));
}

/** Shares of the layers 1..depth: of all with this mean the most even ones. */
export function evenShares(depth: number, mean: number): Float64Array {
  if (mean <= 1) return Float64Array.from({ length: depth }, (_, index) => (index === 0 ? 1 : 0));
  if (mean >= depth)
    return Float64Array.from({ length: depth }, (_, index) => (index === depth - 1 ? 1 : 0));
  const sharesAt = (rate: number): Float64Array => {
    // The largest exponent is taken off, so that none overflows.
    const top = Math.max(rate, rate * depth);
    const raw = Float64Array.from({ length: depth }, (_, index) =>
      Math.exp(rate * (index + 1) - top),
    );
    const total = raw.reduce((sum, value) => sum + value, 0);
    return raw.map((value) => value / total);
  };
  const meanOf = (shares: Float64Array) =>
    shares.reduce((sum, share, index) => sum + share * (index + 1), 0);
  let [low, high] = [-50, 50];
  for (let step = 0; step < 100; step += 1) {
    const middle = (low + high) / 2;
    if (meanOf(sharesAt(middle)) < mean) low = middle;
    else high = middle;
  }
  return sharesAt((low + high) / 2);
}

/** Layers in whole rows whose sum is nearest to what the shares say. */
function quota(rows: number, shares: Float64Array): Int32Array {
  const depth = shares.length;
  const exits = new Int32Array(rows);
  let [layer, below] = [1, 0];
  for (let row = 0; row < rows; row += 1) {
    const quantile = (row + 0.5) / rows;
    while (layer < depth && below + (shares[layer - 1] as number) <= quantile) {
      below += shares[layer - 1] as number;
      layer += 1;
    }
    exits[row] = layer;
  }
  // Quantiles may miss the mean by up to half a layer per step of the distribution: mend it row by row.
  const target = Math.round(
    rows * shares.reduce((sum, share, index) => sum + share * (index + 1), 0),
  );
  let sum = exits.reduce((total, exit) => total + exit, 0);
  for (let row = rows - 1; sum < target && row >= 0; row -= 1)
    if ((exits[row] as number) < depth) {
      exits[row] = (exits[row] as number) + 1;
      sum += 1;
    }
  for (let row = 0; sum > target && row < rows; row += 1)
    if ((exits[row] as number) > 1) {
      exits[row] = (exits[row] as number) - 1;
      sum -= 1;
    }
  return exits;
}

/** @file What the decoding benchmark measured, in words. */
import { barLines } from "../bars.js";
import type { DecodeBenchResult } from "./decode-bench.js";

export function describeDecodeBench(result: DecodeBenchResult): string {
  const { settings, perToken, tokensPerSecond, transformers, parts, forced, exitTests } = result;
  const { depth, width, vocabulary, runtime } = settings;
  const percent = (value: number) => `${value > 1 ? "+" : ""}${(100 * (value - 1)).toFixed(1)}`;
  const { layer, head, fill, growth, copied } = parts;
  return [
    `Decoder: ${depth}x${width}, ${vocabulary} pieces, batch 1, ${runtime}`,
    `Full depth, one graph: ${perToken.toFixed(2)} ms per token, ${tokensPerSecond.toFixed(0)} tokens/s`,
    ...(transformers
      ? [
          `Transformers.js ${transformers.version}: ${transformers.perToken.toFixed(2)} ms per token; its time over ours ${transformers.gain.estimate.toFixed(2)} (${transformers.gain.low.toFixed(2)} to ${transformers.gain.high.toFixed(2)})`,
        ]
      : []),
    `One layer by itself ${layer.toFixed(3)} ms, the head ${head.toFixed(3)} ms, filling all layers above the first ${fill.toFixed(3)} ms`,
    ...forced.map(
      ({ meanExitLayer, measured, predicted, ratio }) =>
        `Forced mean exit depth ${meanExitLayer.toFixed(2)} of ${depth}: ${measured.toFixed(2)} ms per token, predicted ${predicted.toFixed(2)}, off by ${percent(ratio.estimate)} % (${percent(ratio.low)} to ${percent(ratio.high)})`,
    ),
    ...Object.entries(exitTests).map(
      ([name, share]) =>
        `Exit test of ${name}: ${share > 0 ? `${(100 * share).toFixed(0)} % of a layer, at every exit` : "less than the noise of this run"}`,
    ),
    `Cache copies: none to run a layer; growing copies ${(copied / 1024).toFixed(0)} KiB per token, ${growth.toFixed(3)} ms, ${((100 * growth) / layer).toFixed(1)} % of a layer`,
    ...result.notes,
    ...barLines(result.bars),
    "",
  ].join("\n");
}

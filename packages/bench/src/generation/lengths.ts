/** @file How long texts and responses may be, and what of them is learned. */
import type { CausalDecoder } from "@cee/backbone";
import { BenchError } from "../errors.js";
import type { GenerationOptions } from "./options.js";
import { presets } from "./train.js";

/** Tokens per training text and per response. @throws BenchError `BAD_OPTION` */
export function lengthsOf(
  { maxLength, maxNewTokens, preset }: GenerationOptions,
  { config }: Pick<CausalDecoder, "config">,
) {
  const positions = config.maxPositions;
  const wanted = preset === "paper" ? 256 : Math.min(positions, 320);
  const most = maxNewTokens ?? (preset === "paper" ? 128 : Math.min(64, Math.floor(positions / 4)));
  if ((maxLength ?? 0) > positions || most >= positions)
    throw new BenchError(
      "BAD_OPTION",
      (maxLength ?? 0) > positions ? "--max-length" : "--max-new-tokens",
      `the model has ${positions} positions, got ${(maxLength ?? 0) > positions ? maxLength : most}.`,
    );
  return { maxLength: maxLength ?? Math.min(wanted, positions), maxNewTokens: most };
}

/** Prompt template, and what of a text is learned. */
export function textOptions({ preset, lossOn }: GenerationOptions) {
  const { template, lossOn: usual } = presets[preset];
  return { template, lossOn: lossOn ?? usual };
}

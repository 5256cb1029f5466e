/** @file A trained TR-BERT model as a folder. */
import { BackboneError, type ExitEncoder, type LoadExitEncoderOptions } from "@cee/backbone";
import type { HostParams } from "@cee/engine";
import * as v from "valibot";
import { loadMethod, saveMethod } from "../method-folder.js";
import { type TrBertOptions, trBertOptions, trBertSchema } from "./options.js";
import { trBertParams } from "./selector.js";

export interface SavedTrBert {
  /** Its `params` hold the selectors too, as `strategy.*`. */
  readonly encoder: ExitEncoder;
  readonly options: TrBertOptions;
}

/** @throws BackboneError `WRITE_FAILED` */
export function saveTrBert(folder: string, { encoder, options }: SavedTrBert): Promise<void> {
  return saveMethod(folder, "tr-bert", {
    encoders: { encoder },
    options,
    params: selectorsOf(encoder.params),
  });
}

/** @throws BackboneError `MISSING_FILE`, `BAD_FILE`, and what loading an encoder gives */
export async function loadTrBert(
  folder: string,
  load: LoadExitEncoderOptions = {},
): Promise<SavedTrBert> {
  const { encoders, options, params } = await loadMethod(folder, "tr-bert", ["encoder"], load);
  const complain = (what: string): never => {
    throw new BackboneError("BAD_FILE", folder, what);
  };
  const parsed = v.safeParse(trBertSchema, options);
  if (!parsed.success)
    return complain(`holds options that TR-BERT does not have: ${v.summarize(parsed.issues)}.`);
  const { encoder } = encoders;
  for (const [path, { shape }] of Object.entries(trBertParams(encoder, parsed.output, 0)))
    if (String(params[path]?.shape) !== String(shape))
      complain(
        `${path} must be [${shape.join(", ")}], got ${params[path] ? `[${params[path].shape.join(", ")}]` : "nothing"}. Save the method again.`,
      );
  return {
    encoder: { ...encoder, params: { ...encoder.params, ...selectorsOf(params) } },
    options: trBertOptions(parsed.output),
  };
}

function selectorsOf(params: HostParams): HostParams {
  return Object.fromEntries(
    Object.entries(params).filter(([path]) => path.startsWith("strategy.selector")),
  );
}

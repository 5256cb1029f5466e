/** @file A trained HashEE model as a folder. V = vocabulary. */
import { BackboneError, type ExitEncoder, type LoadExitEncoderOptions } from "@cee/backbone";
import * as v from "valibot";
import { loadMethod, saveMethod } from "../method-folder.js";
import { refuseMap } from "./open.js";
import { type HashEeOptions, hashEeOptions, hashEeSchema } from "./options.js";
import type { TokenMap } from "./token-map.js";

export interface SavedHashEe {
  readonly encoder: ExitEncoder;
  readonly map: TokenMap;
  readonly options: HashEeOptions;
}

/** @throws BackboneError `WRITE_FAILED` */
export function saveHashEe(folder: string, { encoder, map, options }: SavedHashEe): Promise<void> {
  const table = { dtype: "float32", shape: [map.length], data: Float32Array.from(map) } as const;
  return saveMethod(folder, "hashee", { encoders: { encoder }, options, params: { map: table } });
}

/** @throws BackboneError `MISSING_FILE`, `BAD_FILE`, and what loading an encoder gives */
export async function loadHashEe(
  folder: string,
  load: LoadExitEncoderOptions = {},
): Promise<SavedHashEe> {
  const { encoders, options, params } = await loadMethod(folder, "hashee", ["encoder"], load);
  const parsed = v.safeParse(hashEeSchema, options);
  if (!parsed.success || params.map?.shape.length !== 1)
    throw new BackboneError(
      "BAD_FILE",
      folder,
      parsed.success
        ? "holds no map of tokens. Save the method again."
        : `holds options that HashEE does not have: ${v.summarize(parsed.issues)}.`,
    );
  const map = Int32Array.from(params.map.data);
  refuseMap(folder, map, parsed.output.maxLayer - 1);
  return { encoder: encoders.encoder, map, options: hashEeOptions(parsed.output) };
}

/** @file A method of one or several encoders as a folder: each encoder in its own, `method.json`, and own parameters. */
import { createHash } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  BackboneError,
  type ExitEncoder,
  type LoadExitEncoderOptions,
  loadExitEncoder,
  readJson,
  readSafetensors,
  saveExitEncoder,
  toJsonText,
  writeAtomically,
  writeSafetensors,
} from "@cee/backbone";
import type { HostParams } from "@cee/engine";
import * as v from "valibot";

const DESCRIPTION = "method.json";
const TENSORS = "method.safetensors";
const FORMAT = 1;

export interface MethodParts {
  /** By the names of their folders. */
  readonly encoders: Readonly<Record<string, ExitEncoder>>;
  /** JSON. */
  readonly options: Readonly<Record<string, unknown>>;
  /** The method's own parameters, float32. */
  readonly params?: HostParams;
}

const description = v.object({
  format: v.literal(FORMAT),
  method: v.string(),
  options: v.record(v.string(), v.unknown()),
  encoders: v.array(v.string()),
  tensors: v.nullable(v.string()),
});

/**
 * Writes the encoders first and the description last, so that a folder without one was never finished.
 * @throws BackboneError `WRITE_FAILED`
 */
export async function saveMethod(
  folder: string,
  method: string,
  { encoders, options, params }: MethodParts,
): Promise<void> {
  // Of an earlier save: with it, half of this one would pass for a whole.
  await rm(join(folder, DESCRIPTION), { force: true });
  for (const [name, encoder] of Object.entries(encoders))
    await saveExitEncoder(encoder, join(folder, name));
  const path = join(folder, TENSORS);
  if (params) writeSafetensors(path, params);
  const content: v.InferOutput<typeof description> = {
    format: FORMAT,
    method,
    options,
    encoders: Object.keys(encoders),
    tensors: params ? await digest(path) : null,
  };
  await writeAtomically(join(folder, DESCRIPTION), toJsonText(content));
}

/**
 * Reads what {@link saveMethod} wrote.
 * @throws BackboneError `MISSING_FILE`, `BAD_FILE`, and what loading an encoder gives
 */
export async function loadMethod<TName extends string>(
  folder: string,
  method: string,
  names: readonly TName[],
  load: LoadExitEncoderOptions = {},
): Promise<{
  readonly encoders: Readonly<Record<TName, ExitEncoder>>;
  readonly options: Readonly<Record<string, unknown>>;
  readonly params: HostParams;
}> {
  const path = join(folder, DESCRIPTION);
  const parsed = v.safeParse(description, await readJson(path));
  const fail = (what: string): never => {
    throw new BackboneError("BAD_FILE", path, `${what} Save the method again.`);
  };
  if (!parsed.success)
    return fail(`is not a description of a method: ${v.summarize(parsed.issues)}.`);
  const found = parsed.output;
  if (found.method !== method) fail(`holds the method "${found.method}", expected "${method}".`);
  const encoders: Record<string, ExitEncoder> = {};
  for (const name of names) {
    if (!found.encoders.includes(name)) fail(`names no encoder "${name}".`);
    encoders[name] = await loadExitEncoder(join(folder, name), load);
  }
  const tensors = join(folder, TENSORS);
  let params: HostParams = {};
  if (found.tensors !== null) {
    params = readSafetensors(tensors).tensors;
    if ((await digest(tensors)) !== found.tensors)
      throw new BackboneError(
        "BAD_FILE",
        tensors,
        `is not the file that ${DESCRIPTION} was written with. Save the method again.`,
      );
  }
  return { encoders: encoders as Record<TName, ExitEncoder>, options: found.options, params };
}

async function digest(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}

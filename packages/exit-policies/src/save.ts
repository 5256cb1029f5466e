/** @file A trained strategy as a folder: `exit-strategy.json` and `exit-strategy.safetensors`. */
import { ExitStrategyError } from "./errors.js";
import { badFile, isSize, parseJson, readWhole, writeWhole } from "./files.js";
import type { HostParams } from "./host-tensor.js";
import { checkApiVersion } from "./outcome.js";
import { shapeFrom } from "./record-file.js";
import type { StrategyRegistry } from "./registry.js";
import { decodeTensors, encodeTensors } from "./safetensors.js";
import { API_VERSION, type ExitStrategy, type ModelShape } from "./strategy.js";

const CONFIG = "exit-strategy.json";
const TENSORS = "exit-strategy.safetensors";

export interface TrainedStrategy {
  readonly strategy: ExitStrategy;
  /** By the names that the strategy's `params` gave them. */
  readonly params: HostParams;
  readonly modelShape: ModelShape;
  /** Names of the training phases that ran to their end. */
  readonly phasesCompleted: readonly string[];
  readonly seed: number;
  /** Where the strategy comes from, for people and for the loader of a command line. */
  readonly package?: { readonly name: string; readonly version: string };
}

/** Writes the folder. @throws ExitStrategyError `BAD_FILE`, `NOT_TRAINED` when parameters are missing or misshapen */
export async function saveStrategy(folder: string, trained: TrainedStrategy): Promise<void> {
  const { join } = await import("node:path");
  const { strategy, params, modelShape, phasesCompleted, seed } = trained;
  checkParams(folder, strategy, params, modelShape, seed, "NOT_TRAINED");
  const tensors = encodeTensors(join(folder, TENSORS), params);
  const config = {
    apiVersion: API_VERSION,
    name: strategy.name,
    ...(trained.package && { package: trained.package }),
    options: strategy.options,
    modelShape,
    phasesCompleted,
    seed,
    // Ties the two files to each other: a crash between writing them must not mix old and new.
    tensors: { sha256: await digest(tensors) },
  };
  await writeWhole(join(folder, TENSORS), [tensors]);
  const text = `${JSON.stringify(config, undefined, 2)}\n`;
  await writeWhole(join(folder, CONFIG), [new TextEncoder().encode(text)]);
}

/**
 * Reads a folder that {@link saveStrategy} wrote.
 * @throws ExitStrategyError `BAD_FILE` (a shape that does not fit names the tensor), `API_MISMATCH`, `UNKNOWN_STRATEGY`,
 * `INVALID_OPTIONS`
 */
export async function loadStrategy(
  folder: string,
  registry: StrategyRegistry,
): Promise<TrainedStrategy> {
  const { join } = await import("node:path");
  const path = join(folder, CONFIG);
  const config = parseJson(path, await readWhole(path));
  const { name, options, seed, phasesCompleted, package: source } = config;
  if (typeof name !== "string") throw badFile(path, `must give a name, got ${String(name)}.`);
  checkApiVersion(name, config.apiVersion);
  if (!isSize(seed)) throw badFile(path, `must give a seed, got ${String(seed)}.`);
  if (!Array.isArray(phasesCompleted) || !phasesCompleted.every((p) => typeof p === "string"))
    throw badFile(path, "must list phasesCompleted as strings.");
  const modelShape = shapeFrom(path, config.modelShape);
  const strategy = registry.createUnknown(name, options);
  const tensorsPath = join(folder, TENSORS);
  const bytes = await readWhole(tensorsPath);
  const wanted = (config.tensors as { sha256?: unknown } | undefined)?.sha256;
  if (wanted !== (await digest(bytes)))
    throw badFile(
      tensorsPath,
      `is not the file that ${CONFIG} was written with. Save the strategy again.`,
    );
  const params = decodeTensors(tensorsPath, bytes);
  checkParams(tensorsPath, strategy, params, modelShape, seed, "BAD_FILE");
  return {
    strategy,
    params,
    modelShape,
    phasesCompleted,
    seed,
    ...(isPackage(source) && { package: { name: source.name, version: source.version } }),
  };
}

/** Compares with what the strategy itself would create for this model. */
function checkParams(
  where: string,
  strategy: ExitStrategy,
  params: HostParams,
  shape: ModelShape,
  seed: number,
  code: "BAD_FILE" | "NOT_TRAINED",
): void {
  const wanted: HostParams = strategy.definition.params?.(shape, strategy.options, seed) ?? {};
  for (const name of new Set([...Object.keys(wanted), ...Object.keys(params)])) {
    const [expected, got] = [wanted[name], params[name]].map(
      (tensor) => tensor && `${tensor.dtype} [${tensor.shape.join(", ")}]`,
    );
    if (expected !== got)
      throw new ExitStrategyError(
        code,
        strategy.name,
        `the tensor "${name}" of ${where} must be ${expected ?? "absent"} for this model, got ${got ?? "none"}. ${code === "NOT_TRAINED" ? "Train the strategy first" : "Load it with the model and package it was saved with"}.`,
      );
  }
}

function isPackage(value: unknown): value is { readonly name: string; readonly version: string } {
  const { name, version } = (value ?? {}) as Record<string, unknown>;
  return typeof name === "string" && typeof version === "string";
}

async function digest(bytes: Uint8Array): Promise<string> {
  const { createHash } = await import("node:crypto");
  return createHash("sha256").update(bytes).digest("hex");
}

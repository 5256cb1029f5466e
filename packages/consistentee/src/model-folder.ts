/** @file A model with its exits and its strategy in one folder, and where a strategy passed by hand comes in. */
import { mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  EXITS_DESCRIPTION,
  type ExitEncoder,
  loadExitEncoder,
  saveExitEncoder,
} from "@cee/backbone";
import { type ResolveModelOptions, resolveModel } from "@cee/backbone/hub";
import {
  type AnyExitStrategyFactory,
  builtInStrategies,
  checkHost,
  createRegistry,
  defineExitStrategy,
  type ExitHead,
  type ExitStrategy,
  type HostParams,
  loadStrategy,
  type PhaseReport,
  saveStrategy,
  type TrainedStrategy,
} from "@cee/exit-policies";
import { consistentEE } from "./consistent-ee.js";
import { ConsistentEEError } from "./errors.js";
import {
  isFor,
  OPERATING_POINT_FILE,
  type OperatingPoint,
  readOperatingPoint,
  writeOperatingPoint,
} from "./operating-point.js";

const STRATEGY_FILES = ["exit-strategy.safetensors", "exit-strategy.json"] as const;
const STRATEGY_CONFIG = STRATEGY_FILES[1];
/** All that an early-exit model consists of. */
export interface EarlyExitParts {
  /** With trained heads; `params` may be all that `fit` returned. */
  readonly encoder: ExitEncoder;
  readonly strategy: ExitStrategy;
  /** The strategy's own, by the names that it gave them. @default the encoder's `strategy.*` parameters, without the prefix */
  readonly params?: HostParams;
  /** Of the training phases that ran; a strategy with parameters needs one. @default none */
  readonly reports?: readonly Pick<PhaseReport, "phase">[];
  /** What the training started from. @default 0 */
  readonly seed?: number;
  /** What `selectThreshold` chose for this strategy, with its guarantee. @default none */
  readonly operatingPoint?: OperatingPoint | undefined;
}

/** With every default filled in. */
export type CompleteParts = Required<Omit<EarlyExitParts, "operatingPoint">> &
  Pick<EarlyExitParts, "operatingPoint">;

export interface LoadPartsOptions {
  /**
   * The name of a built-in strategy, or a configured one, in place of the saved one. Where both have one name, the saved
   * parameters are kept.
   * @default the saved one
   */
  readonly strategy?: string | ExitStrategy;
  /** Strategies of other packages that the folder may name. */
  readonly moreStrategies?: readonly AnyExitStrategyFactory[];
  /** Exit heads of other packages that the folder may name. */
  readonly moreHeads?: readonly ExitHead[];
  /** How a model that is not a folder is downloaded. */
  readonly hub?: ResolveModelOptions;
}

/**
 * Writes a folder that `EarlyExitModel.fromPretrained` reads; Hugging Face's classes read it as a full-depth model.
 * @throws ExitStrategyError `NOT_TRAINED`, `TASK_UNSUPPORTED`, `BAD_FILE`; BackboneError `WRITE_FAILED`
 */
export async function saveEarlyExitModel(parts: EarlyExitParts, folder: string): Promise<void> {
  const complete = completeParts(parts);
  await mkdir(folder, { recursive: true });
  const stage = await mkdtemp(join(folder, ".strategy-"));
  const config = join(folder, STRATEGY_CONFIG);
  const aside = join(stage, `before-${STRATEGY_CONFIG}`);
  try {
    await saveStrategy(stage, trainedStrategyOf(complete));
    // While files change places the folder has no strategy: one of other weights would decide without any sign of it.
    const hadStrategy = await exists(config);
    if (hadStrategy) await rename(config, aside);
    await rm(join(folder, OPERATING_POINT_FILE), { force: true });
    try {
      await saveExitEncoder(complete.encoder, folder);
    } catch (error) {
      if (hadStrategy) await rename(aside, config);
      throw error;
    }
    for (const name of STRATEGY_FILES) await rename(join(stage, name), join(folder, name));
    if (complete.operatingPoint)
      await writeOperatingPoint(folder, complete.operatingPoint, [
        EXITS_DESCRIPTION,
        STRATEGY_CONFIG,
      ]);
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

/** @throws ConsistentEEError `NO_EXITS`, `NO_STRATEGY`, `MODEL_MISMATCH`, and what loading its files throws */
export async function loadParts(
  folderOrId: string,
  { strategy, moreStrategies = [], moreHeads = [], hub }: LoadPartsOptions,
): Promise<CompleteParts> {
  const folder = await resolveModel(folderOrId, hub);
  if (!(await exists(join(folder, EXITS_DESCRIPTION))))
    throw new ConsistentEEError(
      "NO_EXITS",
      folderOrId,
      `must be a model with trained exits, got a folder without ${EXITS_DESCRIPTION}. Add exits to a fine-tuned classifier with addExits, or train both, and save with saveEarlyExitModel.`,
    );
  const encoder = await loadExitEncoder(folder, { moreHeads });
  const known = [consistentEE, ...builtInStrategies, ...moreStrategies];
  // A configured strategy brings its definition along, so that its saved parameters can be read.
  if (typeof strategy === "object" && !known.some((one) => one.strategyName === strategy.name))
    known.push(defineExitStrategy(strategy.definition));
  const registry = createRegistry(known);
  const wanted = typeof strategy === "string" ? registry.createUnknown(strategy) : strategy;
  const at = await strategyFolder(folder);
  // A saved strategy that nobody asked for may be of a package that is not installed.
  const saved =
    at !== undefined && (!wanted || wanted.definition.params !== undefined)
      ? await loadStrategy(at, registry)
      : undefined;
  if (!wanted && !saved)
    throw new ConsistentEEError(
      "NO_STRATEGY",
      folderOrId,
      `must hold ${STRATEGY_CONFIG}, itself or in strategy/, got neither. Save it with saveEarlyExitModel, or name a strategy: { strategy: "entropy" }.`,
    );
  if (saved) refuseOtherModel(folderOrId, saved, encoder);
  const isSaved = saved !== undefined && (!wanted || wanted.name === saved.strategy.name);
  const chosen = wanted ?? (saved as TrainedStrategy).strategy;
  // The folder of a strategy in `strategy/` was put together by hand: nothing was selected for it.
  const point =
    at === folder && !wanted
      ? await readOperatingPoint(folder, [EXITS_DESCRIPTION, STRATEGY_CONFIG])
      : undefined;
  return completeParts({
    encoder,
    strategy: chosen,
    operatingPoint: point,
    params: isSaved ? saved.params : {},
    reports: isSaved ? saved.phasesCompleted.map((phase) => ({ phase })) : [],
    seed: isSaved ? saved.seed : 0,
  });
}

/** Fills in defaults. @throws ExitStrategyError `NOT_TRAINED`, `TASK_UNSUPPORTED`, `API_MISMATCH` */
export function completeParts(parts: EarlyExitParts): CompleteParts {
  const { encoder, strategy, reports = [], seed = 0 } = parts;
  const trained = { heads: encoder.trainedHeads, strategy: reports.length > 0 };
  checkHost(strategy, encoder.shape, { trained });
  const params = parts.params ?? ownParams(encoder.params);
  checkParams({ encoder, strategy, params, seed });
  const { operatingPoint } = parts;
  if (operatingPoint && !isFor(operatingPoint, strategy))
    throw new ConsistentEEError(
      "MODEL_MISMATCH",
      strategy.name,
      `its options must be those that its operating point was chosen for, ${JSON.stringify(operatingPoint.strategy)}, got ${JSON.stringify(strategy.options)}. Select again, or drop the operating point.`,
    );
  return { encoder, strategy, params, reports, seed, operatingPoint };
}

function ownParams(params: HostParams): HostParams {
  const prefix = "strategy.";
  return Object.fromEntries(
    Object.entries(params)
      .filter(([path]) => path.startsWith(prefix))
      .map(([path, tensor]) => [path.slice(prefix.length), tensor]),
  );
}

/** Options may change the sizes of parameters, and a strategy passed by hand may have others than the saved one. */
function checkParams({
  encoder,
  strategy,
  params,
  seed,
}: Pick<CompleteParts, "encoder" | "strategy" | "params" | "seed">): void {
  const { definition, options, name: who } = strategy;
  const expected: HostParams = definition.params?.(encoder.shape, options, seed) ?? {};
  for (const name of new Set([...Object.keys(expected), ...Object.keys(params)])) {
    const [wanted, got] = [expected[name], params[name]].map(
      (tensor) => tensor && `${tensor.dtype} [${tensor.shape.join(", ")}]`,
    );
    if (wanted !== got)
      throw new ConsistentEEError(
        "MODEL_MISMATCH",
        who,
        `its parameter "${name}" must be ${wanted ?? "absent"} for this model and these options, got ${got ?? "nothing"}. Use the options that it was trained with.`,
      );
  }
}

function refuseOtherModel(who: string, { modelShape }: TrainedStrategy, { shape }: ExitEncoder) {
  for (const key of ["task", "depth", "hidden", "classes"] as const)
    if (modelShape[key] !== shape[key])
      throw new ConsistentEEError(
        "MODEL_MISMATCH",
        who,
        `its strategy must have been trained for this model's ${key}, ${shape[key]}, got ${modelShape[key]}. Put the files of one model into the folder.`,
      );
}

function trainedStrategyOf(parts: CompleteParts): TrainedStrategy {
  const { encoder, strategy, params, reports, seed } = parts;
  return {
    strategy,
    params,
    modelShape: encoder.shape,
    phasesCompleted: reports.map(({ phase }) => phase),
    seed,
  };
}

async function strategyFolder(folder: string): Promise<string | undefined> {
  for (const at of [folder, join(folder, "strategy")])
    if (await exists(join(at, STRATEGY_CONFIG))) return at;
  return undefined;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
}

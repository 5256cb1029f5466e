/** @file An exit encoder in a folder: Hugging Face layout, `exits.safetensors` with the heads, and `cee.json` about them. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { HostParams, HostTensor } from "@cee/engine";
import type { ExitHead, ModelShape } from "@cee/exit-policies";
import { type BertConfig, parseBertConfig, toBertConfigJson } from "./config.js";
import { type ExitEncoder, resolveTask, type TaskOptions, withFreshHeads } from "./encoder.js";
import { BackboneError } from "./errors.js";
import { exists, readJson, replaceFiles, toJsonText, writeAtomically } from "./files.js";
import { resolveHead } from "./heads/registry.js";
import { initHeads } from "./init.js";
import { readSafetensors, writeSafetensors } from "./safetensors.js";
import { checkTokenizerFits, type TextTokenizer } from "./tokenizer.js";
import { loadTokenizer, saveTokenizer } from "./tokenizer-folder.js";
import {
  type LoadedBackbone,
  loadBackbone,
  openWeights,
  readShaped,
  type TensorSource,
  toHuggingFaceName,
  WEIGHTS_FILE,
} from "./weights.js";

/** Written by {@link saveExitEncoder}; says that a folder holds exits as well. */
export const EXITS_DESCRIPTION = "cee.json";
export const EXITS_FILE = "exits.safetensors";
const FORMAT = 1;

export interface LoadExitEncoderOptions extends TaskOptions {
  /** The head of a folder without exits; a folder with exits names its own. @default "linear" */
  readonly head?: string | ExitHead | undefined;
  /** Heads of other packages that the folder may name. */
  readonly moreHeads?: readonly ExitHead[];
  /** Starts new heads even where the folder holds trained ones, for another task. @default false */
  readonly freshHeads?: boolean;
  /** For what the folder does not hold: heads, and a pooler. @default 0 */
  readonly seed?: number;
}

/**
 * Loads a folder in Hugging Face layout: with its exits where this package saved it, with fresh heads otherwise.
 * @throws BackboneError `MISSING_FILE`, `BAD_FILE`, `BAD_CONFIG`, `UNSUPPORTED_MODEL`, `MISSING_TENSOR`, `SHAPE_MISMATCH`, `BAD_TOKENIZER`, `BAD_OPTION`
 */
export async function loadExitEncoder(
  folder: string,
  options: LoadExitEncoderOptions = {},
): Promise<ExitEncoder> {
  const configPath = join(folder, "config.json");
  const config = parseBertConfig(await readJson(configPath), configPath);
  const tokenizer = await loadTokenizerOf(folder, config);
  const source = await openWeights(folder);
  try {
    const descriptionPath = join(folder, EXITS_DESCRIPTION);
    if (!options.freshHeads && (await exists(descriptionPath))) {
      const description = parseDescription(await readJson(descriptionPath), descriptionPath);
      return restore(folder, config, tokenizer, source, description, options);
    }
    const { head = "linear", seed = 0 } = options;
    const loaded = loadBackbone(source, config, { seed, who: folder });
    const fresh = withFreshHeads(config, loaded.params, {
      ...options,
      head: resolveHead(head, options.moreHeads),
      seed,
      tokenizer,
    });
    const isWhole = loaded.initialised.length === 0;
    const adopted = options.freshHeads || !isWhole ? {} : fittingClassifier(fresh, source);
    const layer = fresh.shape.depth;
    const isAdopted = Object.keys(adopted).length > 0;
    return {
      ...fresh,
      params: { ...fresh.params, ...adopted },
      trainedHeads: isAdopted ? [layer] : [],
      notes: [
        ...loadingNotes(loaded, isAdopted),
        ...(isAdopted ? [`the checkpoint's classifier is the head of layer ${layer}`] : []),
      ],
    };
  } finally {
    source.close();
  }
}

/**
 * Writes a folder that Hugging Face's classes load as a full-depth model, and {@link loadExitEncoder} with its exits.
 * A save that fails leaves an older one as it was; one that is killed while files change places leaves a mixture that
 * loading refuses.
 * @throws BackboneError `WRITE_FAILED`
 */
export async function saveExitEncoder(
  encoder: ExitEncoder,
  folder: string,
  { floats = "F32" }: { readonly floats?: "F32" | "F16" } = {},
): Promise<void> {
  const { config, shape, head, params, labels, trainedHeads } = encoder;
  const fingerprint = fingerprintOf(params);
  const metadata = { format: "pt", cee_fingerprint: fingerprint };
  const weights: Record<string, HostTensor> = {};
  const exits: Record<string, HostTensor> = {};
  for (const [path, tensor] of Object.entries(params)) {
    if (path.startsWith("backbone.")) weights[toHuggingFaceName(path)] = tensor;
    else if (path.startsWith("heads.")) exits[path] = tensor;
  }
  if (isClassifier(encoder)) {
    for (const name of CLASSIFIER) {
      const tensor = params[`heads.${shape.depth}.${name}`];
      if (tensor) weights[name] = tensor;
    }
  }
  const named = { ...config, ...taskFields(shape, labels) };
  const description: Description = {
    format: FORMAT,
    head: head.name,
    task: shape.task === "regression" ? "regression" : "classification",
    classes: shape.classes,
    trainedHeads,
    fingerprint,
    ...(labels ? { labels } : {}),
  };
  await replaceFiles(folder, async (stage) => {
    writeSafetensors(join(stage, WEIGHTS_FILE), weights, { metadata, floats });
    writeSafetensors(join(stage, EXITS_FILE), exits, { metadata, floats });
    if (encoder.tokenizer) await saveTokenizer(encoder.tokenizer, stage);
    await writeAtomically(join(stage, "config.json"), toJsonText(toBertConfigJson(named)));
    await writeAtomically(join(stage, EXITS_DESCRIPTION), toJsonText(description));
  });
}

const CLASSIFIER = ["classifier.weight", "classifier.bias"] as const;

interface Description {
  readonly format: number;
  readonly head: string;
  readonly task: "classification" | "regression";
  readonly classes: number;
  readonly labels?: readonly string[];
  readonly trainedHeads: readonly number[];
  readonly fingerprint: string;
}

function taskFields(shape: ModelShape, labels: readonly string[] | undefined) {
  return {
    classes: shape.classes,
    labels: labels ?? Array.from({ length: shape.classes }, (_, index) => `LABEL_${index}`),
    problemType:
      shape.task === "regression"
        ? ("regression" as const)
        : ("single_label_classification" as const),
  };
}

async function loadTokenizerOf(
  folder: string,
  config: BertConfig,
): Promise<TextTokenizer | undefined> {
  for (const name of ["tokenizer.json", "vocab.txt"]) {
    const path = join(folder, name);
    if (!(await exists(path))) continue;
    const tokenizer = await loadTokenizer(folder);
    checkTokenizerFits(tokenizer, config, path);
    return tokenizer;
  }
  return undefined;
}

function restore(
  folder: string,
  config: BertConfig,
  tokenizer: TextTokenizer | undefined,
  source: TensorSource,
  description: Description,
  options: LoadExitEncoderOptions,
): ExitEncoder {
  const path = join(folder, EXITS_DESCRIPTION);
  const isRegression = description.task === "regression";
  refuseOther("head", description.head, nameOf(options.head), path);
  refuseOther("classes", description.classes, options.classes ?? options.labels?.length, path);
  refuseOther("regression", isRegression, options.regression, path);
  const { shape } = resolveTask(config, {
    classes: description.classes,
    regression: isRegression,
  });
  const wanted = typeof options.head === "object" ? options.head : description.head;
  const head = resolveHead(wanted, options.moreHeads);
  const loaded = loadBackbone(source, config, { mayMiss: () => false, who: folder });
  const exitsPath = join(folder, EXITS_FILE);
  const exits = readSafetensors(exitsPath);
  refuseMixture(join(folder, WEIGHTS_FILE), source.metadata, description, path);
  refuseMixture(exitsPath, exits.metadata, description, path);
  // The head says which tensors it needs and how large they are; their initial values are not used.
  const expected = initHeads(head, shape, 0, loaded.params);
  for (const [name, { shape: size }] of Object.entries(expected)) {
    const found = exits.tensors[name];
    if (found && String(found.shape) === String(size)) continue;
    throw new BackboneError(
      found ? "SHAPE_MISMATCH" : "MISSING_TENSOR",
      exitsPath,
      `${name} must be [${size.join(", ")}] for ${shape.depth} exits with the head "${head.name}", got ${found ? `[${found.shape.join(", ")}]` : "nothing"}.`,
    );
  }
  const heads = Object.fromEntries(
    Object.keys(expected).map((name) => [name, exits.tensors[name] as HostTensor]),
  );
  return {
    config,
    shape,
    head,
    params: { ...loaded.params, ...heads },
    tokenizer,
    labels: isRegression ? undefined : (options.labels ?? description.labels),
    trainedHeads: description.trainedHeads.filter((layer) => layer <= shape.depth),
    notes: loadingNotes(loaded, true),
  };
}

/**
 * Whether the last head computes what Hugging Face's classes do: a linear layer on the pooled state, through the
 * backbone's pooler or a copy of it.
 */
function isClassifier({ head, params, shape }: Pick<ExitEncoder, "head" | "params" | "shape">) {
  if (head.name === "linear") return true;
  if (head.name !== "highway") return false;
  return ["weight", "bias"].every((name) => {
    const own = params[`heads.${shape.depth}.pooler.${name}`]?.data;
    const pooler = params[`backbone.pooler.dense.${name}`]?.data;
    return own !== undefined && pooler !== undefined && own.every((x, at) => x === pooler[at]);
  });
}

/** A fine-tuned classifier is the last layer's head, where it fits. */
function fittingClassifier(encoder: ExitEncoder, source: TensorSource): Record<string, HostTensor> {
  const { shape, params } = encoder;
  if (!isClassifier(encoder)) return {};
  const adopted: Record<string, HostTensor> = {};
  for (const name of CLASSIFIER) {
    const path = `heads.${shape.depth}.${name}`;
    const own = params[path]?.shape ?? [];
    const found = source.files.get(name)?.entries.get(name)?.shape;
    if (String(own) !== String(found)) return {};
    adopted[path] = readShaped(source, name, own);
  }
  return adopted;
}

function loadingNotes(
  { extra, initialised }: Pick<LoadedBackbone, "extra" | "initialised">,
  usesClassifier: boolean,
): string[] {
  const notes: string[] = [];
  const known: readonly string[] = usesClassifier ? CLASSIFIER : [];
  const unused = extra.filter((name) => !known.includes(name));
  if (unused.length > 0) notes.push(`not used: ${unused.join(", ")}`);
  if (initialised.length > 0) {
    notes.push(`missing and initialised: ${initialised.map(toHuggingFaceName).join(", ")}`);
  }
  return notes;
}

function parseDescription(json: unknown, path: string): Description {
  const fields = (typeof json === "object" && json !== null ? json : {}) as Partial<Description>;
  const fail = (message: string): never => {
    throw new BackboneError("BAD_FILE", path, message);
  };
  const { format, head, task, classes, labels, trainedHeads, fingerprint } = fields;
  if (format !== FORMAT) {
    fail(`format must be ${FORMAT}, got ${JSON.stringify(format)}. Use the version that saved it.`);
  }
  const isLayer = (layer: unknown) => Number.isInteger(layer) && (layer as number) >= 1;
  const checks: Readonly<Record<string, boolean>> = {
    head: typeof head === "string",
    task: task === "classification" || task === "regression",
    classes: Number.isInteger(classes) && (classes as number) >= 1,
    labels:
      labels === undefined ||
      (Array.isArray(labels) &&
        labels.length === classes &&
        labels.every((label) => typeof label === "string")),
    trainedHeads: Array.isArray(trainedHeads) && trainedHeads.every(isLayer),
    fingerprint: typeof fingerprint === "string",
  };
  for (const [name, isGood] of Object.entries(checks)) {
    if (!isGood) fail(`${name} is missing or wrong, got ${JSON.stringify(fields[name as never])}.`);
  }
  return fields as Description;
}

function refuseOther(name: string, stored: unknown, asked: unknown, path: string): void {
  if (asked === undefined || asked === stored) return;
  throw new BackboneError(
    "BAD_OPTION",
    path,
    `the exits were saved with ${name} ${String(stored)}, got ${String(asked)}. Leave the option out, or set freshHeads.`,
  );
}

function nameOf(head: string | ExitHead | undefined): string | undefined {
  return typeof head === "object" ? head.name : head;
}

/** Weights, exits and description are separate files: all must come from one save. */
function refuseMixture(
  path: string,
  metadata: Readonly<Record<string, string>>,
  { fingerprint }: Description,
  descriptionPath: string,
): void {
  // Other programs that rewrite the weights drop the entry; that is their user's decision.
  if (metadata.cee_fingerprint === undefined || metadata.cee_fingerprint === fingerprint) return;
  throw new BackboneError(
    "BAD_FILE",
    path,
    `comes from another save than ${descriptionPath} (${metadata.cee_fingerprint}, expected ${fingerprint}). A save was interrupted; save again.`,
  );
}

function fingerprintOf(params: HostParams): string {
  const hash = createHash("sha256");
  for (const path of Object.keys(params).sort()) {
    const { shape, data } = params[path] as HostTensor;
    hash.update(`${path}[${shape.join()}]`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest("hex").slice(0, 16);
}

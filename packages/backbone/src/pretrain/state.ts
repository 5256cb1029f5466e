/** @file The state of a pre-training run between two steps, in one file that is replaced in one step. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { HostParams } from "@cee/engine";
import type { BertConfig } from "../config.js";
import { BackboneError } from "../errors.js";
import { openSafetensors, writeSafetensors } from "../safetensors.js";
import { pretrainParameters } from "./mlm.js";
import { CHANGEABLE, type PretrainSettings } from "./settings.js";

const FILE = "state.safetensors";

/** Held-out losses, entry `layer - 1` being that of exit `layer`. */
export interface Evaluation {
  readonly step: number;
  /** Nats for each masked token. */
  readonly tokens: readonly number[];
  /** Nats for each pair; empty where the run has no pair loss. */
  readonly pairs: readonly number[];
}

/** Plain JSON. */
export interface PretrainProgress {
  /** What was asked for; another request is refused instead of continued. */
  readonly fingerprint: string;
  /** Updates done. */
  readonly step: number;
  /** Rows and tokens seen. */
  readonly rows: number;
  readonly tokens: number;
  /** Time spent training, over all parts of the run. */
  readonly seconds: number;
  readonly evaluations: readonly Evaluation[];
}

export interface PretrainState {
  readonly progress: PretrainProgress;
  readonly params: HostParams;
  readonly m: HostParams;
  readonly v: HostParams;
}

/** Settings that came later, at the value that runs from before them had: such runs go on. */
const LATER: Readonly<Record<string, unknown>> = { pairTask: "order", pairMix: 0 };

export function fingerprintOf(settings: PretrainSettings, corpusKey: string): string {
  const fixed = Object.entries(settings)
    .filter(([name]) => !(CHANGEABLE as readonly string[]).includes(name))
    .filter(([name, value]) => LATER[name] !== value)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256")
    .update(JSON.stringify([fixed, corpusKey]))
    .digest("hex");
}

/** @throws BackboneError `WRITE_FAILED`; the state written before is then intact. */
export function saveState(folder: string, { progress, params, m, v }: PretrainState): void {
  const tensors: Record<string, HostParams[string]> = {};
  for (const [prefix, group] of Object.entries({ param: params, m, v })) {
    for (const [path, tensor] of Object.entries(group)) tensors[`${prefix}/${path}`] = tensor;
  }
  writeSafetensors(join(folder, FILE), tensors, {
    metadata: { progress: JSON.stringify(progress) },
  });
}

/**
 * Reads the state in `folder`; `undefined` where there is none.
 * @throws BackboneError `BAD_FILE` when it is torn, `CHECKPOINT_MISMATCH` when it belongs to a model of another shape.
 */
export function loadState(folder: string, config: BertConfig): PretrainState | undefined {
  const path = join(folder, FILE);
  if (!existsSync(path)) return undefined;
  const file = openSafetensors(path);
  try {
    const progress = parseProgress(file.metadata.progress, path);
    const shapes = pretrainParameters(config);
    if (file.entries.size !== 3 * shapes.size) {
      throw mismatch(path, `${3 * shapes.size} tensors`, `${file.entries.size}`);
    }
    const group = (prefix: string): HostParams =>
      Object.fromEntries(
        [...shapes].map(([name, shape]) => {
          const entry = file.entries.get(`${prefix}/${name}`);
          if (entry?.dtype !== "F32" || String(entry.shape) !== String(shape)) {
            const got = entry ? `${entry.dtype} [${entry.shape.join(", ")}]` : "nothing";
            throw mismatch(path, `${prefix}/${name} as F32 [${shape.join(", ")}]`, got);
          }
          return [name, file.read(`${prefix}/${name}`)];
        }),
      );
    return { progress, params: group("param"), m: group("m"), v: group("v") };
  } finally {
    file.close();
  }
}

/** Deletes what an interrupted write left behind. */
export function clearTemporaryFiles(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    if (name.includes(FILE) && name !== FILE) rmSync(join(folder, name), { force: true });
  }
}

/** @throws BackboneError `CHECKPOINT_MISMATCH` when the folder holds another run. */
export function assertSameRun(folder: string, state: PretrainState, fingerprint: string): void {
  if (state.progress.fingerprint === fingerprint) return;
  throw new BackboneError(
    "CHECKPOINT_MISMATCH",
    join(folder, FILE),
    `belongs to a run with another configuration or corpus, got ${state.progress.fingerprint.slice(0, 8)} for ` +
      `${fingerprint.slice(0, 8)}. Go on with what it was started with (${CHANGEABLE.join(", ")} may change), or choose another folder.`,
  );
}

function parseProgress(text: string | undefined, path: string): PretrainProgress {
  let value: Partial<PretrainProgress> | undefined;
  try {
    value = JSON.parse(text ?? "null") as Partial<PretrainProgress>;
  } catch {
    value = undefined;
  }
  const isCount = (count: unknown) => Number.isSafeInteger(count) && (count as number) >= 0;
  if (
    !value ||
    typeof value.fingerprint !== "string" ||
    !isCount(value.step) ||
    !isCount(value.rows) ||
    !isCount(value.tokens) ||
    !(typeof value.seconds === "number" && value.seconds >= 0) ||
    !Array.isArray(value.evaluations)
  ) {
    throw new BackboneError(
      "BAD_CHECKPOINT",
      path,
      "the file has no valid `progress` entry, so it is no state of pre-training. Choose another output folder.",
    );
  }
  return value as PretrainProgress;
}

function mismatch(path: string, wanted: string, got: string): BackboneError {
  return new BackboneError(
    "CHECKPOINT_MISMATCH",
    path,
    `must hold ${wanted} for the model of the configuration, got ${got}. Use the configuration it was started with, or another folder.`,
  );
}

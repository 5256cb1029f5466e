/**
 * @file Training checkpoints: everything a run needs to go on, in one file that is replaced in one step.
 *
 * The file is a safetensors file: tensors under `param/`, `m/`, `v/`, `best/`, `side/`, and the position of the run as JSON in
 * its metadata. What is read from it is believed only after every check.
 */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { HostParams, HostTensor } from "@cee/engine";
import type { PhaseReport } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { reason } from "../files.js";
import { readSafetensors, type SafetensorsContent, writeSafetensors } from "../safetensors.js";

/** Where a phase stands. */
export interface Position {
  readonly epoch: number;
  /** Optimiser steps done in this epoch. */
  readonly stepInEpoch: number;
  /** Optimiser steps done in this phase. */
  readonly step: number;
  /** Sum of the epoch's losses so far, and their number. */
  readonly lossSum: number;
  readonly lossSteps: number;
  readonly bestScore: number | null;
}

/** Where a run stands. Plain JSON. */
export interface Progress extends Position {
  /** What was asked for; another request is refused instead of continued. */
  readonly fingerprint: string;
  /** Phases finished. */
  readonly reports: readonly PhaseReport[];
  /** The phase in progress; `null` between two phases. */
  readonly phase: string | null;
  /** Its settings, so that a phase which has changed since is not continued. */
  readonly settings: Readonly<Record<string, unknown>> | null;
  /** Paths of the parameters that some gradient has reached in the phases finished. */
  readonly trained: readonly string[];
  readonly done: boolean;
}

export interface Checkpoint {
  readonly progress: Progress;
  readonly params: HostParams;
  /** Of the parameters that the phase in progress trains. */
  readonly moments: { readonly m: HostParams; readonly v: HostParams };
  /** The best epoch's values so far of what the phase trains; empty before the first. */
  readonly best: HostParams;
  readonly side: HostTensor | undefined;
}

const FILE = "checkpoint.safetensors";
const GROUPS = ["param/", "m/", "v/", "best/"] as const;

/** Replaces the checkpoint of `folder`; the one before stays until the new one is complete on disk. @throws BackboneError `WRITE_FAILED` */
export function saveCheckpoint(folder: string, checkpoint: Checkpoint): void {
  const { params, moments, best, side, progress } = checkpoint;
  const tensors = {
    ...prefixed("param/", params),
    ...prefixed("m/", moments.m),
    ...prefixed("v/", moments.v),
    ...prefixed("best/", best),
    ...(side ? { "side/values": side } : {}),
  };
  const text = JSON.stringify(progress, (_, value: unknown) =>
    // JSON has no NaN; a plan that is replayed must see the measure that it saw before.
    typeof value === "number" && !Number.isFinite(value) ? String(value) : value,
  );
  writeSafetensors(join(folder, FILE), tensors, {
    metadata: { progress: text, checksum: checksumOf(tensors) },
  });
}

/**
 * Reads the checkpoint of `folder`; `undefined` where there is none.
 * @param start the parameters that the run began with: those of the checkpoint must have their names and shapes
 * @throws BackboneError `BAD_CHECKPOINT`
 */
export function loadCheckpoint(folder: string, start: HostParams): Checkpoint | undefined {
  const path = join(folder, FILE);
  if (!existsSync(path)) return undefined;
  const refuse = refusal(path);
  let content: SafetensorsContent;
  try {
    content = readSafetensors(path);
  } catch (cause) {
    const why = reason(cause).replace(`[${path}] `, "").replace(" Get the file again.", "");
    return refuse(`the file is damaged or no checkpoint: ${why}`, cause);
  }
  const { tensors, metadata } = content;
  if (metadata.progress === undefined)
    refuse("the file has no `progress` entry, so it is no training checkpoint.");
  if (metadata.checksum !== checksumOf(tensors))
    refuse("the tensors do not have the checksum that they were written with.");
  const progress = parseProgress(metadata.progress as string, refuse);
  // In the order of `start`, not of the file: sums over parameters, such as the gradient norm, depend on it in the last digit.
  const order = new Map(Object.keys(start).map((name, index) => [name, index]));
  const place = (name: string) => order.get(name) ?? order.size;
  const group = (prefix: string): HostParams =>
    Object.fromEntries(
      Object.entries(tensors)
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, tensor]) => [name.slice(prefix.length), tensor] as const)
        .sort(([left], [right]) => place(left) - place(right)),
    );
  const [params, m, v, best] = GROUPS.map(group) as [
    HostParams,
    HostParams,
    HostParams,
    HostParams,
  ];
  for (const name of Object.keys(tensors))
    if (name !== "side/values" && !GROUPS.some((prefix) => name.startsWith(prefix)))
      refuse(`it holds ${JSON.stringify(name)}, which is no part of a checkpoint.`);
  for (const name of Object.keys(start))
    if (!Object.hasOwn(params, name)) refuse(`the parameter ${name} is missing.`);
  for (const [what, values] of Object.entries({
    parameter: params,
    "first moment": m,
    "second moment": v,
    "best value": best,
  }))
    for (const [name, tensor] of Object.entries(values)) {
      const wanted = Object.hasOwn(start, name) ? describe(start[name]) : "absent";
      if (describe(tensor) !== wanted)
        refuse(`the ${what} of ${name} must be ${wanted}, got ${describe(tensor)}.`);
    }
  for (const name of progress.trained)
    if (!Object.hasOwn(start, name))
      refuse(`it says that ${JSON.stringify(name)} was trained, which is no parameter.`);
  if (String(Object.keys(m).sort()) !== String(Object.keys(v).sort()))
    refuse("first and second moments belong to different parameters.");
  const side = tensors["side/values"];
  if (side && (side.dtype !== "float32" || side.shape.length !== 2))
    refuse(`the side data must be float32 [rows, width], got ${describe(side)}.`);
  return { progress, params, moments: { m, v }, best, side };
}

/** Deletes what an interrupted write left behind. */
export function clearLeftovers(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder))
    if (name.startsWith(`${FILE}.`)) rmSync(join(folder, name), { force: true });
}

type Refuse = (what: string, cause?: unknown) => never;

function refusal(path: string): Refuse {
  return (what, cause) => {
    throw new BackboneError(
      "BAD_CHECKPOINT",
      path,
      `${what} Delete the file to start over, or choose another output folder.`,
      { cause },
    );
  };
}

function parseProgress(text: string, refuse: Refuse): Progress {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    refuse("its `progress` entry is not JSON.", cause);
  }
  const value = (isRecord(json) ? json : {}) as { readonly [K in keyof Progress]?: unknown };
  const checks: { readonly [K in keyof Progress]: boolean } = {
    fingerprint: typeof value.fingerprint === "string",
    reports: Array.isArray(value.reports) && value.reports.every(isReport),
    phase: value.phase === null || typeof value.phase === "string",
    settings: value.settings === null || isRecord(value.settings),
    trained: Array.isArray(value.trained) && value.trained.every((p) => typeof p === "string"),
    epoch: isCount(value.epoch),
    stepInEpoch: isCount(value.stepInEpoch),
    step: isCount(value.step),
    lossSum: typeof value.lossSum === "number",
    lossSteps: isCount(value.lossSteps),
    bestScore: value.bestScore === null || typeof value.bestScore === "number",
    done: typeof value.done === "boolean",
  };
  for (const [name, isGood] of Object.entries(checks))
    if (!isGood)
      refuse(
        `its progress has a wrong ${name}, got ${JSON.stringify(value[name as keyof Progress])}.`,
      );
  const progress = value as unknown as Progress;
  return { ...progress, reports: progress.reports.map(withNumbers) };
}

const WRITTEN_OUT = ["NaN", "Infinity", "-Infinity"];

function isNumber(value: unknown): boolean {
  return typeof value === "number" || WRITTEN_OUT.includes(value as string);
}

function isReport(value: unknown): value is PhaseReport {
  return (
    isRecord(value) &&
    typeof value.phase === "string" &&
    isCount(value.steps) &&
    isNumber(value.loss) &&
    isRecord(value.measures) &&
    Object.values(value.measures).every(isNumber)
  );
}

function withNumbers(report: PhaseReport): PhaseReport {
  return {
    ...report,
    loss: Number(report.loss),
    measures: Object.fromEntries(
      Object.entries(report.measures).map(([name, value]) => [name, Number(value)]),
    ),
  };
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describe(tensor: HostTensor | undefined): string {
  return tensor ? `${tensor.dtype} [${tensor.shape.join(", ")}]` : "absent";
}

/** Finds flipped bytes, not forgery. */
function checksumOf(tensors: HostParams): string {
  let sum = 0;
  for (const name of Object.keys(tensors).sort()) {
    const { data } = tensors[name] as HostTensor;
    sum = crc32(name, sum);
    sum = crc32(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), sum);
  }
  return sum.toString(16);
}

function prefixed(prefix: string, params: HostParams): HostParams {
  return Object.fromEntries(
    Object.entries(params).map(([name, tensor]) => [prefix + name, tensor]),
  );
}

/**
 * @file Training checkpoints: everything a run needs to go on, in one file that is replaced in one step.
 *
 * The file is a safetensors file: tensors under `param/`, `m/`, `v/`, `best/`, `side/`, and the position of the run as JSON in its metadata.
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { HostParams, HostTensor } from "@cee/engine";
import type { PhaseReport } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { readSafetensors, writeSafetensors } from "../safetensors.js";

/** Where a run stands. Plain JSON. */
export interface Progress {
  /** What was asked for; another request is refused instead of continued. */
  readonly fingerprint: string;
  readonly reports: readonly PhaseReport[];
  /** Phases finished; the phase in progress is the next one. */
  readonly phase: number;
  readonly epoch: number;
  /** Optimiser steps done in this epoch. */
  readonly stepInEpoch: number;
  readonly step: number;
  /** Sum of the epoch's losses so far, and of the rows they were averaged over. */
  readonly lossSum: number;
  readonly lossSteps: number;
  readonly bestScore: number | null;
  readonly done: boolean;
}

export interface Checkpoint {
  readonly progress: Progress;
  readonly params: HostParams;
  readonly moments: { readonly m: HostParams; readonly v: HostParams };
  readonly best: HostParams;
  readonly side: HostTensor | undefined;
}

const FILE = "checkpoint.safetensors";

/** Replaces the checkpoint of `folder`; the one before stays until the new one is complete on disk. */
export function saveCheckpoint(folder: string, checkpoint: Checkpoint): void {
  mkdirSync(folder, { recursive: true });
  const { params, moments, best, side, progress } = checkpoint;
  writeSafetensors(
    join(folder, FILE),
    {
      ...prefixed("param/", params),
      ...prefixed("m/", moments.m),
      ...prefixed("v/", moments.v),
      ...prefixed("best/", best),
      ...(side ? { "side/values": side } : {}),
    },
    { metadata: { progress: JSON.stringify(progress) } },
  );
}

/** Reads the checkpoint of `folder`; `undefined` where there is none. */
export function loadCheckpoint(folder: string): Checkpoint | undefined {
  const path = join(folder, FILE);
  if (!existsSync(path)) return undefined;
  const { tensors, metadata } = readSafetensors(path);
  if (metadata.progress === undefined)
    throw new BackboneError(
      "BAD_CHECKPOINT",
      path,
      "the file has no `progress` entry, so it is no training checkpoint. Choose another output folder.",
    );
  const group = (prefix: string): HostParams =>
    Object.fromEntries(
      Object.entries(tensors)
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, tensor]) => [name.slice(prefix.length), tensor]),
    );
  return {
    progress: JSON.parse(metadata.progress) as Progress,
    params: group("param/"),
    moments: { m: group("m/"), v: group("v/") },
    best: group("best/"),
    side: tensors["side/values"],
  };
}

/** Deletes what an interrupted write left behind. */
export function clearLeftovers(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder))
    if (name.startsWith(`${FILE}.`)) rmSync(join(folder, name), { force: true });
}

function prefixed(prefix: string, params: HostParams): HostParams {
  return Object.fromEntries(
    Object.entries(params).map(([name, tensor]) => [prefix + name, tensor]),
  );
}

/** @file What `fit` refuses before it starts, and how it knows its own checkpoints. */
import { createHash, type Hash } from "node:crypto";
import type { HostParams, HostTensor } from "@cee/engine";
import type { TrainingPhase } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import type { Checkpoint } from "./checkpoint.js";
import type { LoopOptions } from "./fit.js";
import type { TrainingSubject } from "./subject.js";

/** @throws BackboneError `BAD_OPTION`, `BAD_INPUT` naming the row */
export function checkFitOptions<TText>(
  subject: TrainingSubject<TText>,
  options: LoopOptions<TText>,
): void {
  const { seed, microBatch, recordBatch, checkpointSeconds = 0 } = options;
  for (const [name, value] of Object.entries({ microBatch, recordBatch }))
    if (value !== undefined && !(Number.isInteger(value) && value >= 1))
      refuseOption(name, "an integer >= 1", value);
  if (!Number.isFinite(seed)) refuseOption("seed", "a finite number", seed);
  if (!(checkpointSeconds >= 0)) refuseOption("checkpointSeconds", ">= 0", checkpointSeconds);
  for (const text of options.train) subject.check(text, "train");
  for (const text of options.dev) subject.check(text, "held-out");
}

function refuseOption(name: string, wanted: string, got: number): never {
  throw new BackboneError("BAD_OPTION", name, `must be ${wanted}, got ${got}. Correct the option.`);
}

/** Named parts, so that a refusal can say what differs. */
export function fingerprintOf<TText>(
  subject: TrainingSubject<TText>,
  options: LoopOptions<TText>,
): string {
  const { params, train, dev, seed, identity, microBatch, recordBatch, trained } = options;
  return JSON.stringify({
    model: digest((hash) => hash.update(JSON.stringify(subject.identity))),
    parameters: digest((hash) => {
      for (const [path, { shape, data }] of Object.entries(params)) {
        hash.update(`${path}[${shape.join()}]`);
        hash.update(bytesOf(data));
      }
      hash.update(JSON.stringify(trained ?? null));
    }),
    "training rows": digestTexts(subject, train),
    "held-out rows": digestTexts(subject, dev),
    seed,
    "micro batch": microBatch ?? null,
    "record batch": recordBatch ?? null,
    options: identity ?? null,
  });
}

function digestTexts<TText>(subject: TrainingSubject<TText>, texts: readonly TText[]): string {
  return digest((hash) => {
    for (const text of texts)
      for (const part of subject.digest(text))
        hash.update(typeof part === "string" ? part : bytesOf(part));
  });
}

function digest(feed: (hash: Hash) => void): string {
  const hash = createHash("sha256");
  feed(hash);
  return hash.digest("hex").slice(0, 16);
}

function bytesOf(data: HostTensor["data"]): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** @throws BackboneError `CHECKPOINT_MISMATCH` */
export function assertSameRun(folder: string, found: string, expected: string): void {
  if (found === expected) return;
  let stored: Record<string, unknown> = {};
  try {
    // Anything but an object has no parts, so all of them differ.
    stored = Object(JSON.parse(found)) as Record<string, unknown>;
  } catch {}
  const wanted = JSON.parse(expected) as Record<string, unknown>;
  const differ = Object.keys(wanted).filter(
    (key) => JSON.stringify(stored[key]) !== JSON.stringify(wanted[key]),
  );
  throw otherRun(folder, `${differ.join(", ") || "its description"} differ`);
}

export function otherRun(folder: string, what: string): BackboneError {
  return new BackboneError(
    "CHECKPOINT_MISMATCH",
    folder,
    `the checkpoint belongs to another run: ${what}. Use another output folder, or delete this one to start over.`,
  );
}

/** What of a phase can be written down. */
export function settingsOf(phase: TrainingPhase): Readonly<Record<string, unknown>> {
  const { losses, ...rest } = phase;
  return JSON.parse(JSON.stringify({ ...rest, losses: Object.keys(losses) }));
}

/** Refuses a checkpoint made within a phase that cannot be this one. @throws BackboneError `CHECKPOINT_MISMATCH` */
export function assertFits(
  out: string,
  phase: TrainingPhase,
  { progress, moments, best, side }: Checkpoint,
  paths: readonly string[],
  /** What an epoch goes through, and the rows that side data belongs to. */
  { batched, rows }: { readonly batched: number; readonly rows: number },
): void {
  const stepsPerEpoch = Math.ceil(batched / phase.batchSize);
  const { name, epochs, prepare } = phase;
  const { epoch, stepInEpoch, step } = progress;
  const [stored, own] = [progress.settings ?? {}, settingsOf(phase)];
  const differ = [...new Set([...Object.keys(stored), ...Object.keys(own)])].filter(
    (key) => JSON.stringify(stored[key]) !== JSON.stringify(own[key]),
  );
  if (differ.length > 0) throw otherRun(out, `${differ.join(", ")} of the phase "${name}" differ`);
  const wanted = String([...paths].sort());
  const names = (params: HostParams) => String(Object.keys(params).sort());
  if (names(moments.m) !== wanted || (Object.keys(best).length > 0 && names(best) !== wanted))
    throw otherRun(out, `the phase "${name}" trains other parameters`);
  if (
    epoch >= epochs ||
    stepInEpoch > stepsPerEpoch ||
    step !== epoch * stepsPerEpoch + stepInEpoch ||
    progress.lossSteps !== stepInEpoch
  )
    throw otherRun(
      out,
      `it stands at step ${step} in epoch ${epoch + 1} of the phase "${name}", which has ${epochs} epochs of ${stepsPerEpoch} steps`,
    );
  if (side?.shape[0] !== (prepare ? rows : undefined))
    throw otherRun(
      out,
      `it has side data for ${side?.shape[0] ?? 0} rows, the phase "${name}" needs ${prepare ? rows : 0}`,
    );
}

/** @file Refuses phases that cannot run, and says which of a phase's functions threw. */
import { EngineError, type HostParams, type HostTensor } from "@cee/engine";
import type { ExitHead, ExitRecord, TrainingPhase } from "@cee/exit-policies";
import { BackboneError } from "../errors.js";
import { reason } from "../files.js";

/** @throws BackboneError `BAD_PHASE` */
export function checkPhase(
  phase: TrainingPhase,
  phasesBefore: readonly string[],
  head: Pick<ExitHead, "name" | "readsFirstToken">,
): void {
  const complain: (what: string) => never = (what) => {
    throw new BackboneError("BAD_PHASE", phase.name, what);
  };
  if (phasesBefore.includes(phase.name))
    complain("the plan has another phase of this name. Number them.");
  if (phase.select === "best" && !phase.score)
    complain('select "best" needs score(). Add it, or select "last".');
  const losses = Object.keys(phase.losses);
  if (losses.length === 0) complain("the phase has no loss. Add one.");
  if (losses.length > 1 && !phase.pick && !phase.combine)
    complain("several losses need pick() or combine(). Add one of them.");
  if (phase.pick && phase.combine)
    complain("pick() takes one loss a step and combine() all of them. Leave one of them out.");
  if (phase.source === "record" && phase.trains.some((path) => !/^(strategy|heads)\./.test(path)))
    complain(
      `a record phase may train strategy.** and heads.** only, got ${JSON.stringify(phase.trains)}. Use source "data" to train the encoder.`,
    );
  if (
    phase.source === "record" &&
    !head.readsFirstToken &&
    phase.trains.some((path) => /^heads\./.test(path))
  )
    complain(
      `a record phase may train heads that read the first token only, got the head "${head.name}". Use source "data", or set readsFirstToken where it is true.`,
    );
  const { epochs, batchSize, learningRate, warmup = 0, weightDecay = 0, clipNorm = 1 } = phase;
  const numbers: readonly (readonly [string, number, boolean, string])[] = [
    ["epochs", epochs, isCount(epochs), "an integer >= 1"],
    ["batchSize", batchSize, isCount(batchSize), "an integer >= 1"],
    ["learningRate", learningRate, learningRate >= 0 && learningRate < 1e9, "a number >= 0"],
    ["warmup", warmup, warmup >= 0 && warmup <= 1, "a share from 0 to 1"],
    ["weightDecay", weightDecay, weightDecay >= 0 && weightDecay < 1e9, "a number >= 0"],
    ["clipNorm", clipNorm, clipNorm > 0, "a number > 0"],
  ];
  for (const [name, value, isGood, wanted] of numbers)
    if (!isGood)
      complain(`${name} must be ${wanted}, got ${value}. Correct the preset or the option.`);
}

/** @throws BackboneError `BAD_INPUT` */
export function refuseWithoutRows(phase: TrainingPhase, train: number, dev: number): void {
  if (train === 0)
    throw new BackboneError(
      "BAD_INPUT",
      phase.name,
      "there are no training rows, expected at least one. Check the file and the row limit.",
    );
  if (phase.select === "best" && dev === 0)
    throw new BackboneError(
      "BAD_INPUT",
      phase.name,
      'select "best" compares epochs on held-out rows, got none. Give some, or select "last".',
    );
}

/** @throws BackboneError `BAD_PHASE` */
export function refuseUntrainable({ name, trains }: TrainingPhase, own: HostParams): void {
  if (Object.keys(own).length === 0)
    throw new BackboneError(
      "BAD_PHASE",
      name,
      `trains ${JSON.stringify(trains)} names no parameter of this model. Parameters start with backbone., heads.<layer>. or strategy.`,
    );
  for (const [path, { dtype }] of Object.entries(own))
    if (dtype !== "float32")
      throw new BackboneError(
        "BAD_PHASE",
        name,
        `trains ${path}, which is ${dtype}. Only float32 parameters have gradients; name the others apart.`,
      );
}

/** The loss of a step. @throws BackboneError `BAD_PHASE` when `pick` asks for one that the phase does not have */
export function lossOfStep(phase: TrainingPhase, step: number, stepInEpoch: number): string {
  const names = Object.keys(phase.losses);
  if (!phase.pick) return names[0] as string;
  const name = callHook(phase, "pick()", () => phase.pick?.(step, stepInEpoch) as string);
  if (names.includes(name)) return name;
  throw new BackboneError(
    "BAD_PHASE",
    phase.name,
    `pick() asked for the loss ${JSON.stringify(name)}, which the phase does not have. It has: ${names.join(", ")}.`,
  );
}

/** What the phase says of the held-out rows. @throws BackboneError `BAD_PHASE` */
export function judge<K extends "score" | "measure">(
  phase: TrainingPhase,
  hook: K,
  record: ExitRecord,
): ReturnType<NonNullable<TrainingPhase[K]>> {
  const answer = callHook(phase, `${hook}()`, () => phase[hook]?.(record));
  const numbers = typeof answer === "object" && answer !== null ? Object.values(answer) : [answer];
  if (!numbers.every((value) => typeof value === "number"))
    throw new BackboneError(
      "BAD_PHASE",
      phase.name,
      `${hook}() must return ${hook === "score" ? "a number" : "numbers by name"}, got ${JSON.stringify(answer)}.`,
    );
  return answer as never;
}

/** Side data of every row. @throws BackboneError `BAD_PHASE` */
export function sideOf(
  phase: TrainingPhase,
  record: ExitRecord | undefined,
): HostTensor | undefined {
  if (!phase.prepare || !record) return undefined;
  const { width, values } = callHook(
    phase,
    "prepare()",
    () => phase.prepare?.(record) as ReturnType<NonNullable<TrainingPhase["prepare"]>>,
  );
  const rows = record.ids.length;
  if (!(values instanceof Float32Array) || !(width >= 1) || values.length !== rows * width)
    throw new BackboneError(
      "BAD_PHASE",
      phase.name,
      `prepare() must return a Float32Array of ${rows} x ${width} values, got ${values?.length}. Return one row of values per record row.`,
    );
  return { dtype: "float32", shape: [rows, width], data: values };
}

/** Calls a function of the phase; what it throws is reported with its name. @throws BackboneError `BAD_PHASE` */
export function callHook<T>(phase: TrainingPhase, what: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    // These already say who, what and what to do.
    const isOurs = cause instanceof BackboneError || cause instanceof EngineError;
    if (isOurs || (cause instanceof Error && cause.name === "ExitStrategyError")) throw cause;
    throw new BackboneError("BAD_PHASE", phase.name, `${what} threw: ${reason(cause)}`, { cause });
  }
}

function isCount(value: number): boolean {
  return Number.isInteger(value) && value >= 1;
}

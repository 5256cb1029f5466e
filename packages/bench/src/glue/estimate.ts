/** @file What a training will cost before it runs: its phases, and their steps times the time of a measured step. */
import { fit, type ModelPlan, type TrainingRow } from "@cee/backbone";
import type { Engine, HostParams } from "@cee/engine";
import type { PhaseReport, TrainingPhase } from "@cee/exit-policies";
import type { Method, TrainingSpec, Workbench } from "../methods/method.js";
import { initialiseSpec } from "../methods/strategy-method.js";

/** More phases than any plan has; one that never ends is not waited for. */
const MOST_PHASES = 1000;

/** All phases that a plan may run; a plan that stops early runs fewer. */
export function phasesOf(spec: TrainingSpec): TrainingPhase[] {
  const plan = spec.plan();
  const phases: TrainingPhase[] = [];
  let report: PhaseReport = { phase: "", steps: 0, loss: 0, measures: {} };
  for (
    let next = plan.next();
    !next.done && phases.length < MOST_PHASES;
    next = plan.next(report)
  ) {
    phases.push(next.value);
    report = { phase: next.value.name, steps: 0, loss: 0, measures: {} };
  }
  return phases;
}

/** A step on recorded states costs about this share of one through the encoder. */
const RECORD_SHARE = 0.02;

/** The cost of a phase in rows through the encoder, forwards and backwards. */
export function rowsOf(phase: TrainingPhase, trainRows: number): number {
  const passes = trainRows * phase.epochs;
  // A record phase reads one forward pass, a third of a training step.
  return phase.source === "record" ? trainRows / 3 + passes * RECORD_SHARE : passes;
}

/** A training with its phases; none where planning it failed, which running it will report. */
export interface PlannedTraining {
  readonly spec: TrainingSpec;
  readonly phases: readonly TrainingPhase[];
  /** Methods that need it. */
  readonly methods: readonly Method[];
  /** See {@link rowsOf}. */
  readonly rows: number;
}

/** Every training of some methods once, however many of them share it. */
export function planTrainings(methods: readonly Method[], bench: Workbench): PlannedTraining[] {
  const known = new Map<string, PlannedTraining & { readonly methods: Method[] }>();
  for (const method of methods) {
    if (method.unsupported(bench.task)) continue;
    for (const spec of attempt(() => method.trainings(bench))) {
      const key = JSON.stringify([spec.parent?.identity ?? null, spec.identity]);
      const found = known.get(key);
      if (found) {
        found.methods.push(method);
        continue;
      }
      const phases = attempt(() => phasesOf(spec));
      const rows = phases.reduce((sum, phase) => sum + rowsOf(phase, bench.train.length), 0);
      known.set(key, { spec, phases, methods: [method], rows });
    }
  }
  return [...known.values()];
}

function attempt<T>(list: () => readonly T[]): readonly T[] {
  try {
    return list();
  } catch {
    return [];
  }
}

/** Optimiser steps of all phases. */
export function stepsOf(phases: readonly TrainingPhase[], trainRows: number): number {
  return phases.reduce(
    (sum, phase) => sum + Math.ceil(trainRows / phase.batchSize) * phase.epochs,
    0,
  );
}

/** Seconds per training row, measured on a few steps of the shared initialisation. */
export async function measureRow(
  engine: Engine,
  model: ModelPlan,
  params: HostParams,
  bench: Workbench,
): Promise<number> {
  const phase = phasesOf(initialiseSpec(bench))[0] as TrainingPhase;
  const rows: TrainingRow[] = bench.train.slice(0, 3 * phase.batchSize);
  const times: number[] = [];
  let last = Number.NaN;
  await fit({
    engine,
    model,
    params,
    *plan() {
      yield { ...phase, epochs: 1 };
    },
    train: rows,
    dev: [],
    seed: bench.seed,
    onProgress: () => {
      const now = performance.now();
      // The first step compiles the graph.
      if (!Number.isNaN(last)) times.push(now - last);
      last = now;
    },
  });
  const seconds = times.reduce((sum, time) => sum + time, 0) / Math.max(1, times.length) / 1000;
  return seconds / Math.min(phase.batchSize, rows.length);
}

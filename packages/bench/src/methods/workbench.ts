/**
 * @file Trains and records for one task and seed; every training is done once and found again by its content.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import {
  compileFull,
  type FullProgram,
  fit,
  initHeads,
  type ModelPlan,
  openFlat,
  recordRows,
  type TrainingRow,
} from "@cee/backbone";
import type { Engine, HostParams } from "@cee/engine";
import { type ExitRecord, type ExitStrategy, toObserver } from "@cee/exit-policies";
import type { ProgressLine } from "../glue/progress.js";
import { earlyExits } from "./early-exits.js";
import { flatAnswers } from "./flat-answers.js";
import type { RecordedSplit, TimedModel, Trained, TrainingSpec, Workbench } from "./method.js";
import { strategyParams } from "./strategy-params.js";

export interface WorkbenchOptions
  extends Pick<
    Workbench,
    "taskName" | "seed" | "preset" | "epochs" | "rate" | "train" | "validation" | "dev"
  > {
  readonly engine: Engine;
  readonly model: ModelPlan;
  /** Backbone and fresh heads. */
  readonly params: HostParams;
  /** What distinguishes this data and backbone from any other. */
  readonly identity: Readonly<Record<string, unknown>>;
  readonly out: string;
  readonly progress: ProgressLine;
  readonly signal?: AbortSignal;
  /** Planned units per optimiser step, so that progress adds up. */
  readonly unitsPerStep: (phase: string) => number;
}

/** A workbench that can be closed. */
export interface OpenWorkbench extends Workbench {
  dispose(): Promise<void>;
}

export function createWorkbench(options: WorkbenchOptions): OpenWorkbench {
  const { engine, model, progress, seed, taskName } = options;
  const padId = model.config.padTokenId;
  const trainings = new Map<string, Promise<Trained>>();
  const records = new Map<string, Promise<ExitRecord>>();
  const programs = new Map<string, FullProgram>();
  const numberOf = numbering();

  const keyOf = (spec: TrainingSpec): string =>
    createHash("sha256")
      .update(
        JSON.stringify([
          spec.parent ? keyOf(spec.parent) : options.identity,
          taskName,
          seed,
          spec.identity,
        ]),
      )
      .digest("hex")
      .slice(0, 16);

  const train = async (spec: TrainingSpec, key: string): Promise<Trained> => {
    const parent = spec.parent && (await bench.fit(spec.parent));
    const own = spec.strategy?.definition.params?.(model.shape, spec.strategy.options, seed) ?? {};
    const head = spec.head ?? parent?.model.head ?? model.head;
    const plan: ModelPlan = { ...model, head };
    const before = parent ?? { model, params: options.params, trained: undefined };
    const keepsHeads = before.model.head.name === head.name;
    const start = keepsHeads
      ? before.params
      : withHeads(plan, seed, before.params, parent !== undefined);
    const params = { ...start, ...prefixed(own), ...spec.params?.() };
    const known = before.trained && (keepsHeads ? before.trained : { heads: [], strategy: false });
    const observer = spec.strategy && toObserver(spec.strategy, own);
    const result = await fit({
      engine,
      model: plan,
      params,
      plan: () => spec.plan(),
      ...(observer ? { observer } : {}),
      train: options.train,
      dev: options.validation,
      seed,
      out: join(options.out, "trainings", key),
      identity: { key },
      ...(known ? { trained: known } : {}),
      log: (line) => progress.print(line),
      ...(options.signal ? { signal: options.signal } : {}),
      ...(spec.watch ? { watch: spec.watch } : {}),
      onProgress: ({ phase, epoch, epochs, loss }) =>
        progress.update(
          `${taskName} · ${spec.label} · ${phase} epoch ${epoch}/${epochs} · loss ${loss.toFixed(4)}`,
          options.unitsPerStep(phase),
        ),
    });
    return { key, model: plan, ...result };
  };

  const bench: OpenWorkbench = {
    task: model.shape.task,
    taskName,
    shape: model.shape,
    engine,
    model,
    params: options.params,
    seed,
    preset: options.preset,
    epochs: options.epochs,
    rate: options.rate,
    train: options.train,
    validation: options.validation,
    dev: options.dev,
    fit(spec) {
      const key = keyOf(spec);
      let running = trainings.get(key);
      if (!running) {
        running = train(spec, key);
        trainings.set(key, running);
      }
      return running;
    },
    record(trained, strategy, split = "dev") {
      // What a strategy observes does not depend on its knob, so one recording serves the whole curve.
      const key = [trained.key, strategy.name, split].join("/");
      let running = records.get(key);
      if (!running) {
        running = recordSplit(trained, strategy, split);
        records.set(key, running);
      }
      return running;
    },
    open: async (trained, strategy) => earlyExits(engine, trained, strategy),
    async openFull(trained): Promise<TimedModel> {
      const flat = openFlat(engine, trained.model, trained.params);
      return {
        answer: async (batch) => {
          return flatAnswers(model.shape, await flat.logits(batch));
        },
        dispose: () => flat.dispose(),
      };
    },
    async dispose() {
      for (const program of programs.values()) await program.dispose();
    },
  };

  const recordSplit = async (
    trained: Trained,
    strategy: ExitStrategy,
    split: RecordedSplit,
  ): Promise<ExitRecord> => {
    const observer = toObserver(strategy, strategyParams(trained.params));
    // The graph depends on the head and on what is observed, and on nothing else of a method.
    const graph = `${trained.model.head.name}/${numberOf(strategy.definition.observe)}`;
    let program = programs.get(graph);
    if (!program) {
      program = compileFull(engine, trained.model, trained.params, observer);
      programs.set(graph, program);
    }
    const { record } = await recordRows(program, {
      shape: model.shape,
      params: trained.params,
      rows: options[split] as readonly TrainingRow[],
      batchSize: 64,
      padId,
    });
    return record;
  };

  return bench;
}

/** Numbers for functions: the same one for the same function. */
function numbering(): (of: unknown) => number {
  const known = new Map<unknown, number>();
  return (of) => {
    const number = known.get(of) ?? known.size;
    known.set(of, number);
    return number;
  };
}

/**
 * A method's own heads on a backbone. Where the heads before were trained, parameters of equal name and shape go on from
 * them.
 */
function withHeads(
  { head, shape }: ModelPlan,
  seed: number,
  params: HostParams,
  isTrained: boolean,
): HostParams {
  const backbone = Object.fromEntries(
    Object.entries(params).filter(([path]) => path.startsWith("backbone.")),
  );
  const fresh = initHeads(head, shape, seed, backbone);
  if (!isTrained) return { ...backbone, ...fresh };
  const heads = Object.entries(fresh).map(([path, tensor]) => {
    const old = params[path];
    return [path, old && String(old.shape) === String(tensor.shape) ? old : tensor];
  });
  return { ...backbone, ...Object.fromEntries(heads) };
}

function prefixed(own: HostParams): HostParams {
  return Object.fromEntries(
    Object.entries(own).map(([name, tensor]) => [`strategy.${name}`, tensor]),
  );
}

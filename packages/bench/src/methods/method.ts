/**
 * @file What the benchmark runs: a method with its trainings, and its points on the accuracy-speed curve.
 *
 * N = rows of the held-out split.
 */
import type { FitResult, FitWatch, ModelPlan, TokenBatch, TrainingRow } from "@cee/backbone";
import type { Engine, HostParams } from "@cee/engine";
import type {
  ExitHead,
  ExitRecord,
  ExitStrategy,
  ModelShape,
  PhasePlan,
  PhaseReport,
  Task,
} from "@cee/exit-policies";

/** A training, content-addressed: two specs with equal identity and parent share one run and one folder. */
export interface TrainingSpec {
  /** For progress and `--dry-run`, e.g. `consistentee alpha 0.03`. */
  readonly label: string;
  /** Everything that makes this training what it is, as plain JSON. */
  readonly identity: Readonly<Record<string, unknown>>;
  /** Starts from this training's weights instead of the backbone's. */
  readonly parent?: TrainingSpec;
  /** The method's own exit head, with fresh parameters; its name belongs into `identity`. @default the parent's */
  readonly head?: ExitHead;
  /** Its parameters join the model's as `strategy.*`, and its observations are recorded for the phases. */
  readonly strategy?: ExitStrategy;
  /** Looks on while this runs; no part of what the training is. */
  readonly watch?: FitWatch;
  /** Parameters of a method that is no strategy, by full path: `strategy.*`. */
  readonly params?: () => HostParams;
  plan(): PhasePlan;
}

export type RecordedSplit = "dev" | "validation" | "train";

export interface Trained {
  /** Content address. */
  readonly key: string;
  /** With the exit head that was trained. */
  readonly model: ModelPlan;
  readonly params: HostParams;
  readonly reports: readonly PhaseReport[];
  /** What gradients reached so far: an answer from anything else is refused. */
  readonly trained: FitResult["trained"];
}

/** One task and seed, ready for training: what a method works with. */
export interface Workbench {
  readonly task: Task;
  readonly taskName: string;
  readonly shape: ModelShape;
  /** For methods that run a model their own way. */
  readonly engine: Engine;
  readonly model: ModelPlan;
  /** The backbone with fresh heads, before any training. */
  readonly params: HostParams;
  readonly seed: number;
  readonly preset: "small" | "paper";
  /** Epochs of the shared training on all exits, instead of the preset's. */
  readonly epochs: number | undefined;
  /** Factor on the small preset's learning rates. */
  readonly rate: number;
  readonly train: readonly TrainingRow[];
  /** Held out from the training file for the trainer's own decisions; never a row of dev. */
  readonly validation: readonly TrainingRow[];
  readonly dev: readonly TrainingRow[];
  fit(spec: TrainingSpec): Promise<Trained>;
  /** Full-depth pass with the strategy's observations; recorded once per training and observation. */
  record(trained: Trained, strategy: ExitStrategy, split?: RecordedSplit): Promise<ExitRecord>;
  /** Full depth in one graph, without exits: the time to compare with. */
  openFull(trained: Trained): Promise<TimedModel>;
  /** The early-stopping host on this model, for timing. */
  open(trained: Trained, strategy: ExitStrategy): Promise<TimedModel>;
}

/** What a batch was told, row by row. */
export interface BatchAnswers {
  /** Class index or value per row. */
  readonly predictions: ArrayLike<number>;
}

/** Answers batches for real; what the clock runs over, and what submissions are made with. */
export interface TimedModel {
  // biome-ignore lint/suspicious/noConfusingVoidType: a model that only runs against the clock returns nothing
  answer(batch: TokenBatch): Promise<BatchAnswers | void>;
  dispose(): Promise<void>;
}

export interface CurvePoint {
  readonly knob: { readonly name: string; readonly value: number } | null;
  readonly options: Readonly<Record<string, unknown>>;
  /** Layer at which each row stopped, shape `[N]`; `null` for a method without exit layers. */
  readonly exitLayers: Int32Array | null;
  /** Mean operations per row as a share of full depth's, worked out and not measured; needed where `exitLayers` is null. */
  readonly cost?: number;
  /** Class index or value per row, shape `[N]`. */
  readonly predictions: Float32Array;
  /** Observations that were not finite. */
  readonly nonFinite: number;
  /** What the point was replayed from, where there is such a thing: for looking at single rows, layer by layer. */
  readonly trace?: { readonly record: ExitRecord; readonly strategy: ExitStrategy };
  /** The model behind it, where the point is that of an exit strategy. */
  readonly trained?: Trained;
  open(): Promise<TimedModel>;
}

export interface Method {
  /** As `--methods` takes it. */
  readonly name: string;
  /** As tables print it. */
  readonly title: string;
  /** Why the method cannot do this task, or `undefined` when it can. */
  unsupported(task: Task): string | undefined;
  /** All trainings, parents first. */
  trainings(bench: Workbench): readonly TrainingSpec[];
  /** The whole curve. */
  run(bench: Workbench): Promise<readonly CurvePoint[]>;
}

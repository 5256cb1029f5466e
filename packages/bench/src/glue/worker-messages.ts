/** @file What a run and its worker processes say to each other: plain objects, since they cross a process's border. */
import type { GlueOptions } from "./options.js";
import type { Collected } from "./task-run.js";

/** The first message to a worker: one task with one seed. */
export interface WorkerOrder {
  /** With this one task. */
  readonly options: GlueOptions;
  readonly seed: number;
  /** The module of the run's companion. */
  readonly companion: string | undefined;
  /** Methods that an earlier process of this pair did not survive, and what to say of each. */
  readonly deadly: Readonly<Record<string, string>>;
}

export type ToWorker =
  | { readonly order: WorkerOrder }
  | "stop"
  /** The machine is the worker's alone; `halted` are the processes that stand still meanwhile. */
  | { readonly halted: readonly number[] };

export type FromWorker =
  | { readonly plan: number }
  | { readonly update: string; readonly units: number }
  | { readonly settle: number }
  | { readonly print: string }
  /** The method that it is about to run. */
  | { readonly method: string }
  /** Asks for the machine to itself, and gives it back. */
  | "clock-wanted"
  | "clock-returned"
  | { readonly collected: Collected }
  | { readonly error: { readonly message: string; readonly code: unknown; readonly who: unknown } };

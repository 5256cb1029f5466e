/** @file What another command does beside each task of a run, in whichever process runs that task. */
import type { GlueOptions } from "./options.js";
import type { ProgressLine } from "./progress.js";
import type { Collected, PreparedRun } from "./task-run.js";

export interface CompanionContext {
  readonly options: GlueOptions;
  readonly progress: ProgressLine;
}

/** What is returned must survive JSON; it is handed to whoever started the run. `undefined` is nothing. */
export interface CompanionHooks {
  /** Before the methods of a task and seed train. */
  before(prepared: PreparedRun, context: CompanionContext): Promise<unknown>;
  /** After its cells are finished, while everything is still open. */
  after(prepared: PreparedRun, collected: Collected, context: CompanionContext): Promise<unknown>;
}

export interface Companion {
  readonly hooks: CompanionHooks;
  /** The module whose export `companion` has the same hooks, for worker processes. */
  readonly module: string;
}

/** Runs a task with its companion, if it has one. */
export async function runBeside(
  hooks: CompanionHooks | undefined,
  prepared: PreparedRun,
  collected: Collected,
  context: CompanionContext,
  runTask: () => Promise<void>,
): Promise<void> {
  const keep = (found: unknown) => {
    if (found !== undefined) collected.beside.push(found);
  };
  keep(await hooks?.before(prepared, context));
  await runTask();
  keep(await hooks?.after(prepared, collected, context));
}

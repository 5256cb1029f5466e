/**
 * @file Runs tasks and seeds side by side, a process each: a small encoder leaves a second core nearly idle, so two tasks
 * with one thread each are done in little more time than one task with two.
 */
import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { BenchError, type BenchErrorCode } from "../errors.js";
import type { GlueOptions } from "./options.js";
import type { ProgressLine } from "./progress.js";
import { checkStop } from "./stop.js";
import { type Collected, emptyCollection } from "./task-run.js";
import type { FromWorker, ToWorker } from "./worker-messages.js";

/** One task with one seed. */
export interface Pair {
  readonly task: string;
  readonly seed: number;
  /** Expected work relative to the other pairs, in any unit. */
  readonly size: number;
}

export interface WorkersOptions {
  readonly options: GlueOptions;
  readonly pairs: readonly Pair[];
  /** Names of the methods that every pair runs. */
  readonly methods: readonly string[];
  readonly workers: number;
  /** Of each worker. */
  readonly threads: number;
  /** The module of what is done beside each pair. */
  readonly companion: string | undefined;
  readonly progress: ProgressLine;
  readonly signal: AbortSignal | undefined;
  /** Called when a pair is done, with the number of those that are. */
  readonly onDone: (pair: Pair, finished: number) => void;
}

/** A worker that dies takes along the method that it was at; another goes on with the pair's other methods. */
class WorkerDied extends Error {
  constructor(
    readonly how: string,
    readonly method: string | undefined,
  ) {
    super(how);
  }
}

/**
 * Runs every pair, at most `workers` at a time, and gives what came of them in the order of the pairs. A worker that dies
 * fails the method that it was at.
 * @throws BenchError `STOPPED`, and what a worker could not go on after, such as a full disk
 */
export async function runInWorkers(options: WorkersOptions): Promise<readonly Collected[]> {
  const { pairs, workers, progress, signal } = options;
  const results = new Array<Collected>(pairs.length);
  const work = sharedProgress(pairs, progress);
  const clock = createClock();
  const running = new Set<ChildProcess>();
  let next = 0;
  let finished = 0;
  let fatal: unknown;
  const stopAll = () => {
    clock.giveUp();
    for (const child of running) tell(child, "stop");
  };
  signal?.addEventListener("abort", stopAll, { once: true });
  const takeTurns = async () => {
    while (next < pairs.length && fatal === undefined && !signal?.aborted) {
      const index = next;
      next += 1;
      const pair = pairs[index] as Pair;
      try {
        results[index] = await runPair(pair, options, work.of(index), clock, running);
        finished += 1;
        options.onDone(pair, finished);
      } catch (cause) {
        fatal ??= cause;
        stopAll();
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(workers, pairs.length) }, takeTurns));
  } finally {
    signal?.removeEventListener("abort", stopAll);
  }
  checkStop(signal);
  if (fatal !== undefined) throw fatal;
  return results;
}

/** Starts workers for one pair until one lives to its end. */
async function runPair(
  pair: Pair,
  options: WorkersOptions,
  work: PairProgress,
  clock: Clock,
  running: Set<ChildProcess>,
): Promise<Collected> {
  const { methods, progress, signal } = options;
  const { task, seed } = pair;
  const deadly: Record<string, string> = {};
  for (;;) {
    try {
      return await runWorker(pair, deadly, options, work, clock, running);
    } catch (cause) {
      if (!(cause instanceof WorkerDied) || signal?.aborted) throw cause;
      const { how, method } = cause;
      // Outside of every method, or in one that it was told to leave out.
      const isHopeless = method === undefined || Object.hasOwn(deadly, method);
      const what = isHopeless
        ? "before it was done"
        : `while it ran ${method}; the other methods go on`;
      const { message } = new BenchError(
        "WORKER_DIED",
        `${task}, seed ${seed}`,
        `its process ended with ${how} ${what}. Finished cells are kept: run it again with --resume, with --workers 1 if memory ran out.`,
      );
      progress.print(message);
      if (isHopeless) {
        const failures = methods.map((name) => ({ task, method: name, seed, message }));
        return { ...emptyCollection(), failures };
      }
      deadly[method] = message;
      work.startAgain();
    }
  }
}

async function runWorker(
  pair: Pair,
  deadly: Readonly<Record<string, string>>,
  { options, threads, companion, progress }: WorkersOptions,
  work: PairProgress,
  clock: Clock,
  running: Set<ChildProcess>,
): Promise<Collected> {
  const child = startWorker();
  running.add(child);
  let method: string | undefined;
  let collected: Collected | undefined;
  let error: BenchError | undefined;
  child.on("message", (message: FromWorker) => {
    if (message === "clock-wanted") clock.want(child, running);
    else if (message === "clock-returned") clock.giveBack(child);
    else if ("plan" in message) work.plan(message.plan);
    else if ("update" in message) work.update(message.update, message.units);
    else if ("settle" in message) work.settle(message.settle);
    else if ("print" in message) progress.print(message.print);
    else if ("method" in message) method = message.method;
    else if ("collected" in message) collected = message.collected;
    else error = revive(message.error);
  });
  const order = {
    ...options,
    tasks: [pair.task],
    threads,
    workers: 1,
    // What the run has just prepared the folder for.
    resume: true,
  };
  tell(child, { order: { options: order, seed: pair.seed, companion, deadly } });
  const ended = await new Promise<string>((resolve) => {
    child.once("error", (cause) => resolve(cause.message));
    child.once("exit", (code, by) => {
      const how = by ? `signal ${by}` : `exit code ${code}`;
      // What it sent last may still be on its way: the channel closes behind it.
      if (child.connected) child.once("disconnect", () => resolve(how));
      else resolve(how);
    });
  });
  running.delete(child);
  clock.giveBack(child);
  if (error) throw error;
  if (collected) return collected;
  throw new WorkerDied(ended, method);
}

/** Training makes and drops many small objects; with room for them the collector runs less often. In MiB. */
const ROOM = "--max-semi-space-size=64";

/** From the sources through tsx, as this process runs them; beside the built package otherwise. */
function startWorker(): ChildProcess {
  const source = fileURLToPath(new URL("./worker.ts", import.meta.url));
  return existsSync(source)
    ? fork(source, { execArgv: [ROOM, "--conditions=@cee/source", "--import", "tsx"] })
    : fork(fileURLToPath(new URL("./worker.js", import.meta.url)), {
        execArgv: [...process.execArgv, ROOM],
      });
}

function tell(child: ChildProcess, message: ToWorker): void {
  // One that is ending is told nothing.
  if (child.connected) child.send(message, () => undefined);
}

function revive({ message, code, who }: { message: string; code: unknown; who: unknown }) {
  const prefix = `[${who}] `;
  return new BenchError(
    code as BenchErrorCode,
    String(who),
    message.startsWith(prefix) ? message.slice(prefix.length) : message,
  );
}

interface Clock {
  want(child: ChildProcess, running: ReadonlySet<ChildProcess>): void;
  giveBack(child: ChildProcess): void;
  /** Lets everybody run again, for good. */
  giveUp(): void;
}

/** While one worker takes times, the others stand still; whoever wants the clock meanwhile waits for its turn. */
function createClock(): Clock {
  const waiting: { child: ChildProcess; running: ReadonlySet<ChildProcess> }[] = [];
  let holder: ChildProcess | undefined;
  let halted: ChildProcess[] = [];
  const resume = () => {
    for (const child of halted) child.kill("SIGCONT");
    halted = [];
  };
  const grant = () => {
    const first = waiting.shift();
    if (!first) return;
    holder = first.child;
    // Windows can't halt a process: times are then taken beside the other workers.
    if (process.platform !== "win32")
      for (const other of first.running)
        if (other !== holder && other.kill("SIGSTOP")) halted.push(other);
    tell(holder, { halted: halted.flatMap(({ pid }) => pid ?? []) });
  };
  return {
    want(child, running) {
      waiting.push({ child, running });
      if (!holder) grant();
    },
    giveBack(child) {
      if (holder !== child) return;
      holder = undefined;
      resume();
      grant();
    },
    giveUp() {
      resume();
      for (const { child } of waiting.splice(0)) tell(child, { halted: [] });
    },
  };
}

interface PairProgress {
  plan(units: number): void;
  update(text: string, units: number): void;
  settle(units: number): void;
  /** Another worker does all of it once more, or finds it done. */
  startAgain(): void;
}

/** Adds up what the workers report: pairs that have not started are expected to cost as much per size as the first. */
function sharedProgress(pairs: readonly Pair[], progress: ProgressLine) {
  const planned = pairs.map(() => 0);
  const done = pairs.map(() => 0);
  const hasPlan = pairs.map(() => false);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  return {
    of: (index: number): PairProgress => ({
      plan(units) {
        const before = sum(planned);
        planned[index] = (hasPlan[index] ? (planned[index] as number) : 0) + units;
        hasPlan[index] = true;
        const rate = (planned[index] as number) / (pairs[index] as Pair).size;
        for (const [other, { size }] of pairs.entries())
          if (!hasPlan[other]) planned[other] = rate * size;
        progress.plan(sum(planned) - before);
      },
      update(text, units) {
        done[index] = (done[index] as number) + units;
        progress.update(text, units);
      },
      settle(units) {
        done[index] = units;
        progress.settle(sum(done));
      },
      startAgain() {
        progress.plan(-(planned[index] as number));
        planned[index] = 0;
        done[index] = 0;
        progress.settle(sum(done));
      },
    }),
  };
}

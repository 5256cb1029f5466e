/** @file A worker process of `bench glue`: runs one task with one seed and sends what came of it. Started by `workers.ts`. */
import type { ProgressLine } from "./progress.js";
import { runPair } from "./run.js";
import type { FromWorker, ToWorker, WorkerOrder } from "./worker-messages.js";

const stop = new AbortController();
let granted: (() => void) | undefined;
let halted: readonly number[] = [];

function send(message: FromWorker): void {
  if (process.connected) process.send?.(message);
}

/** Sends and waits until all of it is on its way: what a closed channel has not taken is lost. */
function deliver(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    if (!process.connected || !process.send) resolve();
    else process.send(message, undefined, undefined, () => resolve());
  });
}

// Ctrl-C reaches every process of a terminal; the run decides what it means.
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => undefined);
process.on("disconnect", () => {
  // Nobody is left to work for, nor to wake the others up.
  stop.abort();
  for (const pid of halted) wake(pid);
});
process.on("message", (message: ToWorker) => {
  if (message === "stop") stop.abort();
  else if ("halted" in message) {
    halted = message.halted;
    granted?.();
  } else void work(message.order);
});

const progress: ProgressLine = {
  plan: (units) => send({ plan: units }),
  update: (text, units = 0) => send({ update: text, units }),
  settle: (units) => send({ settle: units }),
  print: (line) => send({ print: line }),
  stop: () => undefined,
};

/** The others are stopped while the clock runs here, so that a time is that of a machine with nothing else to do. */
async function exclusively<T>(run: () => Promise<T>): Promise<T> {
  const ready = new Promise<void>((resolve) => {
    granted = resolve;
  });
  send("clock-wanted");
  await ready;
  try {
    return await run();
  } finally {
    halted = [];
    send("clock-returned");
  }
}

function wake(pid: number): void {
  try {
    process.kill(pid, "SIGCONT");
  } catch {
    // It has ended.
  }
}

async function work({ options, seed, companion, deadly }: WorkerOrder): Promise<void> {
  try {
    const onMethod = (method: string) => send({ method });
    const hooks = { progress, signal: stop.signal, exclusively, isVetted: true, onMethod, deadly };
    const beside = companion === undefined ? undefined : await import(companion);
    await deliver({ collected: await runPair(options, seed, hooks, beside?.companion) });
  } catch (cause) {
    const { code, who } = (cause ?? {}) as { code?: unknown; who?: unknown };
    const message = cause instanceof Error ? cause.message : String(cause);
    await deliver({ error: { message, code, who } });
  }
  process.disconnect?.();
}

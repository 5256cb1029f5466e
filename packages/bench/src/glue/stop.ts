/** @file Stopping a run: on Ctrl-C once after the step in progress, on a second one at once. */
import { BenchError } from "../errors.js";

export interface StopRequest {
  readonly signal: AbortSignal;
  /** What the shell expects of a process that this signal ended; `undefined` while none came. */
  readonly exitCode: () => number | undefined;
  release(): void;
}

const codes = { SIGINT: 130, SIGTERM: 143 } as const;
type StopSignal = keyof typeof codes;

/** Signals that come this close together are one: a terminal and the programs that started this one all pass it on. */
const ONE_KEY_MS = 700;

/** Listens for Ctrl-C until released. */
export function listenForStop(log: (line: string) => void): StopRequest {
  const controller = new AbortController();
  let exitCode: number | undefined;
  let first = 0;
  const listeners = (Object.keys(codes) as StopSignal[]).map((name) => {
    const listener = () => {
      if (exitCode === undefined) {
        exitCode = codes[name];
        first = Date.now();
        log("Stopping after the step in progress; press Ctrl-C again to stop at once.");
        controller.abort();
      } else if (Date.now() - first > ONE_KEY_MS) process.exit(exitCode);
    };
    process.on(name, listener);
    return () => process.off(name, listener);
  });
  return {
    signal: controller.signal,
    exitCode: () => exitCode,
    release: () => {
      for (const remove of listeners) remove();
    },
  };
}

/**
 * Runs something that Ctrl-C may stop, and returns its exit code: its own, or after a stop the shell's, with `stopped` printed.
 * @throws what it throws for another reason
 */
export async function untilStopped(
  run: (signal: AbortSignal) => Promise<number>,
  stopped = "",
): Promise<number> {
  const stop = listenForStop((line) => process.stderr.write(`\n${line}\n`));
  try {
    return await run(stop.signal);
  } catch (cause) {
    const code = stop.exitCode();
    if (code === undefined || !isStop(cause)) throw cause;
    process.stderr.write(stopped);
    return code;
  } finally {
    stop.release();
  }
}

/** @throws BenchError `STOPPED` when a stop was asked for */
export function checkStop(signal: AbortSignal | undefined): void {
  if (signal?.aborted)
    throw new BenchError("STOPPED", "bench", "was stopped; what is finished is kept.");
}

/**
 * As {@link checkStop}, after a moment in which a signal is heard: work that never waits would not notice one.
 * @throws BenchError `STOPPED`
 */
export async function pauseForStop(signal: AbortSignal | undefined): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  checkStop(signal);
}

/** Whether an error says that somebody asked for a stop. */
export function isStop(cause: unknown): boolean {
  const { code, name } = (cause ?? {}) as { code?: unknown; name?: unknown };
  return code === "STOPPED" || code === "ABORTED" || name === "AbortError";
}
